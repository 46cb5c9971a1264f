"""Explained steps: what the server's own samples explain is averaged, the rest is trimmed.

Our own. Clients that hold few classes send updates that differ as much as an attacker's do, and
whatever cuts off minorities cuts off rare classes with the backdoor. But rare *classes* are known
to a server with a hundred samples, and the backdoor is not: an honest update is mostly a mixture of
the gradients of such samples, and a trigger's is not. So every update falls in two:

- its part in the span of the gradients of the server's samples, one gradient a sample: averaged
  over all clients, so that no class is lost;
- the rest: every coordinate is a mean between quantiles of the trust (the cosine with the server's
  own update, after Cao et al. 2021, FLTrust, arXiv:2012.13995), so that no minority sets it.

As in ``anchored``, updates are as long as a multiple of the server's own, which is mixed in. Steps
are averaged over rounds, which takes the swing out of them.

Nobody is rejected: an update is taken apart instead. Its score is the share that is unexplained.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gifthorse.core.clients import Aggregate, RoundContext, Updates, client_evidence
from gifthorse.core.types import Need
from gifthorse.detectors.clients.anchored import between_quantiles
from gifthorse.detectors.clients.geometry import TINY, cosines, fall_back, kept, norms


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """Averages what trusted samples explain of every update, and trims the rest.

    Attributes:
        anchor: Share of the server's own update in the step, in [0, 1].
        trim: Share of the trust cut off at each end of an unexplained coordinate, in [0, 0.5).
        length: Length of every update, as a multiple of the server's, > 0.
        momentum: Share of the last step in the next one, in [0, 1).
    """

    paper: ClassVar[str] = "own; after Cao et al. 2021, arXiv:2012.13995"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.UPDATES, Need.TRUSTED, Need.GRADIENTS})

    anchor: float = 0.2
    trim: float = 0.2
    length: float = 2.0
    momentum: float = 0.5

    def __post_init__(self) -> None:
        if (
            not 0 <= self.anchor <= 1
            or not 0 <= self.trim < 0.5
            or not 0 < self.length < 1e6
            or not 0 <= self.momentum < 1
        ):
            raise ValueError(
                "anchor must be in [0, 1], trim in [0, 0.5), length positive and momentum in "
                f"[0, 1), got {self.anchor}, {self.trim}, {self.length}, {self.momentum}"
            )

    def aggregate(self, updates: Updates, context: RoundContext) -> Aggregate:
        """Explained mean, trimmed rest, anchor, momentum."""
        root = context.root_delta
        if root is None or context.span is None or float(np.linalg.norm(root)) <= TINY:
            return fall_back(updates, context, "the server has no samples of its own")
        if not len(updates):
            return fall_back(updates, context, "no update")
        lengths = np.maximum(norms(updates.deltas), TINY)
        bound = self.length * float(np.linalg.norm(root))
        scaled = updates.deltas * (bound / lengths)[:, None]
        span = context.span()
        shares = scaled @ span.T
        rest = scaled - shares @ span
        step = shares.mean(axis=0) @ span
        trust = np.maximum(cosines(updates.deltas, root[None])[:, 0], 0)
        if trust.any():
            trusted = trust > 0
            step = step + between_quantiles(rest[trusted], trust[trusted], self.trim)
        step = self.anchor * root + (1 - self.anchor) * step
        last = context.memory.get("step", np.zeros_like(step))
        step = self.momentum * last + (1 - self.momentum) * step
        accepted = kept(len(updates), range(len(updates)))
        return Aggregate(
            delta=step,
            accepted=accepted,
            evidence=client_evidence(norms(rest) / bound, accepted),
            memory={"step": step},
        )
