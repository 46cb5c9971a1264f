"""What the two feature-space scans share: contrast with the other classes, and clean separation.

Neither paper says when a data set *as a whole* is suspicious; this file is our answer, beside the
published methods. It rests on two observations.

1. A trigger moves features along a direction in which the *other* classes hardly vary, while
   most natural variation (brightness, likeness to another class) is common to all of them. So the
   features of a class are measured in units of the spread of the other classes ("contrast").
2. Poisoned samples stand apart from the rest of their class, with a gap; natural modes of a class
   (bags with and without a handle) shade into one another. So what counts is how cleanly a class
   falls in two along its best direction, not how large the parts are or how far apart.

Poison is taken to be the smaller part of its class.
"""

from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from gifthorse.core.errors import DataError, NotApplicableError
from gifthorse.core.types import (
    BoolArray,
    Features,
    FloatArray,
    IntArray,
    LabelledData,
    ScoreArray,
    Subject,
)
from gifthorse.metrics.outliers import MIN_UNITS, StudentisedNull

MIN_CLASS_SIZE = 50
"""Smaller classes are not examined: half of one must show a part of a few per cent."""

MAX_DIMENSIONS = 256
"""Wider features are first projected on this many principal directions, to bound the cost."""

SEARCH_SIZE = 2000
"""Samples of a class that are searched for a split, at most."""

GAUSSIAN_SEPARATION = 2.6472161935770258
"""Separation of the two halves of a normal distribution: 2·√(2/π) / √(1 − 2/π)."""

_RIDGE = 1e-2
_ROUNDS = 12
_STARTS = 5
_TAILS = (0.05, 0.1)
_SAME = 1e-9

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassFeatures:
    """The samples of one class: where they are, and mean (d,) and covariance (d, d)."""

    label: int
    indices: IntArray
    mean: ScoreArray
    covariance: Matrix


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """Features (n, d) by class, for the classes that can be examined (at least four)."""

    values: FloatArray
    classes: tuple[ClassFeatures, ...]
    notes: tuple[str, ...]
    _bases: dict[int, Matrix] = field(default_factory=dict, repr=False)

    def contrast(self, k: int) -> Matrix:
        """``contrast_basis`` of the k-th examined class, computed once."""
        if k not in self._bases:
            self._bases[k] = contrast_basis(self, k)
        return self._bases[k]

    def centred(self, k: int) -> Matrix:
        """Features of the k-th examined class minus their mean, shape (n_k, d)."""
        group = self.classes[k]
        return np.asarray(self.values[group.indices] - group.mean, dtype=np.float64)

    def pointed_to(self, residuals: ScoreArray) -> list[int]:
        """Positions of the classes that stand out at the 5 % level; always the worst, first."""
        limit = stands_out_above(len(residuals))
        order = [int(k) for k in np.argsort(-residuals, kind="stable")]
        return order[:1] + [k for k in order[1:] if residuals[k] > limit]


def stands_out_above(count: int) -> float:
    """The largest residual of so many classes at the 5 % level."""
    return float(StudentisedNull(count).threshold(0.05).value)


_KEPT: WeakKeyDictionary[Features, tuple[IntArray, Groups]] = WeakKeyDictionary()
"""Both detectors of a scan ask for the same groups; kept for as long as the features are."""


def group_features(subject: Subject) -> Groups:
    """The subject's features by the labels of its suspect data; sorted once, then remembered.

    Raises:
        NotApplicableError: No features or data, or fewer than four classes to compare.
        DataError: As many features as labels were expected.
    """
    if subject.features is None or subject.suspect is None:
        raise NotApplicableError("this method needs the suspect data and its features")
    kept = _KEPT.get(subject.features)
    if kept is not None and np.array_equal(kept[0], subject.suspect.labels):
        return kept[1]
    groups = _grouped(subject.suspect, subject.features)
    _KEPT[subject.features] = (subject.suspect.labels.copy(), groups)
    return groups


def _grouped(suspect: LabelledData, features: Features) -> Groups:
    """Sort features by label.

    Raises:
        NotApplicableError: Fewer than four classes to compare.
        DataError: As many features as labels were expected.
    """
    labels, values = suspect.labels, features.values
    if len(labels) != len(values):
        raise DataError(
            f"{len(values)} rows of features for {len(labels)} labels of {suspect.name}; "
            "expected one row a sample, in the same order"
        )
    if values.shape[1] > MAX_DIMENSIONS:
        values = _narrowed(values)
    names = suspect.class_names
    order = np.argsort(labels, kind="stable")
    bounds = np.searchsorted(labels[order], np.arange(len(names) + 1))
    classes, notes = [], []
    for label, name in enumerate(names):
        indices = order[bounds[label] : bounds[label + 1]].astype(np.int64)
        if len(indices) < MIN_CLASS_SIZE:
            notes.append(f"class {name!r} had {len(indices)} samples and was not examined")
            continue
        rows = values[indices].astype(np.float64)
        mean = rows.mean(axis=0)
        rows -= mean
        covariance = rows.T @ rows / len(rows)
        if np.trace(covariance) <= _SAME * max(1.0, float(mean @ mean)):
            notes.append(f"class {name!r} has features without variance and was not examined")
            continue
        classes.append(
            ClassFeatures(label=label, indices=indices, mean=mean, covariance=covariance)
        )
    if len(classes) < MIN_UNITS:
        raise NotApplicableError(
            f"only {len(classes)} of {len(names)} classes of {suspect.name} can be "
            f"examined (at least {MIN_CLASS_SIZE} samples, features that vary); with fewer than "
            f"{MIN_UNITS} there is no control group to say what is normal"
        )
    return Groups(values=values, classes=tuple(classes), notes=tuple(notes))


