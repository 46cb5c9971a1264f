"""Is the largest of several positive values too large for a gamma distribution of the others?"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import stats

from gifthorse.core.types import ScoreArray, Threshold
from gifthorse.metrics.exact import surprise

_SIMULATIONS = 20_000
_LOWEST, _HIGHEST = 0.05, 1e6


def gamma_shape_and_scale(values: ScoreArray) -> tuple[ScoreArray, ScoreArray]:
    """Shape and scale of a gamma distribution, in closed form.

    Ye & Chen 2017, The American Statistician 71:177, with their correction for small samples.

    Args:
        values: Shape (…, n), n ≥ 3, positive; one distribution a row.

    Returns:
        Two arrays of shape (…).
    """
    n = values.shape[-1]
    logs = np.log(values)
    mean, products = values.mean(-1), (values * logs).mean(-1)
    scale = np.maximum(products - mean * logs.mean(-1), 1e-12 * mean)
    shape = np.clip(mean / scale, _LOWEST, _HIGHEST)
    ratio = shape / (1 + shape)
    corrected = shape - (3 * shape - 2 / 3 * ratio - 4 / 5 * ratio / (1 + shape)) / n
    shape = np.clip(corrected, _LOWEST, _HIGHEST)
    return shape, mean / shape


def largest_value_surprise(values: ScoreArray) -> ScoreArray:
    """−log10 of the probability that the largest of n such values is as large as it is.

    Wang et al. 2024 (MM-BD), section 3.3: a gamma distribution G is fitted to all values but the
    largest, and p = 1 − G(largest)ⁿ.

    Args:
        values: Shape (…, n), n ≥ 4, positive.

    Returns:
        Shape (…), ≥ 0, at most 300.
    """
    ordered = np.sort(values, axis=-1)
    shape, scale = gamma_shape_and_scale(ordered[..., :-1])
    beyond = stats.gamma.sf(ordered[..., -1] / scale, shape)
    # 1 − (1 − s)ⁿ without losing the digits of a small s.
    p = -np.expm1(values.shape[-1] * np.log1p(-np.minimum(beyond, 1 - 1e-16)))
    return np.asarray(-np.log10(np.clip(p, 1e-300, 1.0)) + 0.0)


@dataclass(frozen=True, slots=True)
class PublishedGammaNull:
    """The paper's own: the statistic is −log10 p, and p is believed."""

    @property
    def origin(self) -> str:
        """Where the false-alarm rate comes from."""
        return (
            "as published: −log10 of 1 − G(largest)ⁿ with a gamma distribution G fitted to the "
            "others; takes the fit of so few values for the truth, and so flags too often"
        )

    def p_value(self, statistic: float) -> float:
        """Probability that a clean subject reaches ``statistic``."""
        return float(min(1.0, max(10.0**-statistic, 1e-300)))

    def threshold(self, false_alarm_rate: float) -> Threshold:
        """The value that a clean subject exceeds with this probability, if the fit were exact."""
        return Threshold(
            value=surprise(false_alarm_rate),
            false_alarm_rate=false_alarm_rate,
            origin=self.origin,
        )


@dataclass(frozen=True, slots=True)
class SimulatedGammaNull:
    """The same statistic over n values of a gamma distribution of this shape, by simulation.

    The fit is repeated in every draw, so that its uncertainty counts. The scale does not matter.

    Attributes:
        n: Values.
        shape: Of the gamma distribution.
    """

    n: int
    shape: float

    @property
    def origin(self) -> str:
        """Where the false-alarm rate comes from."""
        return (
            f"simulated: the same statistic over {self.n} values of a gamma distribution of shape "
            f"{self.shape:.3g}, {_SIMULATIONS:,} draws; assumes that margins of a clean model's "
            "classes are gamma distributed"
        )

    def p_value(self, statistic: float) -> float:
        """Probability that a clean subject reaches ``statistic``."""
        draws = _simulated(self.n, self.shape)
        reached = len(draws) - int(np.searchsorted(draws, statistic, side="left"))
        return (reached + 1) / (len(draws) + 1)

    def threshold(self, false_alarm_rate: float) -> Threshold:
        """The value that a clean subject exceeds with this probability."""
        value = float(np.quantile(_simulated(self.n, self.shape), 1 - false_alarm_rate))
        return Threshold(value=value, false_alarm_rate=false_alarm_rate, origin=self.origin)


@lru_cache(maxsize=32)
def _simulated(n: int, shape: float) -> ScoreArray:
    rng = np.random.default_rng(20240520)
    rows = max(1, 2_000_000 // n)
    parts, left = [], _SIMULATIONS
    while left > 0:
        draws = rng.gamma(shape, size=(min(rows, left), n)).clip(1e-12)
        parts.append(largest_value_surprise(draws))
        left -= len(draws)
    return np.sort(np.concatenate(parts))
