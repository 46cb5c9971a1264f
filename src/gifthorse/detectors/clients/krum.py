"""Krum and MultiKrum: the updates whose nearest neighbours are nearest.

Source: Blanchard et al. 2017, "Machine Learning with Adversaries: Byzantine Tolerant Gradient
Descent" (NeurIPS), section 4. Score = sum of the n − f − 2 smallest squared distances; 2f + 2 < n.

Distances are taken between updates in double precision; between whole models in single precision
they cancel.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gifthorse.core.clients import Aggregate, RoundContext, Updates, client_evidence
from gifthorse.core.types import Need, ScoreArray
from gifthorse.detectors.clients.geometry import fall_back, kept, squared_distances


def krum_scores(distances: ScoreArray, assumed: int) -> ScoreArray:
    """Sum of the n − f − 2 smallest squared distances to others, from (n, n), shape (n,)."""
    n = len(distances)
    others = np.sort(distances + np.diag(np.full(n, np.inf)), axis=1)
    return np.asarray(others[:, : max(1, n - assumed - 2)].sum(axis=1))


def _select(updates: Updates, context: RoundContext, assumed: int, keep: int) -> Aggregate:
    n = len(updates)
    if n < 2 * assumed + 3:
        return fall_back(
            updates, context, f"{n} updates are fewer than 2·{assumed} + 3 that Krum needs"
        )
    scores = krum_scores(squared_distances(updates.deltas), assumed)
    chosen = np.argsort(scores, kind="stable")[:keep].astype(np.int64)
    accepted = kept(n, chosen)
    return Aggregate(
        delta=updates.deltas[accepted].mean(axis=0),
        accepted=accepted,
        evidence=client_evidence(scores, accepted),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Krum:
    """Takes the one update that lies closest to its neighbours.

    Attributes:
        assumed: Attackers that the server reckons with, ≥ 0; never the true number.
    """

    paper: ClassVar[str] = "Blanchard et al. 2017, NeurIPS"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.UPDATES})

    assumed: int = 4

    def __post_init__(self) -> None:
        if not 0 <= self.assumed < 10**6:
            raise ValueError(f"assumed must be ≥ 0, got {self.assumed}")

    def aggregate(self, updates: Updates, context: RoundContext) -> Aggregate:
        """One update."""
        return _select(updates, context, self.assumed, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiKrum:
    """The mean of the n − f updates with the best Krum scores.

    Attributes:
        assumed: Attackers that the server reckons with, ≥ 0; never the true number.
    """

    paper: ClassVar[str] = "Blanchard et al. 2017, NeurIPS"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.UPDATES})

    assumed: int = 4

    def __post_init__(self) -> None:
        if not 0 <= self.assumed < 10**6:
            raise ValueError(f"assumed must be ≥ 0, got {self.assumed}")

    def aggregate(self, updates: Updates, context: RoundContext) -> Aggregate:
        """The mean of n − f updates."""
        return _select(updates, context, self.assumed, len(updates) - self.assumed)
