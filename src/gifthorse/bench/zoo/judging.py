"""Audits a zoo and says how good the audit is: `gifthorse bench judge`."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from gifthorse.auditing.audit import DEFAULT_FALSE_ALARM_RATE, audit
from gifthorse.bench.zoo.growing import Truth, read_zoo, trusted_pictures
from gifthorse.bench.zoo.population import Pictures
from gifthorse.core.errors import LedgerError, SpecError
from gifthorse.core.record import AuditRecord, Rate
from gifthorse.core.types import BoolArray, ImageData, Progress, ScoreArray, Verdict, silent
from gifthorse.metrics.rates import rate, roc_auc, roc_auc_interval

PLANTED_FROM = 0.8
"""A planted model whose attack succeeds less often than this does not count: it never took."""

SHIPPED = "shipped"
"""The audit as it comes: its detectors, and the banks that fit."""
_ROWS = "judged.jsonl"


class Judged(BaseModel):
    """What one plan of detectors said of one specimen.

    Attributes:
        specimen: Its directory.
        plan: Detectors, joined by ``+``; they share the false-alarm rate.
        settings: What else decides the result.
        verdict: Of the audit.
        score: −log₁₀ p of the audit; None if no detector applied.
        statistics: Of each detector that applied, by name.
        named: Classes that the detector with the smallest p-value points to.
        seconds: Of the audit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    specimen: str
    plan: str
    settings: dict[str, float]
    verdict: Verdict
    score: float | None
    statistics: dict[str, float]
    named: tuple[str, ...]
    seconds: float


