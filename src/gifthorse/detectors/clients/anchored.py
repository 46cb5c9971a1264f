"""Anchored trust: trusted directions, trimmed by trust, leaning on the server's own update.

Our own, after Cao et al. 2021 (FLTrust, arXiv:2012.13995). Three changes to FLTrust:

- every coordinate is a mean between quantiles of the *trust*, so that no minority sets a coordinate
  that the others leave alone (which is where a backdoor lives);
- a share of the step is the server's own update, which keeps pulling the backdoor out: FLTrust's
  step has that of its clients only;
- updates are as long as ``length`` times the server's, because the server's own update shrinks once
  it has learned its few samples, and clients that hold more data would be slowed down with it.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gifthorse.core.clients import Aggregate, RoundContext, Updates, client_evidence
from gifthorse.core.types import Need, ScoreArray
from gifthorse.detectors.clients.geometry import TINY, cosines, fall_back, norms


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchored:
    """Trust by direction, trimmed coordinates, and an anchor; needs about 100 trusted samples.

    Attributes:
        anchor: Share of the server's own update in the step, in [0, 1].
        trim: Share of the trust that is cut off at each end of every coordinate, in [0, 0.5).
        length: Length of every update, as a multiple of the server's, > 0.
    """

    paper: ClassVar[str] = "own; after Cao et al. 2021, arXiv:2012.13995"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.UPDATES, Need.TRUSTED})

    anchor: float = 0.2
    trim: float = 0.1
    length: float = 2.0

    def __post_init__(self) -> None:
        if not 0 <= self.anchor <= 1 or not 0 <= self.trim < 0.5 or not 0 < self.length < 1e6:
            raise ValueError(
                "anchor must be in [0, 1], trim in [0, 0.5) and length positive, got "
                f"{self.anchor}, {self.trim}, {self.length}"
            )

    def aggregate(self, updates: Updates, context: RoundContext) -> Aggregate:
        """The anchored step; who points away from the server's update is rejected."""
        root = context.root_delta
        if root is None or not len(updates) or float(np.linalg.norm(root)) <= TINY:
            return fall_back(updates, context, "the server has no update of its own")
        similar = cosines(updates.deltas, root[None])[:, 0]
        accepted = similar > 0
        if not accepted.any():
            return fall_back(updates, context, "no client points where the server's samples point")
        bound = self.length * float(np.linalg.norm(root))
        lengths = np.maximum(norms(updates.deltas), TINY)
        scaled = (updates.deltas * (bound / lengths)[:, None])[accepted]
        step = between_quantiles(scaled, similar[accepted], self.trim)
        return Aggregate(
            delta=self.anchor * root + (1 - self.anchor) * step,
            accepted=accepted,
            evidence=client_evidence(-similar, accepted),
        )


def between_quantiles(rows: ScoreArray, weights: ScoreArray, trim: float) -> ScoreArray:
    """Weighted mean of every column of (n, d) between its quantiles trim and 1 − trim, (d,)."""
    order = np.argsort(rows, axis=0, kind="stable")
    upper = np.cumsum((weights / weights.sum())[order], axis=0)
    inside = np.clip(upper, trim, 1 - trim)
    inside[-1] = 1 - trim  # whatever the rounding of the sum
    first = np.full((1, rows.shape[1]), trim)
    share = np.diff(np.concatenate([first, inside]), axis=0)
    return np.asarray(
        (np.take_along_axis(rows, order, axis=0) * share).sum(axis=0) / (1 - 2 * trim)
    )
