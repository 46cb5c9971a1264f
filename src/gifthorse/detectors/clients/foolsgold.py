"""FoolsGold: clients that always push the same way are one and the same attacker.

Source: Fung, Yoon, Beschastnikh 2020, "The Limitations of Federated Learning in Sybil Settings"
(RAID; arXiv:1808.04866), algorithm 1, on the output layer as indicative features.

Deviations: the step is the mean weighted by the learning rates, not their sum (updates here are
those of whole local trainings). A client without history starts with this round's update.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gifthorse.core.clients import Aggregate, RoundContext, Updates, client_evidence
from gifthorse.core.types import Need, ScoreArray
from gifthorse.detectors.clients.geometry import cosines, fall_back, weighted_mean


@dataclass(frozen=True, slots=True, kw_only=True)
class FoolsGold:
    """Lowers the weight of clients whose history is too similar.

    Attributes:
        confidence: κ of the logit, > 0.
    """

    paper: ClassVar[str] = "Fung et al. 2020, arXiv:1808.04866"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.UPDATES})

    confidence: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.confidence < 1e6:
            raise ValueError(f"confidence must be positive, got {self.confidence}")

    def aggregate(self, updates: Updates, context: RoundContext) -> Aggregate:
        """Mean weighted by dissimilarity of histories; weight 0 is a rejection."""
        if not len(updates):
            return fall_back(updates, context, "no update")
        weight, bias = context.layout.output(updates.deltas)
        now = np.concatenate([weight.reshape(len(updates), -1), bias], axis=1)
        memory = dict(context.memory)
        for client, row in zip(updates.clients, now, strict=True):
            memory[client] = memory[client] + row if client in memory else row
        rates = learning_rates(np.stack([memory[c] for c in updates.clients]), self.confidence)
        accepted = rates > 0
        if not accepted.any():
            back = fall_back(updates, context, "all histories are alike")
            return Aggregate(
                delta=back.delta,
                accepted=back.accepted,
                evidence=back.evidence,
                fallback=back.fallback,
                memory=memory,
            )
        return Aggregate(
            delta=weighted_mean(updates.deltas[accepted], rates[accepted]),
            accepted=accepted,
            evidence=client_evidence(1 - rates, accepted),
            memory=memory,
        )


def learning_rates(histories: ScoreArray, confidence: float) -> ScoreArray:
    """Weight of each of (n, d) histories in [0, 1], shape (n,): algorithm 1, lines 8 to 16."""
    n = len(histories)
    if n == 1:
        return np.ones(1)
    similar = cosines(histories, histories)
    np.fill_diagonal(similar, -np.inf)
    highest = similar.max(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        pardon = np.where(highest[None] > highest[:, None], highest[:, None] / highest[None], 1.0)
    # A negative likeness is no likeness to be pardoned.
    pardoned = np.where(similar > 0, similar * pardon, similar)
    rates = np.clip(1 - pardoned.max(axis=1), 0, 1)
    if rates.max() <= 0:
        return np.zeros(n)
    rates = rates / rates.max()
    rates = np.clip(rates, 1e-12, 1 - 1e-12)
    return np.asarray(np.clip(confidence * (np.log(rates / (1 - rates)) + 0.5), 0, 1))
