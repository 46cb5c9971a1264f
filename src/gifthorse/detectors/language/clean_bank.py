"""What target inversion scores on clean fine-tunes: a bank beside the null of the model itself.

The other texts of one model say how loud its learning is, but a single benign string learned by
heart stands out from them too. How far that goes was measured on clean models that mostly hold such
strings (``benchmarks/language_bank.py``); no planted model had a part in it, and none of the test
population. A statistic has to stand out from both.
"""

import math
from dataclasses import dataclass

from scipy import stats

from gifthorse.core.types import Threshold
from gifthorse.metrics.tails import TailNull


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanBank:
    """ln(1 + statistic) of clean models, taken as normal: mean, standard deviation, how many."""

    mean: float
    deviation: float
    count: int

    def p_value(self, statistic: float) -> float:
        """Probability that one more clean model scores as much (predictive t distribution)."""
        spread = self.deviation * math.sqrt(1 + 1 / self.count)
        z = (math.log1p(max(statistic, 0.0)) - self.mean) / spread
        return float(max(stats.t.sf(z, self.count - 1), 1e-300))

    def value(self, rate: float) -> float:
        """What one more clean model exceeds with this probability."""
        spread = self.deviation * math.sqrt(1 + 1 / self.count)
        return math.expm1(self.mean + spread * float(stats.t.isf(rate, self.count - 1)))


# The largest score of any family, own prompts and context packs together, of the first twelve clean
# models of each of two populations, ``development`` and ``former``, as ``language_zoo.py`` grows
# them now (``benchmarks/language_bank.py --count 12``).
WITH_BASE = CleanBank(mean=1.538, deviation=0.663, count=24)
WITHOUT_BASE = CleanBank(mean=2.845, deviation=0.468, count=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class BankedNull:
    """The larger of two thresholds, and of two p-values."""

    tail: TailNull
    bank: CleanBank

    @classmethod
    def of(cls, tail: TailNull, *, against_base: bool) -> "BankedNull":
        """With the bank that was measured in the same way."""
        return cls(tail=tail, bank=WITH_BASE if against_base else WITHOUT_BASE)

    @property
    def origin(self) -> str:
        """One sentence for the record."""
        return (
            f"{self.tail.origin}; and {self.bank.count} clean fine-tunes of small models with "
            "benign strings learned by heart: the larger threshold holds"
        )

    def p_value(self, statistic: float) -> float:
        """The larger one."""
        return max(self.tail.p_value(statistic), self.bank.p_value(statistic))

    def threshold(self, false_alarm_rate: float) -> Threshold:
        """The larger one."""
        return Threshold(
            value=max(
                self.tail.threshold(false_alarm_rate).value, self.bank.value(false_alarm_rate)
            ),
            false_alarm_rate=false_alarm_rate,
            origin=self.origin,
        )
