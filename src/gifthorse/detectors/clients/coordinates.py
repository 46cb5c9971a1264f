"""Robust location of every coordinate: median and trimmed mean.

Source: Yin et al. 2018, "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates"
(arXiv:1803.01498), definitions 1 and 2. The median of an even number is the mean of the middle two
(``torch.median`` takes the lower one).
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gifthorse.core.clients import Aggregate, RoundContext, Updates, client_evidence
from gifthorse.core.types import Need, ScoreArray
from gifthorse.detectors.clients.geometry import fall_back, kept, norms


def _blend(updates: Updates, step: ScoreArray) -> Aggregate:
    """All are accepted; a client's score is its distance to the step."""
    accepted = kept(len(updates), range(len(updates)))
    return Aggregate(
        delta=step,
        accepted=accepted,
        evidence=client_evidence(norms(updates.deltas - step), accepted),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Median:
    """The median of every coordinate; breaks down at half of the clients."""

    paper: ClassVar[str] = "Yin et al. 2018, arXiv:1803.01498"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.UPDATES})

    def aggregate(self, updates: Updates, context: RoundContext) -> Aggregate:
        """Coordinate-wise median, without weights."""
        if not len(updates):
            return fall_back(updates, context, "no update")
        return _blend(updates, np.median(updates.deltas, axis=0))


@dataclass(frozen=True, slots=True, kw_only=True)
class TrimmedMean:
    """The mean of every coordinate without its largest and smallest values.

    Attributes:
        trim: Share cut off at *each* end, in (0, 0.5).
    """

    paper: ClassVar[str] = "Yin et al. 2018, arXiv:1803.01498"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.UPDATES})

    trim: float = 0.2

    def __post_init__(self) -> None:
        if not 0 < self.trim < 0.5:
            raise ValueError(f"trim must be in (0, 0.5), got {self.trim}")

    def aggregate(self, updates: Updates, context: RoundContext) -> Aggregate:
        """Coordinate-wise trimmed mean, without weights."""
        n = len(updates)
        cut = int(np.ceil(self.trim * n))
        if n - 2 * cut < 1:
            return fall_back(updates, context, f"{n} updates leave nothing between the cuts")
        ordered = np.sort(updates.deltas, axis=0)
        return _blend(updates, ordered[cut : n - cut].mean(axis=0))
