"""Norm clipping with weak differential privacy.

Source: Sun et al. 2019, "Can You Really Backdoor Federated Learning?" (arXiv:1911.07963), section
4: every update is scaled to at most a bound, then Gaussian noise is added to the aggregate.

Deviation: with ``bound = 0`` the bound is the median norm of the round, because the papers' fixed
bounds fit their own models only. The noise is relative to that bound for the same reason.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gifthorse.core.clients import Aggregate, RoundContext, Updates, client_evidence
from gifthorse.core.types import Need
from gifthorse.detectors.clients.geometry import clipped, fall_back, kept, norms


@dataclass(frozen=True, slots=True, kw_only=True)
class Clipping:
    """Clips every update to a norm, averages without weights, adds weak noise.

    Attributes:
        bound: Largest norm; 0 for the median norm of the round.
        noise: Standard deviation of the noise, as a share of the bound over √d, ≥ 0.
    """

    paper: ClassVar[str] = "Sun et al. 2019, arXiv:1911.07963"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.UPDATES})

    bound: float = 0.0
    noise: float = 0.05

    def __post_init__(self) -> None:
        if not 0 <= self.bound < math.inf or not 0 <= self.noise < 1e6:
            raise ValueError(f"bound and noise must be ≥ 0, got {self.bound}, {self.noise}")

    def aggregate(self, updates: Updates, context: RoundContext) -> Aggregate:
        """The mean of clipped updates, plus noise once."""
        if not len(updates):
            return fall_back(updates, context, "no update")
        lengths = norms(updates.deltas)
        bound = self.bound or float(np.median(lengths))
        step = clipped(updates.deltas, bound).mean(axis=0)
        step = step + context.rng.normal(0, 1, len(step)) * (self.noise * bound / len(step) ** 0.5)
        accepted = kept(len(updates), range(len(updates)))
        return Aggregate(delta=step, accepted=accepted, evidence=client_evidence(lengths, accepted))
