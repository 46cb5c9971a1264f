"""Records: what crosses a process. Versioned, complete, and readable without torch.

The JSON schema of these models is kept in ``docs/formats/`` and checked by a test.
"""

import datetime as dt
import functools
import json
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from gifthorse.core.errors import RecordError
from gifthorse.core.exhibits import Exhibit
from gifthorse.core.types import Unit, Verdict

SCHEMA_VERSION = 1


def versions() -> dict[str, str]:
    """Versions of what can change a result."""
    found = {"python": platform.python_version()}
    for package in ("gifthorse", "torch", "transformers", "numpy", "scikit-learn", "scipy"):
        installed = _installed(package)
        if installed is not None:
            found[package] = installed
    return found


@functools.cache
def _installed(package: str) -> str | None:
    """Read once: it takes 5 ms a package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SpecRecord(_Frozen):
    """A plugin with all its options, defaults included."""

    name: str
    params: dict[str, bool | int | float | str | None]


class CostRecord(_Frozen):
    """Seconds of wall clock, images forward and backward, peak memory of the process in MiB.

    ``processor_seconds`` sums the threads of the process; 0 in records from before it was kept.
    """

    seconds: float
    forward_passes: int
    backward_passes: int
    peak_memory_mib: float
    processor_seconds: float = 0.0


class ThresholdRecord(_Frozen):
    """Where a statistic stops being normal, how often a clean subject exceeds it, and why."""

    value: float
    false_alarm_rate: float
    origin: str


class EvidenceRecord(_Frozen):
    """Scores (one a unit, higher is worse), the statistic that is judged, and exhibits.

    ``unit_names`` has one entry a score for classes; it is empty for samples, which are named by
    their index in the data set. ``suspects`` are the units that the method points to *if* the
    statistic exceeds its threshold, worst first.
    """

    unit: Unit
    unit_names: tuple[str, ...]
    scores: tuple[float, ...]
    statistic: float
    p_value: float
    suspects: tuple[int, ...]
    exhibits: tuple[Exhibit, ...]
    notes: tuple[str, ...]


class FindingRecord(_Frozen):
    """What one detector's evidence comes to."""

    detector: SpecRecord
    paper: str
    verdict: Verdict
    reason: str
    evidence: EvidenceRecord | None = None
    threshold: ThresholdRecord | None = None
    cost: CostRecord

    @model_validator(mode="after")
    def _judged_on_something(self) -> "FindingRecord":
        judged = self.verdict in (Verdict.FLAGGED, Verdict.CLEAR)
        if judged and (self.evidence is None or self.threshold is None):
            raise ValueError(f"{self.verdict} needs evidence and a threshold")
        return self


class SubjectRecord(_Frozen):
    """What was examined. ``digest`` is ``sha256:…`` over its content; facts are for people."""

    kind: Literal[
        "image classifier",
        "image data",
        "files",
        "text classifier",
        "text data",
        "instruction data",
        "language model",
        "prompts",
    ]
    name: str
    digest: str
    class_names: tuple[str, ...]
    facts: dict[str, str | int | float]


class IssueRecord(_Frozen):
    """One thing that the file scan saw.

    FLAGGED: it can run code, or hides something. INCONCLUSIVE: it is unknown, or could not be
    examined. CLEAR: worth knowing. ``member`` is the place within an archive, archives within
    archives joined by ``!/``; ``offset`` is in bytes, within the member where there is one.
    """

    rule: str
    verdict: Verdict
    text: str
    member: str = ""
    offset: int | None = None


class FileRecord(_Frozen):
    """What one file is: its path within the subject, formats (outermost first), size in bytes.

    ``imports`` is what opening it would import. Nothing of it was opened, imported or run.
    """

    path: str
    formats: tuple[str, ...]
    size: int
    verdict: Verdict
    imports: tuple[str, ...]
    issues: tuple[IssueRecord, ...]

    @model_validator(mode="after")
    def _judged_on_issues(self) -> "FileRecord":
        heavy = {issue.verdict for issue in self.issues} - {Verdict.CLEAR}
        if self.verdict is Verdict.CLEAR and heavy:
            raise ValueError("a file with issues is not CLEAR")
        return self


class FilesRecord(_Frozen):
    """The result of the file scan. ``files`` lists every file that is not CLEAR, worst first.

    CLEAR files follow as far as there is room; ``examined`` counts all of them, ``bytes`` their
    sizes. A rule decides here, not a statistic: there is no false-alarm rate.
    """

    verdict: Verdict
    reason: str
    examined: int
    bytes: int
    files: tuple[FileRecord, ...]
    notes: tuple[str, ...]
    seconds: float


class PlanRecord(_Frozen):
    """What was to be done: detectors in order, seed, and the false-alarm rate of the whole."""

    detectors: tuple[SpecRecord, ...]
    false_alarm_rate: float
    seed: int


