"""The record of one trial: complete, versioned, written once.

Everything but ``circumstances`` follows from the specification: two ledgers of the same study
differ there alone.
"""

import datetime as dt
import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gifthorse.bench.study import Trial
from gifthorse.core.errors import RecordError
from gifthorse.core.exhibits import Exhibit
from gifthorse.core.record import CostRecord, Rate
from gifthorse.core.types import Unit, Verdict

SCHEMA_VERSION = 1
Status = Literal["done", "no_result", "failed"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Interval(_Frozen):
    """A value with an interval that holds it with at least 95 % confidence."""

    value: float
    low: float
    high: float


class Quality(_Frozen):
    """What a model does: clean accuracy, attack success and robust accuracy on test pictures.

    The last two are None for the clean twin. ``background`` is the success of the same triggers on
    the clean twin: what an attack must exceed to be one.
    """

    clean_accuracy: Rate
    attack_success_rate: Rate | None = None
    robust_accuracy: Rate | None = None
    background: Rate | None = None


class Detection(_Frozen):
    """What a detector said, and how well that agrees with the truth.

    ``target_rank`` is 1 if the planted class has the highest score, for detectors of classes.
    Sample figures are for detectors of data and inputs on a planted subject: ROC-AUC over all
    samples, and the rates at which its suspects are right and wrong.
    """

    unit: Unit
    verdict: Verdict
    reason: str
    statistic: float
    p_value: float
    threshold: float
    false_alarm_rate: float
    target_rank: int | None = None
    sample_auc: Interval | None = None
    true_positive_rate: Rate | None = None
    false_positive_rate: Rate | None = None


class Repaired(_Frozen):
    """What a repair came to. ``accepted``: whether held-back trusted pictures allowed it.

    A bench measures a refused repair all the same; a user would have kept the old model.
    """

    accepted: bool
    reason: str
    before: Quality
    defence_effectiveness: Interval | None


class Circumstances(_Frozen):
    """What may differ between two runs of the same trial."""

    created: str = Field(
        default_factory=lambda: dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    )
    engine: str = "in-process"
    device: str = "cpu"
    python: str = ""
    cost: CostRecord = CostRecord(seconds=0, forward_passes=0, backward_passes=0, peak_memory_mib=0)


class TrialRecord(_Frozen):
    """One trial.

    Attributes:
        schema_version: Of this record.
        kind: Always ``trial``.
        id: Digest of ``trial``.
        trial: The complete specification.
        label: Attack and defence for people: options that differ from the defaults.
        status: ``done``; ``no_result`` if the method says that it does not apply or left nothing
            to measure; ``failed`` if something broke.
        reason: Why there is no result.
        digests: Of the model and of the pictures that were used.
        quality: Of the planted, clean or repaired model.
        detection: Of a detector.
        repaired: Of a repair.
        classes: How many the data has.
        poisoned_samples: In the training data.
        exhibits: Pictures and plots.
        arrays: Digest of the safetensors file beside the record, or None.
        notes: Facts that a reader should know.
        circumstances: Time, cost and place.
    """

    schema_version: Literal[1] = 1
    kind: Literal["trial"] = "trial"
    id: str
    trial: Trial
    label: tuple[str, str]
    status: Status
    reason: str = ""
    digests: dict[str, str] = {}
    quality: Quality | None = None
    detection: Detection | None = None
    repaired: Repaired | None = None
    classes: int | None = None
    poisoned_samples: int | None = None
    exhibits: tuple[Exhibit, ...] = ()
    arrays: str | None = None
    notes: tuple[str, ...] = ()
    circumstances: Circumstances

    def result(self) -> dict[str, Any]:
        """Everything but the circumstances, as plain values."""
        return self.model_dump(mode="json", exclude={"circumstances"})


def parse_trial(text: str | bytes, where: str) -> TrialRecord:
    """A trial record from JSON.

    Raises:
        RecordError: Truncated, foreign, of an unknown version, or its id is not its digest.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{where} is not a trial: it is not JSON ({error})") from error
    found = data.get("schema_version") if isinstance(data, dict) else None
    if found != SCHEMA_VERSION:
        raise RecordError(
            f"{where} has schema_version {found!r}; this gifthorse reads {SCHEMA_VERSION}"
        )
    try:
        record = TrialRecord.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise RecordError(f"{where} is not a trial: {place}: {first['msg']}") from error
    if record.trial.id != record.id:
        raise RecordError(f"{where}: its id is not the digest of its specification; it was edited")
    return record


def trial_schema() -> dict[str, Any]:
    """The JSON schema of a trial record."""
    return TrialRecord.model_json_schema()
