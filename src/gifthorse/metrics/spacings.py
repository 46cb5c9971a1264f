"""Does the largest of many values stand out from the next ones? Only the top values are needed.

If the upper tail of a distribution falls off exponentially, the gaps between its largest values
X₁ ≥ X₂ ≥ … ≥ X_k are independent: i · (X_i − X_{i+1}) has the same exponential distribution for
every i (Sukhatme 1937; Rényi 1953), however many values lie below and whatever the scale. So the
first gap divided by the mean of the others has an F distribution with 2 and 2(k − 2) degrees of
freedom. By extreme value theory this holds approximately for the largest of many values of the
normal, gamma, log-normal and similar distributions (domain of Gumbel); with a tail that ends it is
cautious, with one that falls off like a power it is not.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from gifthorse.core.types import ScoreArray, Threshold

FEWEST = 4
"""With fewer values there are no gaps to compare the first one with."""
_LEAST = 0.01
"""Smallest mean gap that is believed: values are known no better."""


def first_gap(values: ScoreArray, *, least: float = _LEAST) -> float:
    """(X₁ − X₂) over the mean of i · (X_i − X_{i+1}) for i ≥ 2.

    Args:
        values: The k largest of many values, in any order, k ≥ 4, finite.
        least: The mean is never taken to be less. That can only lower the result.
    """
    if len(values) < FEWEST:
        raise ValueError(f"gaps need at least {FEWEST} values, got {len(values)}")
    ordered = np.sort(np.asarray(values, dtype=np.float64))[::-1]
    gaps = (ordered[:-1] - ordered[1:]) * np.arange(1, len(ordered))
    return float(gaps[0] / max(float(gaps[1:].mean()), least))


def surprise(values: ScoreArray, *, least: float = _LEAST) -> float:
    """−ln of the probability of so large a ``first_gap`` among as many values, ≥ 0.

    Under the null it has the standard exponential distribution, whatever the number of values.
    """
    freedom = 2 * (len(values) - 2)
    return -float(stats.f.logsf(first_gap(values, least=least), 2, freedom))


@dataclass(frozen=True, slots=True, kw_only=True)
class GapNull:
    """Null of the largest ``surprise`` among ``tests`` families."""

    tests: int

    @property
    def origin(self) -> str:
        """Where the false-alarm rate comes from."""
        return (
            "analytic: the gap between the first and the second of the classes that are easiest to "
            "reach, over the gaps below them (−ln p of an F test, Bonferroni over "
            f"{self.tests} families); assumes that log sizes have an exponential tail over a clean "
            "model's easiest classes"
        )

    def p_value(self, statistic: float) -> float:
        """Probability that a clean subject's largest statistic reaches ``statistic``."""
        return min(1.0, max(self.tests * math.exp(-statistic), 1e-300))

    def threshold(self, false_alarm_rate: float) -> Threshold:
        """The statistic that a clean subject exceeds with this probability."""
        value = math.log(self.tests / false_alarm_rate)
        return Threshold(value=value, false_alarm_rate=false_alarm_rate, origin=self.origin)
