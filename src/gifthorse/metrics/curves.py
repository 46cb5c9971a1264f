"""Receiver operating characteristics. Pure functions on scores."""

from collections.abc import Sequence

import numpy as np

from gifthorse.core.types import BoolArray, ScoreArray

Curve = tuple[tuple[float, float], ...]
"""(false-positive rate, true-positive rate) from (0, 0) to (1, 1)."""


def roc_curve(scores: ScoreArray, positive: BoolArray) -> Curve:
    """Rates at every threshold, ties taken together; higher scores are more suspicious.

    Args:
        scores: Shape (n,), finite.
        positive: Shape (n,), with at least one true and one false.

    Raises:
        ValueError: A group is empty or a score is not finite.
    """
    if not np.isfinite(scores).all():
        raise ValueError("a ROC curve needs finite scores")
    if positive.all() or not positive.any():
        raise ValueError("a ROC curve needs positives and negatives")
    order = np.argsort(-scores, kind="stable")
    ranked, truth = scores[order], positive[order]
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    right = np.cumsum(truth)[last] / positive.sum()
    wrong = np.cumsum(~truth)[last] / (~positive).sum()
    points = zip(wrong.tolist(), right.tolist(), strict=True)
    return ((0.0, 0.0), *((float(x), float(y)) for x, y in points))


def found_at(scores: ScoreArray, positive: BoolArray, false_positive_rate: float) -> int:
    """How many positives lie above the lowest threshold that few enough negatives exceed.

    Ties count against the method: a positive must lie strictly above the threshold.

    Args:
        scores: Shape (n,), finite; higher is more suspicious.
        positive: Shape (n,), with at least one false.
        false_positive_rate: Share of the negatives that may exceed the threshold, in [0, 1).

    Raises:
        ValueError: No negatives, or the rate is out of range.
    """
    negatives = np.sort(scores[~positive])[::-1]
    if not len(negatives) or not 0 <= false_positive_rate < 1:
        raise ValueError(f"no threshold at a rate of {false_positive_rate}")
    threshold = negatives[int(false_positive_rate * len(negatives) + 1e-9)]
    return int((scores[positive] > threshold).sum())


def mean_curve(curves: Sequence[Curve], steps: int = 101) -> Curve:
    """The mean true-positive rate at equally spaced false-positive rates (vertical averaging).

    Fawcett 2006, "An introduction to ROC analysis", section 8.1.
    """
    if not curves:
        raise ValueError("no curves to average")
    grid = np.linspace(0, 1, steps)
    heights = np.mean([_at(curve, grid) for curve in curves], axis=0)
    points = zip(grid.tolist(), heights.tolist(), strict=True)
    return ((0.0, 0.0), *((float(x), float(y)) for x, y in points))


def _at(curve: Curve, grid: ScoreArray) -> ScoreArray:
    x, y = np.array([p[0] for p in curve]), np.array([p[1] for p in curve])
    # At a vertical step the upper end counts, except at 0, where the step belongs to rate 0 too.
    last = np.append(np.flatnonzero(np.diff(x)), len(x) - 1)
    return np.asarray(np.interp(grid, x[last], y[last]), dtype=np.float64)


def thinned(curve: Curve, most: int = 200) -> Curve:
    """At most ``most`` points, for drawing; both ends are kept."""
    if len(curve) <= most:
        return curve
    rows = np.unique(np.linspace(0, len(curve) - 1, most).astype(int))
    return tuple(curve[i] for i in rows)
