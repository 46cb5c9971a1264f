"""Runs detectors on a subject and turns their evidence into findings: the one place that judges.

Each detector is judged against its own null at the false-alarm rate divided by the number of
detectors in the plan (Bonferroni; those that are rules and no tests are not counted), so the rate
that the user states holds for the whole audit.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from gifthorse.core.deadline import Deadline
from gifthorse.core.errors import (
    DataError,
    GifthorseError,
    NotApplicableError,
    OutOfTimeError,
)
from gifthorse.core.exhibits import BarsExhibit, Exhibit, HistogramExhibit, TextsExhibit
from gifthorse.core.language import LanguageSubject
from gifthorse.core.protocols import Detector
from gifthorse.core.record import (
    CostRecord,
    EvidenceRecord,
    FindingRecord,
    PlanRecord,
    SpecRecord,
    ThresholdRecord,
)
from gifthorse.core.registry import build, parse_spec, spec_of
from gifthorse.core.rng import child_rng
from gifthorse.core.texts import TextSubject
from gifthorse.core.types import (
    Cost,
    Evidence,
    Null,
    Progress,
    ScoreArray,
    Subject,
    Threshold,
    Unit,
    Verdict,
)
from gifthorse.models.passes import Metered, metered
from gifthorse.provenance.files.issues import shown

_LOWEST_P = 1e-300

AnySubject = Subject | LanguageSubject | TextSubject


class KnownNulls(Protocol):
    """A reference bank, as far as judging goes."""

    def null(self, spec: SpecRecord) -> Null | None:
        """The null of a detector with exactly these options, or None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What will be done.

    Attributes:
        detectors: In this order.
        false_alarm_rate: How often a clean subject may be flagged by the whole audit, in (0, 1).
        seed: Of all randomness.
        kind: Of the plugins: ``detectors``, ``text_detectors`` or ``language_detectors``.
        banks: Reference banks that fit the subject: what they know of a detector with the same
            options is its null, in place of its own.
    """

    detectors: tuple[Any, ...]
    false_alarm_rate: float
    seed: int = 0
    kind: str = "detectors"
    banks: tuple["KnownNulls", ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.false_alarm_rate < 1:
            raise DataError(f"the false-alarm rate must be in (0, 1), got {self.false_alarm_rate}")
        if not self.detectors:
            raise DataError("the plan names no detector")

    def record(self) -> PlanRecord:
        """The plan as records hold it."""
        return PlanRecord(
            detectors=tuple(spec_record(self.kind, d) for d in self.detectors),
            false_alarm_rate=self.false_alarm_rate,
            seed=self.seed,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """Findings for people, and the evidence behind them for repairs and benches."""

    findings: tuple[FindingRecord, ...]
    evidence: tuple[Evidence, ...]
    verdict: Verdict
    score: float | None
    reason: str
    cost: Cost


def plugins(kind: str, specs: Sequence[str]) -> tuple[Any, ...]:
    """Instances of what a user wrote: ``name`` or ``name:option=value,…``."""
    return tuple(build(kind, parse_spec(text)) for text in specs)


def spec_record(kind: str, plugin: Any) -> SpecRecord:
    """A plugin with all its options, for a record."""
    spec = spec_of(kind, plugin)
    return SpecRecord(name=spec.name, params=dict(spec.params))


def cost_record(cost: Cost) -> CostRecord:
    """A cost, for a record."""
    return CostRecord(
        seconds=round(cost.seconds, 3),
        forward_passes=cost.forward_passes,
        backward_passes=cost.backward_passes,
        peak_memory_mib=round(cost.peak_memory_mib, 1),
        processor_seconds=round(cost.processor_seconds, 3),
    )


def examine(
    subject: AnySubject,
    plan: Plan,
    *,
    progress: Progress,
    deadline: Deadline | None = None,
) -> Examination:
    """Run the plan. A detector that fails or does not apply is recorded, never dropped.

    After ``deadline`` nothing goes on: what was not finished is recorded as not checked, and the
    whole is INCONCLUSIVE unless something was flagged before. A language subject has its own.
    """
    time = deadline or Deadline()
    tests = max(1, sum(not _is_rule(detector) for detector in plan.detectors))
    share = plan.false_alarm_rate / tests
    findings, evidence, total = [], [], Cost()
    for detector in plan.detectors:
        finding, seen, cost = _one(subject, detector, share, plan, progress, time)
        findings.append(finding)
        total = total + cost
        if seen is not None:
            evidence.append(seen)
    verdict, reason = _overall(findings)
    p_values = [f.evidence.p_value for f in findings if f.evidence is not None]
    score = None
    if p_values:
        family_wise = max(_LOWEST_P, min(1.0, min(p_values) * tests))
        score = round(-math.log10(family_wise), 4) + 0.0
    return Examination(
        findings=tuple(findings),
        evidence=tuple(evidence),
        verdict=verdict,
        score=score,
        reason=reason,
        cost=total,
    )


def _is_rule(detector: Any) -> bool:
    """Whether a detector counts broken rules: it has no rate, and takes no part of the stated one.

    See docs/decisions/0038.
    """
    return bool(getattr(detector, "rule", False))


def _one(
    subject: AnySubject,
    detector: Any,
    rate: float,
    plan: Plan,
    progress: Progress,
    deadline: Deadline,
) -> tuple[FindingRecord, Evidence | None, Cost]:
    spec = spec_record(plan.kind, detector)
    missing = sorted(need.value for need in detector.needs - subject.offers)
    if missing:
        reason = f"needs {', '.join(missing)}, which was not given"
        return _without(spec, detector, Verdict.NOT_APPLICABLE, reason, Cost()), None, Cost()
    if deadline.left <= 0:
        reason = "not checked: the time budget ended before it began"
        return _without(spec, detector, Verdict.INCONCLUSIVE, reason, Cost()), None, Cost()
    models: list[Metered] = [subject.model] if isinstance(subject.model, Metered) else []
    rng = child_rng(plan.seed, "detector", spec.name)
    seen: Evidence | None = None
    verdict, reason = Verdict.FAILED, ""
    with metered(*models, deadline=deadline) as bill:
        try:
            seen = detector.inspect(
                subject.granting(detector.needs), rng=rng, progress=deadline.watching(progress)
            )
        except OutOfTimeError as error:
            verdict, reason = Verdict.INCONCLUSIVE, f"not checked: {error}"
        except NotApplicableError as error:
            verdict, reason = Verdict.NOT_APPLICABLE, str(error)
        except GifthorseError as error:
            reason = str(error)
        # A third-party detector can fail in any way; the others must still be heard.
        except Exception as error:  # noqa: BLE001
            reason = f"{type(error).__name__}: {error}"
    if seen is None:
        return _without(spec, detector, verdict, reason, bill.cost), None, bill.cost
    cost = bill.cost + seen.own
    try:
        null = _null(detector, seen, spec, plan)
    except NotApplicableError as error:
        reason = f"statistic {seen.statistic:.2f}, which cannot be judged: {error}"
        return _without(spec, detector, Verdict.INCONCLUSIVE, reason, cost), None, cost
    threshold, p_value = null.threshold(rate), null.p_value(seen.statistic)
    flagged = seen.statistic > threshold.value
    verdict = Verdict.FLAGGED if flagged else Verdict.CLEAR
    reason = _reason(subject, seen, threshold, p_value, flagged=flagged)
    if seen.unfinished and not flagged:
        verdict, reason = Verdict.INCONCLUSIVE, seen.unfinished
    finding = FindingRecord(
        detector=spec,
        paper=detector.paper,
        verdict=verdict,
        reason=reason,
        evidence=_evidence_record(subject, seen, threshold, p_value),
        threshold=ThresholdRecord(
            value=threshold.value,
            false_alarm_rate=threshold.false_alarm_rate,
            origin=threshold.origin,
        ),
        cost=cost_record(cost),
    )
    return finding, seen, cost


def _null(detector: Any, seen: Evidence, spec: SpecRecord, plan: Plan) -> Null:
    """What a bank knows of this detector, or else the detector's own null."""
    known = [null for bank in plan.banks if (null := bank.null(spec)) is not None]
    if known:
        return known[0]
    own: Null = detector.null(seen)
    return own


