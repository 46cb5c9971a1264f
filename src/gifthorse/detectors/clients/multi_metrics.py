"""Multi-metrics: three distances at once, whitened.

Source: Huang et al. 2023, "Multi-metrics adaptively identifies backdoors in Federated learning"
(ICCV; arXiv:2303.06601), algorithm 1: cosine, Manhattan and Euclidean distance of every local
model to the global one; summed absolute differences to the others; Mahalanobis norm; the share p
with the smallest is averaged.

Deviation: the pseudo-inverse stands for the inverse, because the covariance is singular when the
updates lie on a line.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gifthorse.core.clients import Aggregate, RoundContext, Updates, client_evidence
from gifthorse.core.types import Need, ScoreArray
from gifthorse.detectors.clients.geometry import cosines, fall_back, kept, norms


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiMetrics:
    """Keeps the updates that are ordinary by three measures at once.

    Attributes:
        keep: Share that is averaged, in (0, 1].
    """

    paper: ClassVar[str] = "Huang et al. 2023, arXiv:2303.06601"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.UPDATES})

    keep: float = 0.3

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise ValueError(f"keep must be in (0, 1], got {self.keep}")

    def aggregate(self, updates: Updates, context: RoundContext) -> Aggregate:
        """Mean of the most ordinary updates."""
        n = len(updates)
        if n < 4:
            return fall_back(updates, context, f"{n} updates have no covariance in three measures")
        scores = dynamic_scores(updates.deltas, context.current)
        count = max(1, int(self.keep * n))
        accepted = kept(n, np.argsort(scores, kind="stable")[:count].astype(np.int64))
        return Aggregate(
            delta=updates.deltas[accepted].mean(axis=0),
            accepted=accepted,
            evidence=client_evidence(scores, accepted),
        )


def dynamic_scores(deltas: ScoreArray, current: ScoreArray) -> ScoreArray:
    """Mahalanobis norm of each client's differences to the others, shape (n,)."""
    features = np.stack(
        [
            1 - cosines(current + deltas, current[None])[:, 0],
            np.abs(deltas).sum(axis=1),
            norms(deltas),
        ],
        axis=1,
    )
    apart = np.abs(features[:, None] - features[None]).sum(axis=1)
    spread = apart.std(axis=0)
    apart = apart / np.where(
        spread > 0, spread, 1.0
    )  # the norm is scale-free; the numerics are not
    inverse = np.linalg.pinv(np.cov(apart.T), rcond=1e-9)
    return np.asarray(np.sqrt(np.maximum(np.einsum("ni,ij,nj->n", apart, inverse, apart), 0)))
