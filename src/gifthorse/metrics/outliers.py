"""One class that is not like the others: robust and studentised outlier statistics, with nulls.

A backdoor usually has one target class, so the other classes of the *same model* are its control
group. That needs no reference population and does not depend on the scale of the statistic; it
cannot see a backdoor that touches all classes alike.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import stats

from gifthorse.core.types import ScoreArray, Threshold

MAD_TO_SIGMA = 1.4826
"""Makes the median absolute deviation of normal data estimate their standard deviation."""

_SIMULATIONS = 200_000
MIN_UNITS = 4
"""With fewer classes there is no control group to speak of."""


def anomaly_indices(values: ScoreArray) -> ScoreArray:
    """Signed distance of each value *below* the median, in robust standard deviations.

    (median − v) / (1.4826 · MAD), after Wang et al. 2019 (Neural Cleanse), section V-B, with the
    sign kept: only unusually *small* values get a large index. The median of an even number of
    values is the mean of the middle two.

    Args:
        values: Shape (n,), finite.

    Returns:
        Shape (n,); all zeros if the values do not differ.
    """
    centre = np.median(values)
    mad = np.median(np.abs(values - centre)) * MAD_TO_SIGMA
    if mad <= 1e-12 * max(1.0, abs(float(centre))):
        return np.zeros_like(values)
    return np.asarray((centre - values) / mad, dtype=np.float64)


def studentised_residuals(values: ScoreArray) -> ScoreArray:
    """Externally studentised residual of each value: how far *above* the others it lies.

    Each value is compared with the mean and the standard deviation of all the others, so one
    outlier cannot hide itself by inflating the spread (Cook & Weisberg 1982, section 2.2). For
    independent normal values each residual has a t distribution with n − 2 degrees of freedom.

    Args:
        values: Shape (n,), n ≥ 3, finite.

    Returns:
        Shape (n,); zeros if the values do not differ.
    """
    n = len(values)
    if n < 3:
        raise ValueError(f"studentised residuals need at least 3 values, got {n}")
    floor = 1e-9 * max(1.0, float(np.abs(values).max()))
    values = values - values.mean()  # or the difference of squares loses all digits
    total, squares = values.sum(), (values**2).sum()
    mean = (total - values) / (n - 1)
    variance = np.maximum((squares - values**2 - (n - 1) * mean**2) / (n - 2), 0.0)
    spread = np.sqrt(variance * n / (n - 1))
    residuals = np.divide(values - mean, spread, out=np.zeros_like(values), where=spread > floor)
    return np.asarray(residuals, dtype=np.float64)


def standing_out(values: ScoreArray, *, least_spread: float) -> ScoreArray:
    """How far each class's statistic lies above the others', in units of their spread.

    The externally studentised residual (``studentised_residuals``), except that the spread is never
    taken to be less than ``least_spread``: where all classes are nearly alike, a difference without
    meaning would look enormous. That can only lower a positive residual, so the false-alarm rate
    of the null still holds.

    Args:
        values: Shape (k,), k ≥ 3.
        least_spread: Smallest standard deviation between classes that is believed.
    """
    n = len(values)
    mean = (values.sum() - values) / (n - 1)
    deviations = values - values.mean()
    squares = (deviations**2).sum() - deviations**2 * n / (n - 1)
    spread = np.sqrt(np.maximum(squares / (n - 2), least_spread**2) * n / (n - 1))
    return np.asarray((values - mean) / spread)


def spread_for(value: float, *, n: int, false_alarm_rate: float) -> float:
    """The least spread with which one class at ``value`` and the others at 0 is just significant.

    For ``standing_out``, where a paper gives an absolute threshold on a scale of its own: its
    threshold is then what is needed at ``false_alarm_rate`` if no other class comes near, and more
    where others do.
    """
    return value / (
        StudentisedNull(n).threshold(false_alarm_rate).value * float(np.sqrt(n / (n - 1)))
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SpreadPrior:
    """What is known beforehand of the spread of a statistic over a clean model's classes.

    Attributes:
        spread: Typical standard deviation over the classes of one clean model.
        weight: Degrees of freedom that this knowledge is worth.
    """

    spread: float
    weight: float


def moderated_residuals(values: ScoreArray, prior: SpreadPrior) -> ScoreArray:
    """Studentised residuals whose variance is shrunk towards a prior.

    With ten classes the spread of the others is estimated from nine values, and a model whose nine
    happen to lie close together would be flagged for a trifle. The variance is therefore the
    weighted mean of the observed one (n − 2 degrees of freedom) and the prior's, as in the
    moderated t statistic of Smyth 2004 (limma, section 4); under the null each residual has a t
    distribution with n − 2 + weight degrees of freedom.

    Args:
        values: Shape (n,), n ≥ 3, finite.
        prior: Spread known beforehand.

    Returns:
        Shape (n,); how far above the others each value lies.
    """
    n = len(values)
    if n < 3:
        raise ValueError(f"moderated residuals need at least 3 values, got {n}")
    mean = (values.sum() - values) / (n - 1)
    inner = np.array([np.delete(values, i).var(ddof=1) for i in range(n)])
    variance = ((n - 2) * inner + prior.weight * prior.spread**2) / (n - 2 + prior.weight)
    return np.asarray((values - mean) / np.sqrt(variance * n / (n - 1)), dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeratedNull:
    """Null of the largest moderated residual among ``n`` classes in ``tests`` statistics.

    Each residual is t with n − 2 + weight degrees of freedom; Bonferroni over classes and tests.
    """

    n: int
    tests: int
    weight: float
    priors: str

    @property
    def origin(self) -> str:
        """Where the false-alarm rate comes from."""
        return (
            f"analytic: largest of {self.tests} × {self.n} moderated t statistics (one-sided, "
            f"{self._freedom:g} degrees of freedom, Bonferroni); assumes log ratios close to "
            f"normal over a clean model's classes; spread shrunk towards {self.priors}"
        )

    @property
    def _freedom(self) -> float:
        return self.n - 2 + self.weight

    def p_value(self, statistic: float) -> float:
        """Probability that a clean subject's largest residual reaches ``statistic``."""
        tail = float(stats.t.sf(statistic, self._freedom))
        return min(1.0, max(self.n * self.tests * tail, 1e-300))

    def threshold(self, false_alarm_rate: float) -> Threshold:
        """The residual that a clean subject exceeds with this probability."""
        value = float(stats.t.isf(false_alarm_rate / (self.n * self.tests), self._freedom))
        return Threshold(value=value, false_alarm_rate=false_alarm_rate, origin=self.origin)


