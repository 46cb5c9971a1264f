"""Dividing a class more than once: where one division decides by luck, and where one is not enough.

1. A few hundred samples, half of which are searched for the cleanest split while the others measure
   it, give another answer for another choice of halves. So small classes are divided at random
   several times, and the *median* of the separations is judged. All classes are treated alike, so
   the null stays what it is.
2. Poison that comes from many classes often forms several clusters. The cleanest split then shows
   one of them. So once a class stands out, the part that was found is taken away, and the rest is
   judged like any class; as long as it stands out too, its smaller part belongs to the poison.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gifthorse.core.types import IntArray, ScoreArray
from gifthorse.detectors.data.suspicion import (
    MIN_CLASS_SIZE,
    SEARCH_SIZE,
    ClassFeatures,
    Groups,
    Matrix,
    Split,
    cleanest_split,
    refined,
)

DIVISIONS = 5
_MOST_PARTS = 4

Stands = Callable[[float], bool]
"""Whether a class with this log separation stands out among the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Divided:
    """One class: the median log separation over its divisions, and the cleanest of the splits."""

    cleanness: float
    split: Split


def divisions_for(groups: Groups) -> int:
    """How often to divide: several times, unless half of a typical class is all that is searched.

    From classes of 4,000 samples on, one division is as good as many, and those take time.
    """
    typical = float(np.median([len(group.indices) for group in groups.classes]))
    return 1 if typical >= 2 * SEARCH_SIZE else DIVISIONS


def divided(x: Matrix, times: int, *, rng: np.random.Generator) -> Divided:
    """Divide a class.

    Args:
        x: Centred features (n, r) in uncorrelated coordinates, n ≥ ``MIN_CLASS_SIZE``.
        times: How often, at least once.
        rng: Chooses the halves.
    """
    splits = [cleanest_split(x, rng=rng) for _ in range(times)]
    found = np.array([split.separation for split in splits])
    return Divided(cleanness=float(np.median(np.log(found))), split=splits[int(found.argmax())])


def peeled(
    groups: Groups,
    k: int,
    first: Divided,
    stands: Stands,
    *,
    components: int,
    rng: np.random.Generator,
) -> IntArray:
    """All parts of the k-th class that make it stand out; worst first within each part.

    Args:
        groups: Features by class.
        k: The class.
        first: How it was divided.
        stands: Judges what is left.
        components: Dimensions that are searched.
        rng: Chooses the halves.
    """
    times, parts, now = divisions_for(groups), [], first
    while True:
        indices = groups.classes[k].indices
        x = groups.centred(k) @ groups.contrast(k)
        part, margin = refined(x, now.split.part(x[:, :components]))
        parts.append(_ordered(indices[part], margin[part]))
        rest = indices[~part]
        if not stands(now.cleanness) or len(parts) == _MOST_PARTS or len(rest) < MIN_CLASS_SIZE:
            break
        groups = _with_class(groups, k, rest)
        now = divided(groups.centred(k) @ groups.contrast(k)[:, :components], times, rng=rng)
        if not stands(now.cleanness):
            break
    return np.concatenate(parts)


def _ordered(indices: IntArray, margin: ScoreArray) -> IntArray:
    return np.asarray(indices[np.argsort(-margin, kind="stable")])


def _with_class(groups: Groups, k: int, indices: IntArray) -> Groups:
    """The same groups, the k-th class reduced to these samples."""
    rows = groups.values[indices].astype(np.float64)
    mean = rows.mean(axis=0)
    rows -= mean
    classes = list(groups.classes)
    classes[k] = ClassFeatures(
        label=classes[k].label,
        indices=indices,
        mean=mean,
        covariance=rows.T @ rows / len(rows),
    )
    return Groups(values=groups.values, classes=tuple(classes), notes=groups.notes)