def _narrowed(values: FloatArray) -> FloatArray:
    """Features on their ``MAX_DIMENSIONS`` principal directions."""
    centred = values - values.mean(axis=0)
    _, vectors = np.linalg.eigh((centred.T @ centred).astype(np.float64))
    return np.asarray(centred @ vectors[:, -MAX_DIMENSIONS:].astype(np.float32))


def contrast_basis(groups: Groups, k: int) -> Matrix:
    """Directions of class k ordered by its variance in units of that of the other classes.

    Solves the generalised eigenproblem Σ_k v = λ Σ_others v, where Σ_others is the mean of the
    other classes' covariances plus a ridge of 1 % of their mean variance.

    Returns:
        Shape (d, d): columns by decreasing λ, scaled so that features on them have unit variance
        over the other classes.
    """
    own = groups.classes[k].covariance
    d = len(own)
    # A plain loop keeps memory at one matrix however many classes there are.
    others = np.zeros_like(own)
    for j, group in enumerate(groups.classes):
        if j != k:
            others += group.covariance
    others /= len(groups.classes) - 1
    others[np.diag_indices(d)] += _RIDGE * np.trace(others) / d
    inverse = np.linalg.inv(np.linalg.cholesky(others))
    _, vectors = np.linalg.eigh(inverse @ own @ inverse.T)
    return np.asarray(inverse.T @ vectors[:, ::-1])


def principal_basis(covariance: Matrix) -> Matrix:
    """Unit eigenvectors (d, d) of a covariance, by decreasing variance."""
    _, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors[:, ::-1])


def two_means_cut(columns: Matrix) -> tuple[ScoreArray, ScoreArray]:
    """The exact two-means cut of every column.

    Args:
        columns: Shape (n, s), n ≥ 2.

    Returns:
        Cut points (s,), and the variance between the two parts (s,).
    """
    # Rows in memory: sums along them are several times faster.
    ordered = np.sort(np.ascontiguousarray(columns.T), axis=1)
    n = ordered.shape[1]
    # With the mean taken off, the variance between two parts is S² / (l·(n − l)), where S is the
    # sum of the l values on the left.
    between = np.cumsum(ordered - ordered.mean(axis=1, keepdims=True), axis=1)[:, :-1]
    left = np.arange(1, n, dtype=np.float64)
    between *= between
    between *= 1 / (left * (n - left))
    best = between.argmax(axis=1)
    at = np.arange(len(ordered))
    return (ordered[at, best] + ordered[at, best + 1]) / 2, between[at, best]