def _without(
    spec: SpecRecord, detector: Detector, verdict: Verdict, reason: str, cost: Cost
) -> FindingRecord:
    return FindingRecord(
        detector=spec,
        paper=detector.paper,
        verdict=verdict,
        reason=reason,
        cost=cost_record(cost),
    )


def _unit_names(subject: AnySubject, evidence: Evidence) -> tuple[str, ...]:
    if evidence.unit is not Unit.CLASS or not isinstance(subject, Subject):
        return ()
    holder = subject.model if subject.model is not None else subject.suspect
    if holder is None:
        return ()
    return holder.class_names


def _reason(
    subject: AnySubject,
    seen: Evidence,
    threshold: Threshold,
    p_value: float,
    *,
    flagged: bool,
) -> str:
    judged = (
        f"statistic {seen.statistic:.2f} {'exceeds' if flagged else 'stays below'} the threshold "
        f"{threshold.value:.2f} (p = {p_value:.2g})"
    )
    if not flagged:
        return judged
    if seen.unit is Unit.CLASS and len(seen.suspects):
        names = _unit_names(subject, seen)
        named = ", ".join(f"{names[i]!r}" for i in seen.suspects[:3])
        return f"points to class {named}: {judged}"
    if seen.unit is Unit.SAMPLE:
        return f"points to {len(seen.suspects)} of {len(seen.scores)} samples: {judged}"
    listing = next((e for e in seen.exhibits if isinstance(e, TextsExhibit)), None)
    if seen.unit is Unit.TEXT and listing is not None and listing.passages:
        return f"points to the text {shown(listing.passages[0].text)}: {judged}"
    return judged


