"""Repairs a model, and refuses to make it worse: `gifthorse repair`."""

from dataclasses import dataclass

from gifthorse.auditing.audit import (
    DEFAULT_DETECTORS,
    DEFAULT_FALSE_ALARM_RATE,
    DEFAULT_SAMPLES,
    audit_held,
    with_banks,
)
from gifthorse.auditing.banks import shipped_banks
from gifthorse.auditing.examine import Examination, Plan, plugins
from gifthorse.auditing.mend import mend
from gifthorse.auditing.subjects import Classifiers, Held, Pictures, hold
from gifthorse.core.errors import DataError
from gifthorse.core.record import AuditRecord, RepairRecord
from gifthorse.core.rng import child_rng
from gifthorse.core.types import Evidence, Need, Progress, Verdict, silent
from gifthorse.data.splits import stratified_sample
from gifthorse.models.classifier import ImageClassifier

DEFAULT_REPAIR = "unlearning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Repaired:
    """The repaired model (None if refused), the record, and the audit that came first, if any."""

    model: ImageClassifier | None
    record: RepairRecord
    audit: AuditRecord | None


def repair(
    model: Classifiers,
    *,
    trusted: Pictures,
    method: str = DEFAULT_REPAIR,
    allowed_drop: float = 0.02,
    false_alarm_rate: float = DEFAULT_FALSE_ALARM_RATE,
    seed: int = 0,
    progress: Progress = silent,
) -> Repaired:
    """Repair an image classifier with trusted pictures.

    A method that needs the triggers that an audit recovers (``unlearning``,
    ``distilled_unlearning``) gets them: the model is audited first, as ``audit`` does it. The
    other methods need no audit, and none is made.

    Args:
        model: A model directory, ``hub:OWNER/NAME`` or an ``ImageClassifier``.
        trusted: Pictures that you know are clean, with labels; half of them tune, the other half
            decide whether the repair is accepted. Some hundreds are better than one hundred.
        method: Plugin name, with options as ``name:option=value,…``.
        allowed_drop: Clean accuracy on the held-back half that may be lost, in [0, 1].
        false_alarm_rate: Of that audit.
        seed: Of all randomness.
        progress: Called during long work.

    Raises:
        NotApplicableError: The method needs triggers and the audit does not flag the model.
        ModelError, DataError, SpecError: The input does not fit.
    """
    if not 0 <= allowed_drop <= 1:
        raise DataError(f"the allowed drop must be in [0, 1], got {allowed_drop}")
    (plugin,) = plugins("repairs", [method])
    held = hold(model, trusted, samples=None, seed=seed)
    assert held.trusted is not None  # noqa: S101 - trusted pictures are required here
    audit, evidence = None, []
    if Need.TRIGGERS in plugin.needs:
        plan = Plan(
            detectors=plugins("detectors", DEFAULT_DETECTORS),
            false_alarm_rate=false_alarm_rate,
            seed=seed,
        )
        few = stratified_sample(held.trusted, DEFAULT_SAMPLES, child_rng(seed, "trusted"))
        probe = Held(classifier=held.classifier, trusted=few, notes=held.notes)
        probe, plan = with_banks(probe, plan, shipped_banks(), extend=True)
        audit, examination = audit_held(probe, plan, progress=progress)
        evidence = flagged_evidence(examination)
    mended, record = mend(
        held.classifier,
        held.trusted,
        plugin,
        evidence,
        allowed_drop=allowed_drop,
        seed=seed,
        progress=progress,
    )
    return Repaired(model=mended, record=record, audit=audit)


def flagged_evidence(examination: Examination) -> list[Evidence]:
    """The evidence behind flagged findings: a repair must not act on what is normal."""
    heard = [f for f in examination.findings if f.evidence is not None]
    return [
        seen
        for finding, seen in zip(heard, examination.evidence, strict=True)
        if finding.verdict is Verdict.FLAGGED
    ]
