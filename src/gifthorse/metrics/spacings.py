"""Does the largest of many values stand out from the next ones? Only the top values are needed.

If the upper tail of a distribution falls off exponentially, the gaps between its largest values
X₁ ≥ X₂ ≥ … ≥ X_k are independent: i · (X_i − X_{i+1}) has the same exponential distribution for
every i (Sukhatme 1937; Rényi 1953), however many values lie below and whatever the scale. So the
first gap divided by the mean of the others has an F distribution with 2 and 2(k − 2) degrees of
freedom. By extreme value theory this holds approximately for the largest of many values of the
normal, gamma, log-normal and similar distributions (domain of Gumbel); with a tail that ends it is
cautious, with one that falls off like a power it is not.

A handful of gaps tells little about their scale, so what clean networks have shown of it may be
added (``GapPrior``), as in the moderated statistics of Smyth 2004 (limma, section 4): if the scales
of clean networks follow an inverse gamma distribution with ``weight`` degrees of freedom around
``scale``, the first gap over the weighted mean of the other gaps and ``scale`` has an F
distribution with 2 and 2(k − 2) + weight degrees of freedom.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special, stats

from gifthorse.core.types import ScoreArray, Threshold

FEWEST = 4
"""With fewer values there are no gaps to compare the first one with."""
_LEAST = 0.01
"""Smallest mean gap that is believed: values are known no better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GapPrior:
    """What clean subjects say of the scale of the gaps.

    Attributes:
        scale: Typical mean of i · (X_i − X_{i+1}), positive.
        weight: How many degrees of freedom this is worth, at least 0; 0 for nothing.
    """

    scale: float
    weight: float

    def __post_init__(self) -> None:
        if not (self.scale > 0 and self.weight >= 0):
            raise ValueError(f"scale must be positive and weight at least 0, got {self}")


UNKNOWN = GapPrior(scale=1.0, weight=0.0)
"""Nothing is known beforehand."""


def weighted_gaps(values: ScoreArray) -> ScoreArray:
    """Gaps times their rank, i · (X_i − X_{i+1}) of the k values, largest first: shape (k − 1,)."""
    ordered = np.sort(np.asarray(values, dtype=np.float64))[::-1]
    return np.asarray((ordered[:-1] - ordered[1:]) * np.arange(1, len(ordered)))


def first_gap(values: ScoreArray, prior: GapPrior = UNKNOWN, *, least: float = _LEAST) -> float:
    """(X₁ − X₂) over the mean of i · (X_i − X_{i+1}) for i ≥ 2, moderated by the prior.

    Args:
        values: The k largest of many values, in any order, k ≥ 4, finite.
        prior: What is known of that mean beforehand.
        least: The mean is never taken to be less. That can only lower the result.
    """
    if len(values) < FEWEST:
        raise ValueError(f"gaps need at least {FEWEST} values, got {len(values)}")
    gaps = weighted_gaps(values)
    freedom = 2 * (len(gaps) - 1)
    mean = (2 * gaps[1:].sum() + prior.weight * prior.scale) / (freedom + prior.weight)
    return float(gaps[0] / max(float(mean), least))


def surprise(values: ScoreArray, prior: GapPrior = UNKNOWN, *, least: float = _LEAST) -> float:
    """−ln of the probability of so large a ``first_gap`` among as many values, ≥ 0.

    Under the null it has the standard exponential distribution, whatever the number of values.
    """
    freedom = 2 * (len(values) - 2) + prior.weight
    return -float(stats.f.logsf(first_gap(values, prior, least=least), 2, freedom))


def fitted_prior(subjects: list[ScoreArray], *, most: float) -> GapPrior:
    """Scale and weight from the largest values of clean subjects, by moments of the logarithm.

    Smyth 2004, section 6.2: if the mean gap of a subject is scale · F with 2(k − 1) and ``weight``
    degrees of freedom, then mean and variance of its logarithm give both.

    Args:
        subjects: The k ≥ 4 largest values of each of at least three clean subjects.
        most: The weight is never taken to be more: few subjects can agree by chance.
    """
    if len(subjects) < 3:
        raise ValueError(f"a prior needs at least 3 clean subjects, got {len(subjects)}")
    means = np.log([max(float(weighted_gaps(values).mean()), _LEAST) for values in subjects])
    halves = np.array([len(values) - 1.0 for values in subjects])
    left = float(means.var(ddof=1) - special.polygamma(1, halves).mean())
    centred = means - special.digamma(halves) + np.log(halves)
    half = most / 2
    if left > float(special.polygamma(1, half)):
        half = float(optimize.brentq(lambda h: special.polygamma(1, h) - left, 1e-3, half))
    scale = math.exp(float(centred.mean()) + float(special.digamma(half)) - math.log(half))
    return GapPrior(scale=scale, weight=2 * half)


@dataclass(frozen=True, slots=True, kw_only=True)
class GapNull:
    """Null of the largest ``surprise`` among ``tests`` families.

    Attributes:
        tests: Families that are looked at.
        priors: What is said of the scale of the gaps; empty if nothing is assumed of it.
    """

    tests: int
    priors: str = ""

    @property
    def origin(self) -> str:
        """Where the false-alarm rate comes from."""
        scale = f"; scale of the gaps moderated by {self.priors}" if self.priors else ""
        return (
            "analytic: the gap between the first and the second of the classes that are easiest to "
            "reach, over the gaps below them (−ln p of an F test, Bonferroni over "
            f"{self.tests} families); assumes that log sizes have an exponential tail over a clean "
            f"model's easiest classes{scale}"
        )

    def p_value(self, statistic: float) -> float:
        """Probability that a clean subject's largest statistic reaches ``statistic``."""
        return min(1.0, max(self.tests * math.exp(-statistic), 1e-300))

    def threshold(self, false_alarm_rate: float) -> Threshold:
        """The statistic that a clean subject exceeds with this probability."""
        value = math.log(self.tests / false_alarm_rate)
        return Threshold(value=value, false_alarm_rate=false_alarm_rate, origin=self.origin)
