"""P-values against a reference population: how many clean subjects are as extreme as this one?

Vovk, Gammerman & Shafer 2005, "Algorithmic Learning in a Random World", section 2.2: if the subject
is exchangeable with the n references, p = (1 + #{references ≥ statistic}) / (n + 1) is at most α
with probability at most α, whatever the distribution.

That p is never below 1 / (n + 1). Beyond the largest reference the upper tail is taken as
exponential, which is an assumption and is said so (``metrics/tails.py``).
"""

from dataclasses import dataclass

import numpy as np

from gifthorse.core.types import ScoreArray, Threshold
from gifthorse.metrics.tails import TailNull

LEAST_REFERENCES = 20
"""Fewer clean models say too little about the upper tail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConformalNull:
    """A statistic judged by those of clean subjects.

    Attributes:
        references: Statistics of clean subjects, shape (n,), sorted, n ≥ ``LEAST_REFERENCES``.
        bank: Digest of the bank that they come from.
    """

    references: tuple[float, ...]
    bank: str

    @classmethod
    def of(cls, statistics: ScoreArray, bank: str) -> "ConformalNull":
        """From unsorted statistics.

        Raises:
            ValueError: Too few, or not finite.
        """
        if len(statistics) < LEAST_REFERENCES or not np.isfinite(statistics).all():
            raise ValueError(
                f"a bank needs at least {LEAST_REFERENCES} finite statistics, got {len(statistics)}"
            )
        return cls(references=tuple(np.sort(statistics).tolist()), bank=bank)

    @property
    def origin(self) -> str:
        """Where the false-alarm rate comes from."""
        n = len(self.references)
        return (
            f"conformal: {n} clean reference models of the bank {self.bank}, of which this one is "
            f"taken to be one more; p-values below 1/{n + 1} continue their upper tail as "
            "exponential"
        )

    def p_value(self, statistic: float) -> float:
        """Probability that a clean subject reaches ``statistic``, in (0, 1]."""
        n = len(self.references)
        reached = n - int(np.searchsorted(self.references, statistic, side="left"))
        rank = (1 + reached) / (n + 1)
        if reached:
            return rank
        return float(min(rank, self._tail().p_value(statistic)))

    def threshold(self, false_alarm_rate: float) -> Threshold:
        """The value that a clean subject exceeds with at most this probability."""
        n = len(self.references)
        allowed = int(np.floor(false_alarm_rate * (n + 1) + 1e-9)) - 1
        if allowed >= 0:
            value = self.references[n - 1 - allowed]
        else:
            value = max(self.references[-1], self._tail().threshold(false_alarm_rate).value)
        return Threshold(value=value, false_alarm_rate=false_alarm_rate, origin=self.origin)

    def _tail(self) -> TailNull:
        """Of one more value beside the references: the subject's own chance, not the largest's."""
        whole = TailNull.of(np.array(self.references), what="clean reference models")
        return TailNull(
            start=whole.start,
            scale=whole.scale,
            excesses=whole.excesses,
            count=1,
            what=whole.what,
        )
