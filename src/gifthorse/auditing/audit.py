"""Audits a model: `gifthorse audit`."""

from collections.abc import Sequence

from gifthorse.auditing.examine import Examination, Plan, cost_record, examine, plugins
from gifthorse.auditing.files import check_files, not_loaded, with_files
from gifthorse.auditing.subjects import Classifiers, Held, Pictures, data_record, hold, model_record
from gifthorse.core.record import AuditRecord
from gifthorse.core.types import Progress, Subject, Verdict, silent
from gifthorse.metrics.rates import agreement
from gifthorse.models.passes import predict

DEFAULT_DETECTORS = ("universality",)
DEFAULT_SAMPLES = 200
DEFAULT_FALSE_ALARM_RATE = 0.02
UNRELIABLE_ACCURACY = 0.5
"""A model that is certainly worse than this on the trusted pictures was given the wrong ones."""


def audit(
    model: Classifiers,
    *,
    trusted: Pictures | None = None,
    detectors: Sequence[str] = DEFAULT_DETECTORS,
    false_alarm_rate: float = DEFAULT_FALSE_ALARM_RATE,
    samples: int = DEFAULT_SAMPLES,
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
        detectors: Plugin names, with options as ``name:option=value,…``.
        false_alarm_rate: How often a clean model may be flagged, in (0, 1).
        samples: Use at most so many trusted pictures.
        seed: Of all randomness.
        progress: Called during long work.

    Returns:
        The record; ``verdict`` and ``score`` are at its top level.

    Raises:
        ModelError, DataError, SpecError: The input does not fit; nothing was examined.
    """
    plan = Plan(
        detectors=plugins("detectors", detectors), false_alarm_rate=false_alarm_rate, seed=seed
    )
    files = check_files(model, progress=progress)
    if files is not None and files.verdict is Verdict.FLAGGED:
        return not_loaded(model, files, plan)
    held = hold(model, trusted, samples=samples, seed=seed)
    record, _ = audit_held(held, plan, progress=progress)
    return record if files is None else with_files(record, files)


def audit_held(
    held: Held, plan: Plan, *, progress: Progress = silent
) -> tuple[AuditRecord, Examination]:
    """The audit of a model that is already open; also returns the evidence for a repair."""
    subject = Subject(model=held.classifier, trusted=held.trusted)
    result = examine(subject, plan, progress=progress)
    verdict, reason, notes = result.verdict, result.reason, list(held.notes)
    if held.trusted is not None:
        right = agreement(predict(held.classifier, held.trusted), held.trusted.labels)
        notes.append(f"the model names {right.count} of {right.total} trusted pictures right")
        if right.high < UNRELIABLE_ACCURACY and verdict is not Verdict.FLAGGED:
            verdict = Verdict.INCONCLUSIVE
            reason = (
                f"the model names only {right.count} of {right.total} trusted pictures right, so "
                "they are the wrong pictures, or their labels or the preprocessing differ"
            )
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
