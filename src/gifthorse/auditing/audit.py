"""Audits a model: `gifthorse audit`."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gifthorse.auditing.banks import Bank, fitting, read_bank, shipped_banks
from gifthorse.auditing.examine import (
    Examination,
    Plan,
    cost_record,
    examine,
    plugins,
    spec_record,
)
from gifthorse.auditing.files import check_files, not_loaded, with_files
from gifthorse.auditing.subjects import Classifiers, Held, Pictures, data_record, hold, model_record
from gifthorse.core.deadline import Deadline
from gifthorse.core.errors import OutOfTimeError
from gifthorse.core.record import AuditRecord, Rate
from gifthorse.core.types import ImageData, Progress, Subject, Verdict, silent
from gifthorse.metrics.rates import agreement
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.passes import metered, predict

DEFAULT_DETECTORS = ("universality",)
"""Detectors with a null of their own."""
BANKED_DETECTORS = ("untargeted",)
"""Part of the audit where a reference bank fits the model."""
COMBINED_DETECTORS = ("chorus",)
"""In place of all of those where a reference bank knows it: one statistic at the full rate."""
Further = Callable[[Held, Plan, AuditRecord], AuditRecord]
"""From a model, the plan it was examined by and the record to a fuller record."""
DEFAULT_SAMPLES = 200
DEFAULT_FALSE_ALARM_RATE = 0.02
UNRELIABLE_ACCURACY = 0.5
"""A model that is certainly worse than this on the trusted pictures was given the wrong ones."""


def audit(
    model: Classifiers,
    *,
    trusted: Pictures | None = None,
    detectors: Sequence[str] | None = None,
    banks: Sequence[str | Path] | None = None,
    false_alarm_rate: float = DEFAULT_FALSE_ALARM_RATE,
    samples: int = DEFAULT_SAMPLES,
    budget: float | None = None,
    further: Further | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> AuditRecord:
    """Ask whether an image classifier is backdoored, and whether its files can run code.

    The files are examined first, without opening any; if one is flagged, nothing is loaded.

    Args:
        model: A model directory in the Hugging Face layout, ``hub:OWNER/NAME``, or an
            ``ImageClassifier`` around any torch module.
        trusted: Some pictures (100 are enough) that you know are clean, with labels: a data set
            name or path, an ``ImageData``, or arrays.
        detectors: Plugin names, with options as ``name:option=value,…``. None for
            ``COMBINED_DETECTORS`` if a bank can judge it; else ``DEFAULT_DETECTORS``, and those of
            ``BANKED_DETECTORS`` that a bank can judge.
        banks: Reference bank files (``gifthorse calibrate``); None for those that are shipped.
        false_alarm_rate: How often a clean model may be flagged, in (0, 1).
        samples: Use at most so many trusted pictures.
        budget: Seconds that all of it may take; None for as long as it needs. Work stops at the
            next forward pass after that. What was not finished makes the verdict INCONCLUSIVE,
            never CLEAR, and the record says what that is.
        further: Adds to the record of a model that was loaded; see ``gifthorse.bench.power``.
        seed: Of all randomness.
        progress: Called during long work.

    Returns:
        The record; ``verdict`` and ``score`` are at its top level.

    Raises:
        ModelError, DataError, SpecError: The input does not fit; nothing was examined.
    """
    deadline = Deadline() if budget is None else Deadline.after(budget)
    names = DEFAULT_DETECTORS if detectors is None else detectors
    plan = Plan(detectors=plugins("detectors", names), false_alarm_rate=false_alarm_rate, seed=seed)
    known = shipped_banks() if banks is None else tuple(read_bank(Path(path)) for path in banks)
    files = check_files(model, progress=progress)
    if files is not None and files.verdict is Verdict.FLAGGED:
        return not_loaded(model, files, plan)
    held = hold(model, trusted, samples=samples, seed=seed)
    held, plan = with_banks(held, plan, known, extend=detectors is None)
    record, _ = audit_held(held, plan, deadline=deadline, progress=progress)
    if further is not None:
        record = further(held, plan, record)
    return record if files is None else with_files(record, files)


def with_banks(held: Held, plan: Plan, known: Sequence[Bank], *, extend: bool) -> tuple[Held, Plan]:
    """The plan with the banks that fit, and notes about those that do not.

    Args:
        held: The model with its trusted pictures.
        plan: Detectors with nulls of their own.
        known: Banks at hand.
        extend: Choose detectors by what these banks can judge: ``COMBINED_DETECTORS`` alone, or
            ``BANKED_DETECTORS`` besides those of the plan.
    """
    fit, notes = fitting(known, held)
    chosen, left_out = list(plan.detectors), []
    combined = _judgeable(COMBINED_DETECTORS, fit) if extend else ()
    if combined:
        chosen = list(combined)
    elif extend:
        chosen += _judgeable(BANKED_DETECTORS, fit)
        names = {spec_record("detectors", one).name for one in chosen}
        left_out = [name for name in BANKED_DETECTORS if name not in names]
    said = list(notes) if left_out else []
    said += [
        f"not checked by {name}, which sees backdoors that move every class to another one: no "
        "reference bank fits this model, and gifthorse calibrate makes one"
        for name in left_out
    ]
    return (
        replace(held, notes=(*held.notes, *said)),
        replace(plan, detectors=tuple(chosen), banks=fit),
    )


def _judgeable(names: Sequence[str], banks: Sequence[Bank]) -> tuple[Any, ...]:
    """Those detectors, as they are shipped, that one of the banks knows."""
    return tuple(
        detector
        for detector in plugins("detectors", names)
        if any(bank.null(spec_record("detectors", detector)) is not None for bank in banks)
    )


def audit_held(
    held: Held, plan: Plan, *, deadline: Deadline | None = None, progress: Progress = silent
) -> tuple[AuditRecord, Examination]:
    """The audit of a model that is already open; also returns the evidence for a repair."""
    subject = Subject(model=held.classifier, trusted=held.trusted)
    result = examine(subject, plan, progress=progress, deadline=deadline)
    verdict, reason, notes = result.verdict, result.reason, list(held.notes)
    if held.trusted is not None:
        right = _named_right(held.classifier, held.trusted, deadline)
        if right is None:
            notes.append("not checked: whether the model names the trusted pictures right")
            reasons = "there was no time to see whether the trusted pictures fit the model"
        else:
            notes.append(f"the model names {right.count} of {right.total} trusted pictures right")
            reasons = (
                f"the model names only {right.count} of {right.total} trusted pictures right, so "
                "they are the wrong pictures, or their labels or the preprocessing differ"
            )
        doubtful = right is None or right.high < UNRELIABLE_ACCURACY
        if doubtful and verdict is not Verdict.FLAGGED:
            if right is not None or verdict is Verdict.CLEAR:
                reason = reasons
            verdict = Verdict.INCONCLUSIVE
    record = AuditRecord(
        kind="audit",
        verdict=verdict,
        score=result.score,
        reason=reason,
        subject=model_record(held.classifier),
        trusted=data_record(held.trusted) if held.trusted is not None else None,
        plan=plan.record(),
        findings=result.findings,
        notes=tuple(notes),
        cost=cost_record(result.cost),
    )
    return record, result


def _named_right(
    classifier: ImageClassifier, trusted: ImageData, deadline: Deadline | None
) -> Rate | None:
    """How many trusted pictures the model puts in their class; None if there was no time."""
    with metered(classifier, deadline=deadline):
        try:
            return agreement(predict(classifier, trusted), trusted.labels)
        except OutOfTimeError:
            return None
