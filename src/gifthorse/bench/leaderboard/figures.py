"""Curves and points of the leaderboard, in the coordinates of their drawings."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gifthorse.bench.ledger import Ledger
from gifthorse.bench.trial_record import TrialRecord
from gifthorse.core.errors import LedgerError
from gifthorse.core.types import Verdict
from gifthorse.metrics.curves import Curve, mean_curve, roc_curve, thinned
from gifthorse.metrics.rates import roc_auc

COLOURS = 8
"""Line styles that the style sheet has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One ROC curve. ``path`` is SVG in a square of 100 × 100, y downwards."""

    name: str
    path: str
    auc: float
    note: str
    colour: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """One defence in the cost–quality plot; positions in per cent."""

    name: str
    role: str
    x: float
    y: float
    seconds: float
    quality: float
    note: str
    anchor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """The cost–quality plot: spots, ticks of the logarithmic time axis, and levels of quality."""

    spots: tuple[Spot, ...]
    levels: tuple[tuple[float, str], ...]
    ticks: tuple[tuple[float, str], ...]


def subject_curves(records: Sequence[TrialRecord]) -> tuple[Line, ...]:
    """Planted models against clean twins, by each detector's statistic."""
    lines = []
    for name, group in _by_defence(records, "detector").items():
        judged = [r for r in group if r.detection is not None]
        scores = np.array([r.detection.statistic for r in judged if r.detection is not None])
        positive = np.array([r.trial.attack is not None for r in judged], dtype=np.bool_)
        if judged and positive.any() and not positive.all():
            note = f"{int(positive.sum())} planted, {int((~positive).sum())} clean"
            curve = roc_curve(scores, positive)
            lines.append((name, curve, roc_auc(scores, positive), note))
    return _lines(lines)


def sample_curves(ledger: Ledger, records: Sequence[TrialRecord]) -> tuple[Line, ...]:
    """Poisoned samples against clean ones, averaged over planted subjects."""
    lines = []
    for name, group in _by_defence(records, "detector").items():
        curves, areas = [], []
        for record in group:
            curve = sample_curve(ledger, record)
            if curve is not None and record.detection is not None:
                curves.append(curve)
                assert record.detection.sample_auc is not None  # noqa: S101 - there is a curve
                areas.append(record.detection.sample_auc.value)
        if curves:
            note = f"mean of {len(curves)} subjects"
            lines.append((name, mean_curve(curves), float(np.mean(areas)), note))
    return _lines(lines)


def sample_curve(ledger: Ledger, record: TrialRecord) -> Curve | None:
    """The ROC curve over the samples of one trial, if it has one and its arrays are there."""
    if record.detection is None or record.detection.sample_auc is None or record.arrays is None:
        return None
    try:
        arrays = ledger.arrays(record.arrays)
        return roc_curve(arrays["scores"], arrays["positive"])
    except (LedgerError, KeyError, ValueError):
        return None


def one_line(name: str, curve: Curve, auc: float) -> Line:
    """A single curve, for a trial's own page."""
    return _lines([(name, curve, auc, "")])[0]


def cost_and_quality(records: Sequence[TrialRecord]) -> Plane:
    """Mean seconds of each defence against what it achieves.

    Repairs: mean DER over planted models; one that does not apply changes nothing, which is 0.5.
    Detectors: balanced accuracy of the verdicts, half the share of planted
    subjects flagged plus half the share of clean twins not flagged.
    """
    found = []
    for role in ("repair", "detector"):
        for name, group in _by_defence(records, role).items():
            seconds = [r.circumstances.cost.seconds for r in group if r.status == "done"]
            quality, note = _der(group) if role == "repair" else _balanced(group)
            if quality is not None and seconds:
                found.append((name, role, max(0.01, float(np.mean(seconds))), quality, note))
    if not found:
        return Plane(spots=(), levels=(), ticks=())
    low = math.floor(math.log10(min(f[2] for f in found)) * 2) / 2 - 0.25
    high = math.ceil(math.log10(max(f[2] for f in found)) * 2) / 2 + 0.25

    floor = 0.4 if min(f[3] for f in found) >= 0.45 else 0.0

    def up(quality: float) -> float:
        return round(100 * (1 - quality) / (1 - floor), 2)

    def across(seconds: float) -> float:
        return round(100 * (math.log10(seconds) - low) / (high - low), 2)

    spots = tuple(
        Spot(
            name=name,
            role=role,
            x=across(seconds),
            y=up(quality),
            seconds=seconds,
            quality=quality,
            note=note,
            anchor="end" if across(seconds) > 60 else "start",
        )
        for name, role, seconds, quality, note in found
    )
    marks = [0.01, 0.1, 0.3, 1, 3, 10, 30, 60, 300, 600, 3600, 36000]
    ticks = tuple((across(m), _time(m)) for m in marks if low <= math.log10(m) <= high)
    levels = tuple((up(q), f"{q:.1f}") for q in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0) if q >= floor)
    return Plane(spots=spots, levels=levels, ticks=ticks)


def _der(group: Sequence[TrialRecord]) -> tuple[float | None, str]:
    planted = [r for r in group if r.trial.attack is not None and r.status != "failed"]
    values = [
        r.repaired.defence_effectiveness.value
        for r in planted
        if r.repaired is not None and r.repaired.defence_effectiveness is not None
    ]
    idle = sum(r.status == "no_result" for r in planted)
    if not values:
        return None, ""
    note = f"mean DER of {len(values)}" + (f"; {idle} more did not apply" if idle else "")
    return float(np.mean([*values, *[0.5] * idle])), note


def _balanced(group: Sequence[TrialRecord]) -> tuple[float | None, str]:
    verdicts: dict[bool, list[bool]] = {True: [], False: []}
    for record in group:
        if record.detection is not None:
            flagged = record.detection.verdict is Verdict.FLAGGED
            verdicts[record.trial.attack is not None].append(flagged)
    if not verdicts[True] or not verdicts[False]:
        return None, ""
    found, alarms = float(np.mean(verdicts[True])), float(np.mean(verdicts[False]))
    return (found + 1 - alarms) / 2, f"found {found:.0%}, false alarms {alarms:.0%}"


def _by_defence(records: Sequence[TrialRecord], role: str) -> dict[str, list[TrialRecord]]:
    groups: dict[str, list[TrialRecord]] = {}
    for record in sorted(records, key=lambda r: (r.label[1], r.id)):
        if record.trial.role == role:
            groups.setdefault(record.label[1], []).append(record)
    return groups


def _lines(found: Sequence[tuple[str, Curve, float, str]]) -> tuple[Line, ...]:
    ranked = sorted(found, key=lambda line: (-line[2], line[0]))
    return tuple(
        Line(name=name, path=_path(curve), auc=auc, note=note, colour=i % COLOURS)
        for i, (name, curve, auc, note) in enumerate(ranked)
    )


def _path(curve: Curve) -> str:
    points = [f"{100 * x:.2f} {100 - 100 * y:.2f}" for x, y in thinned(curve)]
    return "M" + "L".join(points)


def _time(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:g} s"
    return f"{seconds / 60:g} min" if seconds < 3600 else f"{seconds / 3600:g} h"
