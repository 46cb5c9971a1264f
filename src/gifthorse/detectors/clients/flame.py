"""FLAME: cluster by direction, clip to the median norm, add just enough noise.

Source: Nguyen et al. 2022, "FLAME: Taming Backdoors in Federated Learning" (USENIX Security;
arXiv:2101.02281), algorithm 1. HDBSCAN on cosine distances of the local *models* with
min_cluster_size = ⌊n/2⌋ + 1 and min_samples = 1; the bound S is the median norm over *all* updates;
noise N(0, (λS)²) on the averaged model, λ = .001.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gifthorse.core.clients import Aggregate, RoundContext, Updates, client_evidence
from gifthorse.core.types import IntArray, Need, ScoreArray
from gifthorse.detectors.clients.geometry import clipped, cosines, fall_back, norms


@dataclass(frozen=True, slots=True, kw_only=True)
class Flame:
    """Keeps the majority cluster, clips it, and adds noise.

    Attributes:
        noise: λ, standard deviation of the noise as a share of the clipping bound, ≥ 0.
    """

    paper: ClassVar[str] = "Nguyen et al. 2022, arXiv:2101.02281"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.UPDATES})

    noise: float = 0.001

    def __post_init__(self) -> None:
        if not 0 <= self.noise < 1e6:
            raise ValueError(f"noise must be ≥ 0, got {self.noise}")

    def aggregate(self, updates: Updates, context: RoundContext) -> Aggregate:
        """Mean of the clipped updates of the majority, plus noise."""
        n = len(updates)
        if n < 3:
            return fall_back(updates, context, f"{n} updates have no majority cluster")
        models = context.current + updates.deltas
        distances = np.clip(1 - cosines(models, models), 0, 2)
        np.fill_diagonal(distances, 0)
        groups = cluster(distances, smallest=n // 2 + 1, single=True)
        accepted = groups == np.bincount(groups + 1)[1:].argmax() if groups.max() >= 0 else None
        if accepted is None:
            return fall_back(updates, context, "no majority cluster")
        lengths = norms(updates.deltas)
        bound = float(np.median(lengths))
        step = clipped(updates.deltas, bound)[accepted].mean(axis=0)
        step = step + context.rng.normal(0, 1, len(step)) * (self.noise * bound)
        return Aggregate(
            delta=step,
            accepted=accepted,
            evidence=client_evidence(np.median(distances, axis=1), accepted),
        )


def cluster(distances: ScoreArray, *, smallest: int, single: bool) -> IntArray:
    """HDBSCAN labels (n,) from distances (n, n); −1 is noise."""
    from sklearn.cluster import HDBSCAN

    method = HDBSCAN(
        min_cluster_size=smallest,
        min_samples=1,
        metric="precomputed",
        allow_single_cluster=single,
        copy=True,
    )
    return np.asarray(method.fit_predict(distances), dtype=np.int64)