@dataclass(frozen=True, slots=True)
class StudentisedNull:
    """Null of the largest externally studentised residual among ``n`` classes.

    Grubbs' test, one-sided: each residual is t with n − 2 degrees of freedom, and Bonferroni over
    the classes is nearly exact for the maximum.
    """

    n: int

    @property
    def origin(self) -> str:
        """Where the false-alarm rate comes from."""
        return (
            f"analytic: largest of {self.n} externally studentised residuals (one-sided Grubbs "
            "test); assumes that the statistic is close to normal over a clean model's classes"
        )

    def p_value(self, statistic: float) -> float:
        """Probability that a clean subject's largest residual reaches ``statistic``."""
        return float(min(1.0, max(self.n * stats.t.sf(statistic, self.n - 2), 1e-300)))

    def threshold(self, false_alarm_rate: float) -> Threshold:
        """The residual that a clean subject exceeds with this probability."""
        value = float(stats.t.isf(false_alarm_rate / self.n, self.n - 2))
        return Threshold(value=value, false_alarm_rate=false_alarm_rate, origin=self.origin)


@dataclass(frozen=True, slots=True)
class AnomalyIndexNull:
    """Null of the largest signed anomaly index among ``n`` classes, by simulation."""

    n: int

    @property
    def origin(self) -> str:
        """Where the false-alarm rate comes from."""
        return (
            f"simulated: largest signed anomaly index of {self.n} normal values, "
            f"{_SIMULATIONS:,} draws; assumes norms close to normal over a clean model's classes"
        )

    def p_value(self, statistic: float) -> float:
        """Probability that a clean subject's largest index reaches ``statistic``."""
        draws = _simulated_indices(self.n)
        reached = len(draws) - int(np.searchsorted(draws, statistic, side="left"))
        return (reached + 1) / (len(draws) + 1)

    def threshold(self, false_alarm_rate: float) -> Threshold:
        """The index that a clean subject exceeds with this probability."""
        value = float(np.quantile(_simulated_indices(self.n), 1 - false_alarm_rate))
        return Threshold(value=value, false_alarm_rate=false_alarm_rate, origin=self.origin)


@lru_cache(maxsize=32)
def _simulated_indices(n: int) -> ScoreArray:
    """Sorted largest signed anomaly indices of normal samples; same seed, so the same for all."""
    rng = np.random.default_rng(20190519)
    largest = []
    rows = max(1, 4_000_000 // n)
    left = _SIMULATIONS
    while left > 0:
        draws = rng.standard_normal((min(rows, left), n))
        centre = np.median(draws, axis=1)
        mad = np.median(np.abs(draws - centre[:, None]), axis=1) * MAD_TO_SIGMA
        largest.append((centre - draws.min(axis=1)) / mad)
        left -= len(draws)
    return np.sort(np.concatenate(largest))
