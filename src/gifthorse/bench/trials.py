"""Runs one trial: the only place where what a defence said meets what was planted."""

import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from dataclasses import fields as fields_of
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gifthorse.auditing.examine import Plan, cost_record, examine
from gifthorse.auditing.mend import mend
from gifthorse.bench.showing import sample_figures, subject_of, target_rank
from gifthorse.bench.study import Trial
from gifthorse.bench.trial_record import (
    Circumstances,
    Detection,
    Interval,
    Quality,
    Repaired,
    Status,
    TrialRecord,
)
from gifthorse.bench.workshop import Made, Pictures, made, pictures
from gifthorse.core.errors import IncompleteError, LedgerError
from gifthorse.core.exhibits import Exhibit
from gifthorse.core.record import CostRecord, SpecRecord
from gifthorse.core.registry import Spec, build, plugin_class
from gifthorse.core.types import (
    Evidence,
    Progress,
    RecoveredTrigger,
    Verdict,
    silent,
)
from gifthorse.data.images import digest
from gifthorse.metrics.rates import (
    agreement,
    defence_effectiveness,
    defence_effectiveness_bounds,
)
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.passes import predict

_MOST_TRIGGERS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A record without its arrays' digest, and the arrays that the ledger shall keep."""

    record: TrialRecord
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a trial runs.

    Attributes:
        root: Of the ledger: planted models lie there, and results that this trial builds on.
        cpus: Torch threads.
        device: ``cpu`` or ``cuda``.
        engine: For the record.
    """

    root: Path
    cpus: int = 1
    device: str = "cpu"
    engine: str = "in-process"


Work = Callable[[Trial, Place, Progress], Outcome]
"""What a runner calls; ``run_trial`` outside of tests."""


@dataclass(slots=True, kw_only=True)
class _Result:
    """What a role contributes to the record."""

    quality: Quality | None = None
    detection: Detection | None = None
    repaired: Repaired | None = None
    exhibits: tuple[Exhibit, ...] = ()
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    cost: CostRecord | None = None
    reason: str = ""


def run_trial(trial: Trial, place: Place, progress: Progress = silent) -> Outcome:
    """Run one trial. Whatever a plugin does wrong is recorded, never raised.

    Raises:
        LedgerError: The ledger cannot keep the planted model.
    """
    start, busy = time.perf_counter(), time.process_time()
    status: Status = "done"
    reason, result, digests = "", _Result(), {}
    poisoned, classes = None, None
    try:
        with _threads(place.cpus):
            shared = pictures(trial.data, trial.seed)
            held = made(
                trial, shared, place.root / "models", device=place.device, progress=progress
            )
            digests = {"model": held.classifier.digest(), "measured": digest(shared.measured)}
            classes = len(shared.training.class_names)
            poisoned = int(held.truth.poisoned.sum()) if held.truth is not None else 0
            result = _ROLES[trial.role](trial, shared, held, place, progress)
            if result.reason:
                status, reason = "no_result", result.reason
    except LedgerError:
        raise
    except IncompleteError as error:
        status, reason = "no_result", str(error)
    # A plugin can fail in any way; the other trials of the study must still be run.
    except Exception as error:  # noqa: BLE001
        status, reason = "failed", f"{type(error).__name__}: {error}"
    seconds = round(time.perf_counter() - start, 3)
    spent = round(time.process_time() - busy, 3)
    cost = result.cost or CostRecord(
        seconds=seconds,
        forward_passes=0,
        backward_passes=0,
        peak_memory_mib=0,
        processor_seconds=spent,
    )
    record = TrialRecord(
        id=trial.id,
        trial=trial,
        label=label(trial),
        status=status,
        reason=reason,
        digests=digests,
        quality=result.quality,
        detection=result.detection,
        repaired=result.repaired,
        classes=classes,
        poisoned_samples=poisoned,
        exhibits=result.exhibits,
        notes=result.notes,
        circumstances=Circumstances(
            engine=place.engine,
            device=place.device,
            python=platform.python_version(),
            cost=cost,
        ),
    )
    return Outcome(record=record, arrays=result.arrays)


def label(trial: Trial) -> tuple[str, str]:
    """Attack and defence for people: the name, and the options that differ from the defaults."""
    attack = _short("attacks", trial.attack) if trial.attack else "clean twin"
    if trial.defence is None:
        return attack, "none"
    kind = "detectors" if trial.role == "detector" else "repairs"
    return attack, _short(kind, trial.defence)


def _short(kind: str, spec: SpecRecord) -> str:
    usual = {f.name: f.default for f in fields_of(plugin_class(kind, spec.name))}
    changed = [f"{k}={v}" for k, v in spec.params.items() if usual.get(k) != v]
    return f"{spec.name} ({', '.join(changed)})" if changed else spec.name


def _measure(model: ImageClassifier, shared: Pictures, held: Made) -> Quality:
    ca = agreement(predict(model, shared.measured), shared.measured.labels)
    if held.wanted is None or held.true is None:
        return Quality(clean_accuracy=ca)
    answers = predict(model, held.wanted)
    return Quality(
        clean_accuracy=ca,
        attack_success_rate=agreement(answers, held.wanted.labels),
        robust_accuracy=agreement(answers, held.true.labels),
    )


def _bare(trial: Trial, shared: Pictures, held: Made, place: Place, progress: Progress) -> _Result:
    """The model as it is, and what its triggers do to the clean twin."""
    quality = _measure(held.classifier, shared, held)
    if held.wanted is not None:
        clean = trial.model_copy(update={"attack": None})
        twin = made(clean, shared, place.root / "models", device=place.device, progress=progress)
        background = agreement(predict(twin.classifier, held.wanted), held.wanted.labels)
        quality = quality.model_copy(update={"background": background})
    return _Result(quality=quality, exhibits=held.exhibits, cost=held.cost)


def _detector(
    trial: Trial,
    shared: Pictures,
    held: Made,
    place: Place,  # noqa: ARG001 - all roles are called alike
    progress: Progress,
) -> _Result:
    assert trial.defence is not None  # noqa: S101 - detectors have a spec
    detector = build("detectors", Spec(trial.defence.name, trial.defence.params))
    subject, positive = subject_of(trial, shared, held, progress)
    plan = Plan(detectors=(detector,), false_alarm_rate=trial.false_alarm_rate, seed=trial.seed)
    result = examine(subject, plan, progress=progress)
    (finding,) = result.findings
    if finding.verdict is Verdict.FAILED:
        raise RuntimeError(finding.reason)
    if finding.evidence is None or finding.threshold is None:
        return _Result(reason=finding.reason, cost=cost_record(result.cost))
    (seen,) = result.evidence
    detection = Detection(
        unit=seen.unit,
        verdict=finding.verdict,
        reason=finding.reason,
        statistic=seen.statistic,
        p_value=finding.evidence.p_value,
        threshold=finding.threshold.value,
        false_alarm_rate=finding.threshold.false_alarm_rate,
        target_rank=target_rank(seen, held),
        **sample_figures(seen, positive, trial.seed),
    )
    arrays = {**_evidence_arrays(seen), "positive": positive}
    return _Result(
        detection=detection,
        exhibits=finding.evidence.exhibits,
        arrays=arrays,
        notes=finding.evidence.notes,
        cost=cost_record(result.cost),
    )


def _evidence_arrays(seen: Evidence) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {"scores": seen.scores, "suspects": seen.suspects}
    for i, trigger in enumerate(seen.triggers[:_MOST_TRIGGERS]):
        arrays[f"trigger.{i}.target"] = np.array([trigger.target], dtype=np.int64)
        arrays[f"trigger.{i}.mask"] = trigger.mask
        arrays[f"trigger.{i}.pattern"] = trigger.pattern
        if trigger.offset is not None:
            arrays[f"trigger.{i}.offset"] = trigger.offset
    return arrays


def _repair(
    trial: Trial, shared: Pictures, held: Made, place: Place, progress: Progress
) -> _Result:
    assert trial.defence is not None  # noqa: S101 - repairs have a spec
    repair = build("repairs", Spec(trial.defence.name, trial.defence.params))
    evidence, notes = _evidence(trial, place)
    before = _measure(held.classifier, shared, held)
    # Every drop is allowed here, because a bench wants to know what a refused repair would do;
    # whether it would have been refused is decided below, by the same rule as in `mend`.
    mended, record = mend(
        held.classifier,
        shared.trusted,
        repair,
        evidence,
        allowed_drop=1.0,
        seed=trial.seed,
        progress=progress,
    )
    assert mended is not None  # noqa: S101 - accepted at any price
    after = _measure(mended, shared, held)
    fell = record.accuracy_before.count - record.accuracy_after.count
    accepted = fell <= trial.allowed_drop * record.accuracy_before.total + 1e-9
    return _Result(
        quality=after,
        repaired=Repaired(
            accepted=accepted,
            reason=f"held-back accuracy {record.accuracy_before.value:.1%} → "
            f"{record.accuracy_after.value:.1%}; allowed drop {100 * trial.allowed_drop:g} points",
            before=before,
            defence_effectiveness=_effectiveness(before, after),
        ),
        notes=(*notes, *record.notes),
        cost=record.cost,
    )


def _evidence(trial: Trial, place: Place) -> tuple[list[Evidence], tuple[str, ...]]:
    """The finding that the repair may act on: a flagged one, as in `gifthorse repair`."""
    from gifthorse.bench.ledger import Ledger

    if trial.evidence is None:
        return [], ()
    ledger = Ledger.open(place.root)
    found = ledger.read(trial.after()[-1].id)
    if found is None or found.detection is None or found.arrays is None:
        return [], (f"{trial.evidence.name} came to no result",)
    if found.detection.verdict is not Verdict.FLAGGED:
        return [], (f"{trial.evidence.name} did not flag the model",)
    arrays = ledger.arrays(found.arrays)
    triggers = tuple(
        RecoveredTrigger(
            target=int(arrays[f"trigger.{i}.target"][0]),
            mask=arrays[f"trigger.{i}.mask"],
            pattern=arrays[f"trigger.{i}.pattern"],
            offset=arrays.get(f"trigger.{i}.offset"),
        )
        for i in range(_MOST_TRIGGERS)
        if f"trigger.{i}.mask" in arrays
    )
    seen = Evidence(
        unit=found.detection.unit,
        scores=arrays["scores"],
        statistic=found.detection.statistic,
        suspects=arrays["suspects"],
        triggers=triggers,
    )
    return [seen], (f"acts on the finding of {trial.evidence.name}",)


def _effectiveness(before: Quality, after: Quality) -> Interval | None:
    asr = before.attack_success_rate, after.attack_success_rate
    if asr[0] is None or asr[1] is None:
        return None
    ca = before.clean_accuracy, after.clean_accuracy
    value = defence_effectiveness(
        ca_before=ca[0].value,
        ca_after=ca[1].value,
        asr_before=asr[0].value,
        asr_after=asr[1].value,
    )
    low, high = defence_effectiveness_bounds(
        ca_before=ca[0], ca_after=ca[1], asr_before=asr[0], asr_after=asr[1]
    )
    return Interval(value=value, low=low, high=high)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Sums depend on the number of threads: every engine uses the same."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


_ROLES = {"none": _bare, "detector": _detector, "repair": _repair}