def _evidence_record(
    subject: AnySubject, seen: Evidence, threshold: Threshold, p_value: float
) -> EvidenceRecord:
    return EvidenceRecord(
        unit=seen.unit,
        unit_names=_unit_names(subject, seen),
        scores=tuple(significant(seen.scores).tolist()),
        statistic=seen.statistic,
        p_value=p_value,
        suspects=tuple(int(i) for i in seen.suspects),
        exhibits=tuple(_with_threshold(e, threshold.value) for e in seen.exhibits),
        notes=seen.notes,
    )


def significant(values: ScoreArray, digits: int = 6) -> ScoreArray:
    """Finite numbers rounded to so many significant digits, any shape."""
    sizes = np.abs(values)
    powers = np.floor(np.log10(np.where(sizes > 0, sizes, 1.0)))
    # A power of ten is exact up to 10²², so divide or multiply by that and not by its inverse.
    down, up = np.clip(powers - digits + 1, 0, 300), np.clip(digits - 1 - powers, 0, 300)
    return np.asarray(np.round(values / 10.0**down * 10.0**up) / 10.0**up * 10.0**down)


def _with_threshold(exhibit: Exhibit, value: float) -> Exhibit:
    """Draw the threshold into class plots that show the judged statistic."""
    if isinstance(exhibit, BarsExhibit | HistogramExhibit) and exhibit.judged:
        return exhibit.model_copy(update={"threshold": value})
    return exhibit


def _overall(findings: Sequence[FindingRecord]) -> tuple[Verdict, str]:
    by: dict[Verdict, list[FindingRecord]] = {verdict: [] for verdict in Verdict}
    for finding in findings:
        by[finding.verdict].append(finding)
    if by[Verdict.FLAGGED]:
        worst = min(by[Verdict.FLAGGED], key=lambda f: f.evidence.p_value if f.evidence else 1.0)
        return Verdict.FLAGGED, f"{worst.detector.name} {worst.reason}"
    for verdict in (Verdict.FAILED, Verdict.INCONCLUSIVE):
        if by[verdict]:
            broken = by[verdict][0]
            return Verdict.INCONCLUSIVE, f"{broken.detector.name}: {broken.reason}"
    if by[Verdict.CLEAR]:
        heard = ", ".join(f.detector.name for f in by[Verdict.CLEAR])
        return Verdict.CLEAR, f"nothing above the threshold in: {heard}"
    first = findings[0]
    return Verdict.INCONCLUSIVE, f"no detector applied; {first.detector.name}: {first.reason}"