def separation(values: ScoreArray, part: BoolArray) -> float:
    """Distance of the means of two parts in units of the standard deviation within them.

    About 2.65 for the halves of a normal distribution; that is also the answer when a part has
    fewer than two values, where there is nothing to tell.

    Args:
        values: Shape (n,).
        part: Which of them form one part, shape (n,).
    """
    inside, outside = values[part], values[~part]
    if min(len(inside), len(outside)) < 2:
        return GAUSSIAN_SEPARATION
    within = (len(inside) * inside.var() + len(outside) * outside.var()) / len(values)
    distance = abs(float(inside.mean() - outside.mean()))
    # Two exact points would be infinitely far apart.
    return distance / float(np.sqrt(within + (1e-4 * distance) ** 2 + 1e-300))


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The direction (r,) along which a class falls in two most cleanly, the cut, and how cleanly.

    ``separation`` was measured on samples that the search did not see.
    """

    direction: ScoreArray
    cut: float
    separation: float

    def part(self, x: Matrix) -> BoolArray:
        """The smaller part of x (n, r)."""
        return smaller(x @ self.direction > self.cut)


def smaller(part: BoolArray) -> BoolArray:
    """The part itself, or the rest if that is smaller."""
    return part if part.sum() * 2 <= len(part) else ~part


def cleanest_split(x: Matrix, *, rng: np.random.Generator) -> Split:
    """Search the direction with the largest separation by fixed-point iteration.

    In coordinates where the class has unit variance in every direction, Fisher's direction between
    two parts is the difference of their means. So: cut, take that difference as the direction, cut
    again. Starts are the two-means cut and the tails (5 % and 10 %) of the first five coordinates.
    Half of the samples (at most 2,000) are searched, the others measure.

    Args:
        x: Centred features (n, r), n ≥ ``MIN_CLASS_SIZE``, the coordinates uncorrelated.
        rng: Divides the samples.
    """
    order = rng.permutation(len(x))
    half = min(SEARCH_SIZE, len(x) // 2)
    scale = np.sqrt((x**2).mean(axis=0))
    sphered = np.divide(x, scale, out=np.zeros_like(x), where=scale > _SAME * scale.max())
    seen, held = sphered[order[:half]], sphered[order[half:]]
    directions, cuts, between = _pursue(seen, starting_parts(seen))
    shares = (seen @ directions > cuts).mean(axis=0)
    # Total variance is one in every direction, so the squared separation of parts with shares p
    # and 1 − p and variance B between them is B / (p·(1 − p)·(1 − B)). By itself it favours a
    # handful of outliers, and the ratio B / (1 − B) favours equal halves; the choice is by their
    # geometric mean.
    odds = between / (1 - between).clip(_SAME)
    best = int((odds / np.sqrt(shares * (1 - shares)).clip(_SAME)).argmax())
    projected = held @ directions[:, best]
    # The direction in the coordinates that the caller gave.
    back = np.divide(
        directions[:, best], scale, out=np.zeros_like(scale), where=scale > _SAME * scale.max()
    )
    return Split(
        direction=np.asarray(back),
        cut=float(cuts[best]),
        separation=separation(projected, projected > cuts[best]),
    )


def starting_parts(x: Matrix) -> BoolArray:
    """Divisions to start a search from: cut and tails of the first five columns, (n, r) to (n, s).

    The cut is by two means, the tails are 5 % and 10 % on either side.
    """
    columns = x[:, :_STARTS]
    cuts, _ = two_means_cut(columns)
    parts = [columns > cuts]
    for share in _TAILS:
        low, high = np.quantile(columns, [share, 1 - share], axis=0)
        parts += [columns < low, columns > high]
    return np.concatenate(parts, axis=1)


def _pursue(x: Matrix, parts: BoolArray) -> tuple[Matrix, ScoreArray, ScoreArray]:
    """Fixed points from all starts (n, s) at once: directions (r, s), cuts, variance between."""
    n, starts = parts.shape
    across = np.ascontiguousarray(x.T)
    total = x.sum(axis=0)[:, None]
    directions = np.zeros((x.shape[1], starts))
    cuts, between = np.zeros(starts), np.zeros(starts)
    moving = np.arange(starts)
    for _ in range(_ROUNDS):
        inside = np.count_nonzero(parts, axis=0).clip(1, n - 1)
        sums = across @ parts.astype(np.float64)
        now = sums / inside - (total - sums) / (n - inside)
        norms = np.linalg.norm(now, axis=0)
        now = np.divide(now, norms, out=np.zeros_like(now), where=norms > _SAME)
        projected = (now.T @ across).T
        directions[:, moving] = now
        cuts[moving], between[moving] = two_means_cut(projected)
        changed = projected > cuts[moving]
        still = (changed != parts).any(axis=0)
        if not still.any():
            break
        parts, moving = changed[:, still], moving[still]
    return directions, cuts, between


def refined(x: Matrix, part: BoolArray) -> tuple[BoolArray, ScoreArray]:
    """Sharpen a division of a class with Fisher's direction in all dimensions.

    Args:
        x: Centred features (n, d).
        part: The division to start from, shape (n,).

    Returns:
        The smaller part (n,), and every sample's distance beyond the cut on its side, in standard
        deviations of the class along that direction (n,): higher is more suspect.
    """
    covariance = x.T @ x / len(x)
    covariance[np.diag_indices(x.shape[1])] += 1e-6 * np.trace(covariance) / x.shape[1] + 1e-300
    margin = np.where(part, 1.0, -1.0)
    for _ in range(_ROUNDS):
        if not 2 <= part.sum() <= len(part) - 2:
            break
        within = covariance - _between(x, part)
        within[np.diag_indices(x.shape[1])] += _RIDGE * np.trace(within) / x.shape[1]
        direction = np.linalg.solve(within, x[part].mean(axis=0) - x[~part].mean(axis=0))
        projected = x @ direction
        cuts, _ = two_means_cut(projected[:, None])
        margin = (projected - cuts[0]) / max(float(projected.std()), 1e-300)
        moved: BoolArray = margin > 0
        if np.array_equal(moved, part):
            break
        part = moved
    small = smaller(part)
    return small, np.asarray(margin if small is part else -margin)


def _between(x: Matrix, part: BoolArray) -> NDArray[Any]:
    share = part.mean()
    gap = x[part].mean(axis=0) - x[~part].mean(axis=0)
    return np.asarray(share * (1 - share) * np.outer(gap, gap))