class Rate(_Frozen):
    """A proportion with its 95 % Wilson interval; ``count`` successes among ``total``."""

    value: float
    low: float
    high: float
    count: int
    total: int


class MeasureRecord(_Frozen):
    """One more number about a model, beside the same number of another if there is one.

    ``value`` is in ``unit`` (``share`` in [0, 1], or ``nats``); ``rate`` holds its interval where
    it is a proportion. ``other`` is the number of what ``beside`` names ("before", "clean twin").
    """

    name: str
    unit: Literal["share", "nats"]
    value: float
    rate: Rate | None = None
    other: float | None = None
    other_rate: Rate | None = None
    beside: str = ""


class _Record(_Frozen):
    schema_version: Literal[1] = 1
    created: str = Field(default_factory=_now)
    versions: dict[str, str] = Field(default_factory=versions)


class AuditRecord(_Record):
    """The result of ``gifthorse audit`` (a model) or ``gifthorse scan`` (a data set).

    ``score`` is −log10 of the family-wise p-value: comparable between models of one kind, higher
    is worse; None when no detector came to a result. ``files`` is what the file scan saw; it is
    examined before anything is loaded, and the verdict is never better than its own.
    """

    kind: Literal["audit", "scan"]
    verdict: Verdict
    score: float | None
    reason: str
    subject: SubjectRecord
    trusted: SubjectRecord | None
    plan: PlanRecord
    findings: tuple[FindingRecord, ...]
    files: FilesRecord | None = None
    notes: tuple[str, ...]
    cost: CostRecord


class RepairRecord(_Record):
    """The result of ``gifthorse repair``. ``accepted`` is false if it cost too much.

    What is judged is accuracy on held-back trusted samples, and ``allowed_drop`` the points that
    may be lost; for language models clean loss, and the share by which it may rise. Their accuracy
    is the share of the answers' tokens that are the model's first choice.
    """

    kind: Literal["repair"] = "repair"
    accepted: bool
    reason: str
    repair: SpecRecord
    paper: str
    subject: SubjectRecord
    repaired_digest: str | None
    accuracy_before: Rate
    accuracy_after: Rate
    allowed_drop: float
    judged_by: Literal["accuracy", "loss"] = "accuracy"
    measures: tuple[MeasureRecord, ...] = ()
    notes: tuple[str, ...]
    cost: CostRecord


class PlantRecord(_Record):
    """The result of ``gifthorse plant``: what was planted and how well it works.

    Clean accuracy (CA), attack success rate (ASR) and robust accuracy (RA) are measured on test
    data; samples of the target class are left out of ASR and RA.
    """

    kind: Literal["plant"] = "plant"
    attack: SpecRecord
    paper: str
    mode: str
    target: str | None
    source: str | None
    subject: SubjectRecord
    training_samples: int
    poisoned_samples: int
    cover_samples: int
    clean_accuracy: Rate
    attack_success_rate: Rate
    robust_accuracy: Rate
    twin_clean_accuracy: Rate | None
    twin_attack_success_rate: Rate | None = None
    measures: tuple[MeasureRecord, ...] = ()
    exhibits: tuple[Exhibit, ...]
    notes: tuple[str, ...]
    cost: CostRecord


class StoryRecord(_Record):
    """Several records told as one story, in order, with a sentence between them."""

    kind: Literal["story"] = "story"
    title: str
    summary: str
    chapters: tuple["Chapter", ...]


class Chapter(_Frozen):
    """One step of a story."""

    title: str
    text: str
    record: "AuditRecord | RepairRecord | PlantRecord"


Record = Annotated[
    AuditRecord | RepairRecord | PlantRecord | StoryRecord, Field(discriminator="kind")
]
_ADAPTER: TypeAdapter[Any] = TypeAdapter(Record)


def read_record(path: Path) -> AuditRecord | RepairRecord | PlantRecord | StoryRecord:
    """Read a record file.

    Raises:
        RecordError: Missing, not JSON, or not a record of a known version.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecordError(f"cannot read the record {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path} is not a record: it is not JSON ({error})") from error
    found = data.get("schema_version") if isinstance(data, dict) else None
    if found != SCHEMA_VERSION:
        raise RecordError(
            f"{path} has schema_version {found!r}; this gifthorse reads {SCHEMA_VERSION}"
        )
    try:
        record = _ADAPTER.validate_python(data, strict=False)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise RecordError(f"{path} is not a record: {place}: {first['msg']}") from error
    assert isinstance(record, AuditRecord | RepairRecord | PlantRecord | StoryRecord)  # noqa: S101
    return record


def record_schema() -> dict[str, Any]:
    """The JSON schema of every record."""
    return _ADAPTER.json_schema()
