"""FLTrust: updates count as far as they point where the server's own trusted samples point.

Source: Cao et al. 2021, "FLTrust: Byzantine-robust Federated Learning via Trust Bootstrapping"
(arXiv:2012.13995), algorithm 2. Trust = ReLU(cosine with the server's update), every update is
rescaled to the length of the server's. It works on updates, never on whole models.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gifthorse.core.clients import Aggregate, RoundContext, Updates, client_evidence
from gifthorse.core.types import Need
from gifthorse.detectors.clients.geometry import TINY, cosines, fall_back, norms, weighted_mean


@dataclass(frozen=True, slots=True, kw_only=True)
class FlTrust:
    """Trust by direction, length by the server; needs about 100 trusted samples."""

    paper: ClassVar[str] = "Cao et al. 2021, arXiv:2012.13995"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.UPDATES, Need.TRUSTED})

    def aggregate(self, updates: Updates, context: RoundContext) -> Aggregate:
        """Mean of rescaled updates, weighted by trust; who has none is rejected."""
        root = context.root_delta
        if root is None or float(np.linalg.norm(root)) <= TINY:
            return fall_back(updates, context, "the server has no update of its own")
        similar = cosines(updates.deltas, root[None])[:, 0]
        accepted = similar > 0
        if not accepted.any():
            return fall_back(updates, context, "no client points where the server's samples point")
        lengths = np.maximum(norms(updates.deltas), TINY)
        scaled = updates.deltas * (np.linalg.norm(root) / lengths)[:, None]
        return Aggregate(
            delta=weighted_mean(scaled[accepted], similar[accepted]),
            accepted=accepted,
            evidence=client_evidence(-similar, accepted),
        )
