"""Federated averaging: no defence at all, and what every defence is compared with.

Source: McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized
Data" (arXiv:1602.05629), algorithm 1.

Deviation: the weights are the server's own; the number of examples that a client claims is ignored.
"""

from dataclasses import dataclass
from typing import ClassVar

from gifthorse.core.clients import Aggregate, RoundContext, Updates, client_evidence
from gifthorse.core.types import Need
from gifthorse.detectors.clients.geometry import fall_back, kept, norms, weighted_mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean:
    """Federated averaging: the mean of all updates, with the server's weights."""

    paper: ClassVar[str] = "McMahan et al. 2017, arXiv:1602.05629"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.UPDATES})

    def aggregate(self, updates: Updates, context: RoundContext) -> Aggregate:
        """The weighted mean; the score of a client is the norm of its update."""
        if not len(updates):
            return fall_back(updates, context, "no update")
        accepted = kept(len(updates), range(len(updates)))
        return Aggregate(
            delta=weighted_mean(updates.deltas, updates.weights),
            accepted=accepted,
            evidence=client_evidence(norms(updates.deltas), accepted),
        )