class Quality(BaseModel):
    """How well scores tell planted from clean models.

    Attributes:
        plan: What was judged.
        clean: How many clean models.
        planted: How many planted ones whose attack works.
        never_took: Planted ones left out because their attack does not work.
        mute: Specimens on which the plan had nothing to say; they count as score 0, not flagged.
        auc: ROC-AUC.
        auc_interval: 95 %, bootstrap.
        false_alarms: Clean models flagged, with interval.
        found: Planted models flagged, with interval.
        at_five: Share of planted models above the score that 5 % of clean ones exceed.
        at_one: The same at 1 %; with few clean models that is the largest clean score.
        right_class: Among flagged models with one target class, those where it is named.
        families: ROC-AUC of each family against all clean models, with (found, models).
        alarms: Flagged clean models by kind, with (flagged, models).
        seconds: Median a model.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    plan: str
    clean: int
    planted: int
    never_took: int
    mute: int
    auc: float
    auc_interval: tuple[float, float]
    false_alarms: Rate
    found: Rate
    at_five: Rate
    at_one: Rate
    right_class: Rate | None
    families: dict[str, tuple[float, int, int]]
    alarms: dict[str, tuple[int, int]]
    seconds: float


Watch = Callable[[Judged, Truth], None]


def judge(
    zoo: Path,
    plans: Sequence[str] = (SHIPPED,),
    *,
    samples: int = 100,
    false_alarm_rate: float = DEFAULT_FALSE_ALARM_RATE,
    seed: int = 1,
    watch: Watch | None = None,
    progress: Progress = silent,
) -> list[Judged]:
    """Audit every specimen under every plan; what was judged before is read, not run.

    The audit sees the model's directory and trusted pictures, never the truth.

    Raises:
        LedgerError: No zoo.
        SpecError: An unknown detector.
    """
    settings = {"samples": samples, "false_alarm_rate": false_alarm_rate, "seed": seed}
    _, truths = read_zoo(zoo)
    known = {(row.specimen, row.plan): row for row in _rows(zoo) if row.settings == settings}
    trusted: dict[Pictures, ImageData] = {}
    found = []
    for truth in truths:
        if truth.failure:
            continue
        if truth.draw.data not in trusted:
            trusted[truth.draw.data] = trusted_pictures(truth.draw.data)
        for plan in plans:
            row = known.get((truth.draw.name, plan))
            if row is None:
                start = time.perf_counter()
                record = audit(
                    zoo / truth.draw.name / "model",
                    trusted=trusted[truth.draw.data],
                    detectors=None if plan == SHIPPED else plan.split("+"),
                    samples=samples,
                    false_alarm_rate=false_alarm_rate,
                    seed=seed,
                    progress=progress,
                )
                seconds = time.perf_counter() - start
                row = _row(truth.draw.name, plan, settings, record, seconds)
                with (zoo / _ROWS).open("a", encoding="utf-8") as file:
                    file.write(row.model_dump_json() + "\n")
            found.append(row)
            if watch is not None:
                watch(row, truth)
    return found


def quality(zoo: Path, rows: Sequence[Judged], plan: str) -> Quality:
    """Sum up one plan.

    Raises:
        SpecError: Nothing clean or nothing planted was judged under it.
    """
    _, truths = read_zoo(zoo)
    by_name = {truth.draw.name: truth for truth in truths}
    mine = [(row, by_name[row.specimen]) for row in rows if row.plan == plan]
    took = [(row, truth) for row, truth in mine if _counts(truth)]
    planted = np.array([truth.draw.attack is not None for _, truth in took], dtype=np.bool_)
    if not planted.any() or planted.all():
        raise SpecError(f"{zoo}: {plan} has judged nothing clean, or nothing planted that works")
    scores = np.array([row.score or 0.0 for row, _ in took])
    flagged = np.array([row.verdict is Verdict.FLAGGED for row, _ in took], dtype=np.bool_)
    named = [
        truth.target in row.named
        for (row, truth), hit in zip(took, flagged & planted, strict=True)
        if hit and truth.target is not None
    ]
    return Quality(
        plan=plan,
        clean=int((~planted).sum()),
        planted=int(planted.sum()),
        never_took=len(mine) - len(took),
        mute=sum(row.score is None for row, _ in took),
        auc=roc_auc(scores, planted),
        auc_interval=roc_auc_interval(scores, planted, rng=np.random.default_rng(0)),
        false_alarms=_share(flagged[~planted]),
        found=_share(flagged[planted]),
        at_five=_found_at(scores, planted, 0.05),
        at_one=_found_at(scores, planted, 0.01),
        right_class=rate(sum(named), len(named)) if named else None,
        families=_families(took, scores, planted, flagged),
        alarms=_alarms(took, flagged),
        seconds=float(np.median([row.seconds for row, _ in mine])),
    )


def _counts(truth: Truth) -> bool:
    success = truth.attack_success_rate
    return success is None or success >= PLANTED_FROM


def _share(hits: BoolArray) -> Rate:
    return rate(int(hits.sum()), len(hits))


def _found_at(scores: ScoreArray, planted: BoolArray, false_positives: float) -> Rate:
    clean = np.sort(scores[~planted])[::-1]
    allowed = int(false_positives * len(clean))
    return _share(scores[planted] > clean[allowed])


def _families(
    took: Sequence[tuple[Judged, Truth]],
    scores: ScoreArray,
    planted: BoolArray,
    flagged: BoolArray,
) -> dict[str, tuple[float, int, int]]:
    families = np.array([truth.draw.family or "" for _, truth in took])
    found = {}
    for family in sorted(set(families[planted])):
        mine = families == family
        area = roc_auc(scores[mine | ~planted], mine[mine | ~planted])
        found[str(family)] = (area, int(flagged[mine].sum()), int(mine.sum()))
    return found


def _alarms(took: Sequence[tuple[Judged, Truth]], flagged: BoolArray) -> dict[str, tuple[int, int]]:
    kinds = np.array([truth.draw.clean or "" for _, truth in took])
    return {
        str(kind): (int(flagged[kinds == kind].sum()), int((kinds == kind).sum()))
        for kind in sorted(set(kinds) - {""})
    }


def _row(
    specimen: str, plan: str, settings: dict[str, float], record: AuditRecord, seconds: float
) -> Judged:
    heard = [(f.detector.name, f.evidence) for f in record.findings if f.evidence is not None]
    named: tuple[str, ...] = ()
    if heard:
        _, best = min(heard, key=lambda pair: pair[1].p_value)
        named = tuple(best.unit_names[i] for i in best.suspects if i < len(best.unit_names))
    return Judged(
        specimen=specimen,
        plan=plan,
        settings=settings,
        verdict=record.verdict,
        score=record.score,
        statistics={name: evidence.statistic for name, evidence in heard},
        named=named,
        seconds=round(seconds, 3),
    )


def _rows(zoo: Path) -> list[Judged]:
    path = zoo / _ROWS
    if not path.exists():
        return []
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            found.append(Judged.model_validate_json(line))
        except ValueError as error:
            raise LedgerError(f"{path}, line {number}, is no result: {error}") from error
    return found
