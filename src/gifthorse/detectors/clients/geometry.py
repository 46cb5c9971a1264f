"""What the defences of federated learning share: distances, clipping, and the fallback."""

from collections.abc import Sequence

import numpy as np

from gifthorse.core.clients import Aggregate, RoundContext, Updates, client_evidence
from gifthorse.core.types import BoolArray, IntArray, ScoreArray

TINY = 1e-12


def norms(vectors: ScoreArray) -> ScoreArray:
    """Euclidean norm of every row of (n, d), shape (n,)."""
    return np.asarray(np.sqrt(np.einsum("ij,ij->i", vectors, vectors)))


def squared_distances(vectors: ScoreArray) -> ScoreArray:
    """Squared Euclidean distances between the rows of (n, d), shape (n, n).

    From differences, never as ‖x‖² + ‖y‖² − 2xy: that form cancels, and on whole models in single
    precision it lets attackers in.
    """
    out = np.zeros((len(vectors), len(vectors)))
    for i in range(len(vectors)):
        gap = vectors[i + 1 :] - vectors[i]
        out[i, i + 1 :] = out[i + 1 :, i] = np.einsum("ij,ij->i", gap, gap)
    return out


def cosines(a: ScoreArray, b: ScoreArray) -> ScoreArray:
    """Cosine of every row of (n, d) with every row of (m, d); 0 where a row is zero."""
    lengths = np.outer(norms(a), norms(b))
    return np.divide(a @ b.T, lengths, out=np.zeros((len(a), len(b))), where=lengths > TINY)


def clipped(deltas: ScoreArray, bound: float) -> ScoreArray:
    """Rows of (n, d) shortened to at most ``bound``."""
    lengths = norms(deltas)
    scale = np.minimum(1.0, np.divide(bound, lengths, out=np.ones_like(lengths), where=lengths > 0))
    return deltas * scale[:, None]


def weighted_mean(deltas: ScoreArray, weights: ScoreArray) -> ScoreArray:
    """Mean of the rows of (n, d) with positive weights (n,)."""
    return np.asarray((weights / weights.sum()) @ deltas)


def fall_back(updates: Updates, context: RoundContext, reason: str) -> Aggregate:
    """The step of a round in which a method cannot do its work: the median of clipped updates.

    No update enters at full length and no minority sets a coordinate. Without any update the
    global model stays as it is.
    """
    n = len(updates)
    if n == 0:
        step, done = np.zeros_like(context.current), "the global model stays as it is"
    else:
        bound = float(np.median(norms(updates.deltas)))
        step, done = np.median(clipped(updates.deltas, bound), axis=0), "coordinate-wise median"
    accepted = np.ones(n, dtype=np.bool_)
    return Aggregate(
        delta=step,
        accepted=accepted,
        evidence=client_evidence(norms(updates.deltas), accepted),
        fallback=f"{reason}: {done}",
        memory=context.memory,
    )


def kept(count: int, rows: Sequence[int] | IntArray) -> BoolArray:
    """A mask (count,) that is true at the indices ``rows``."""
    mask = np.zeros(count, dtype=np.bool_)
    mask[np.asarray(rows, dtype=np.int64)] = True
    return mask
