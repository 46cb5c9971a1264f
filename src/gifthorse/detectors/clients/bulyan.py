"""Bulyan: Krum again and again, then the values nearest to the median of every coordinate.

Source: El Mhamdi, Guerraoui, Rouault 2018, "The Hidden Vulnerability of Distributed Learning in
Byzantium" (arXiv:1802.07927), section 4. θ = n − 2f selections, β = θ − 2f values a coordinate;
n ≥ 4f + 3, otherwise the named fallback (other code returns nothing).
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gifthorse.core.clients import Aggregate, RoundContext, Updates, client_evidence
from gifthorse.core.types import Need, ScoreArray
from gifthorse.detectors.clients.geometry import fall_back, kept, squared_distances
from gifthorse.detectors.clients.krum import krum_scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Bulyan:
    """Krum selection followed by a mean around the median.

    Attributes:
        assumed: Attackers that the server reckons with, ≥ 0; never the true number.
    """

    paper: ClassVar[str] = "El Mhamdi et al. 2018, arXiv:1802.07927"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.UPDATES})

    assumed: int = 4

    def __post_init__(self) -> None:
        if not 0 <= self.assumed < 10**6:
            raise ValueError(f"assumed must be ≥ 0, got {self.assumed}")

    def aggregate(self, updates: Updates, context: RoundContext) -> Aggregate:
        """Mean of the β selected values nearest to the median, in every coordinate."""
        n, f = len(updates), self.assumed
        if n < 4 * f + 3:
            reason = f"{n} updates are fewer than 4·{f} + 3 that Bulyan needs"
            return fall_back(updates, context, reason)
        distances = squared_distances(updates.deltas)
        left = list(range(n))
        chosen: list[int] = []
        while len(chosen) < n - 2 * f:
            scores = krum_scores(distances[np.ix_(left, left)], f)
            chosen.append(left.pop(int(np.argmin(scores))))
        accepted = kept(n, chosen)
        return Aggregate(
            delta=mean_around_median(updates.deltas[accepted], len(chosen) - 2 * f),
            accepted=accepted,
            evidence=client_evidence(krum_scores(distances, f), accepted),
        )


def mean_around_median(rows: ScoreArray, count: int) -> ScoreArray:
    """Mean of the ``count`` values of (n, d) that lie nearest to the median, shape (d,)."""
    gaps = np.abs(rows - np.median(rows, axis=0))
    nearest = np.argsort(gaps, axis=0, kind="stable")[:count]
    return np.asarray(np.take_along_axis(rows, nearest, axis=0).mean(axis=0))
