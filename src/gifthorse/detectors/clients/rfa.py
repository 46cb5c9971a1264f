"""RFA: the geometric median by the smoothed Weiszfeld algorithm.

Source: Pillutla, Kakade, Harchaoui 2022, "Robust Aggregation for Federated Learning"
(arXiv:1912.13445), algorithm 2.

Deviation: it stops when a step moves it by less than 1e-9 of its scale, instead of after 4 steps
in every case; ``iterations = 4`` gives the paper's.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gifthorse.core.clients import Aggregate, RoundContext, Updates, client_evidence
from gifthorse.core.types import Need, ScoreArray
from gifthorse.detectors.clients.geometry import fall_back, kept, norms, weighted_mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Rfa:
    """The point whose summed distance to all updates is smallest.

    Attributes:
        iterations: Most Weiszfeld steps, ≥ 1.
        smoothing: Distances below it count as it, > 0.
    """

    paper: ClassVar[str] = "Pillutla et al. 2022, arXiv:1912.13445"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.UPDATES})

    iterations: int = 8
    smoothing: float = 1e-6

    def __post_init__(self) -> None:
        if not 1 <= self.iterations <= 10**6 or not 0 < self.smoothing < 1e6:
            raise ValueError(
                f"iterations and smoothing must be positive, got {self.iterations}, "
                f"{self.smoothing}"
            )

    def aggregate(self, updates: Updates, context: RoundContext) -> Aggregate:
        """The smoothed geometric median with the server's weights."""
        if not len(updates):
            return fall_back(updates, context, "no update")
        step = geometric_median(
            updates.deltas, updates.weights, self.iterations, smoothing=self.smoothing
        )
        accepted = kept(len(updates), range(len(updates)))
        return Aggregate(
            delta=step,
            accepted=accepted,
            evidence=client_evidence(norms(updates.deltas - step), accepted),
        )


def geometric_median(
    points: ScoreArray, weights: ScoreArray, iterations: int, *, smoothing: float = 1e-6
) -> ScoreArray:
    """Smoothed Weiszfeld steps from the mean of (n, d), shape (d,)."""
    middle = weighted_mean(points, weights)
    for _ in range(iterations):
        pull = weights / np.maximum(norms(points - middle), smoothing)
        following = weighted_mean(points, pull)
        moved = float(np.linalg.norm(following - middle))
        middle = following
        if moved <= 1e-9 * max(smoothing, float(np.linalg.norm(middle))):
            break
    return middle
