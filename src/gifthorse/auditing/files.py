"""The file scan as the first step of an audit: before anything is loaded.

A model whose files are flagged is not loaded at all. The loader reads nothing but safetensors, so
this is not what keeps code from running; but such a folder is not to be used whatever its weights
are, and no figure about them should suggest otherwise. The record lists the detectors as not run.
"""

import warnings
from pathlib import Path

from gifthorse.auditing.examine import Plan, spec_record
from gifthorse.auditing.subjects import Classifiers
from gifthorse.core.errors import ModelError
from gifthorse.core.record import (
    AuditRecord,
    CostRecord,
    FileRecord,
    FilesRecord,
    FindingRecord,
    IssueRecord,
)
from gifthorse.core.types import Progress, Verdict, silent
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.directories import model_directory
from gifthorse.provenance.files.audit import files_record
from gifthorse.provenance.files.scan import content_digest, overall, scan_files

_NO_COST = CostRecord(seconds=0, forward_passes=0, backward_passes=0, peak_memory_mib=0)


def check_files(model: Classifiers, *, progress: Progress = silent) -> FilesRecord | None:
    """What the file scan says of a model's folder or file; None for a model in memory.

    Raises:
        ModelError: There is no such model.
        DataError: The folder holds no file, or too many.
    """
    place = _place(model)
    if place is None:
        return None
    record = scan_files(place, progress=progress)
    files = [_asked_torch(place, file) for file in record.files]
    verdict, reason = overall(files, examined=record.examined)
    return record.model_copy(update={"files": tuple(files), "verdict": verdict, "reason": reason})


def _place(model: Classifiers) -> Path | None:
    if isinstance(model, ImageClassifier):
        return None
    if str(model).startswith("hub:"):
        return model_directory(model)
    if not Path(model).exists():
        raise ModelError(
            f"no such model: {model}; expected a directory with config.json and "
            "model.safetensors, or hub:OWNER/NAME to download one"
        )
    return Path(model)


def _asked_torch(place: Path, file: FileRecord) -> FileRecord:
    """Adds what torch's own static check says of a checkpoint that our scan did not flag.

    It lists what ``torch.load(weights_only=True)`` refuses. A name that our walk did not see at all
    means that one of the two misreads the file, so then nobody knows what it does.
    """
    if file.formats[:2] != ("zip", "pickle") or file.verdict is Verdict.FLAGGED:
        return file
    import torch

    path = place if place.is_file() else place / file.path
    # Another's parser on bytes from anywhere can fail in any way, and then it says nothing.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            refused = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # noqa: BLE001
        return file
    unseen = sorted(set(refused) - set(file.imports))
    issues = list(file.issues)
    if unseen:
        text = f"torch sees an import that our walk does not: {unseen[0]!r}"
        issues.append(IssueRecord(rule="third-opinion", verdict=Verdict.INCONCLUSIVE, text=text))
    elif refused:
        text = f"torch.load(weights_only=True) refuses {sorted(refused)[0]!r}"
        issues.append(IssueRecord(rule="third-opinion", verdict=Verdict.CLEAR, text=text))
    verdict = Verdict.INCONCLUSIVE if unseen else file.verdict
    return file.model_copy(update={"issues": tuple(issues), "verdict": verdict})


def with_files(record: AuditRecord, files: FilesRecord) -> AuditRecord:
    """An audit together with its file scan: the verdict is never better than that of the files."""
    changes: dict[str, object] = {"files": files}
    if files.verdict is not Verdict.CLEAR and record.verdict is Verdict.CLEAR:
        changes |= {"verdict": files.verdict, "reason": files.reason}
    return record.model_copy(update=changes)


def not_loaded(model: Classifiers, files: FilesRecord, plan: Plan) -> AuditRecord:
    """The record of an audit that ended with its files."""
    place = _place(model)
    record = files_record(str(model), files, digest=content_digest(place or Path()))
    reason = "not run: files are flagged, so nothing was loaded"
    findings = tuple(
        FindingRecord(
            detector=spec_record("detectors", detector),
            paper=detector.paper,
            verdict=Verdict.NOT_APPLICABLE,
            reason=reason,
            cost=_NO_COST,
        )
        for detector in plan.detectors
    )
    note = "files are examined first; because of what they hold nothing was loaded"
    changes = {"findings": findings, "plan": plan.record(), "notes": (note,)}
    return record.model_copy(update=changes)
