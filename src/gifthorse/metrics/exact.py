"""A statistic that is a p-value already, and counting inputs beyond a calibrated threshold."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.special import logsumexp

from gifthorse.core.types import Threshold

_LOWEST_P = 1e-300


def surprise(p_value: float) -> float:
    """−log10 of a p-value, at least 0 and finite: 2 means one in a hundred."""
    if not 0 <= p_value <= 1:
        raise ValueError(f"a p-value is in [0, 1], got {p_value}")
    return -math.log10(max(p_value, _LOWEST_P)) + 0.0


def exceedance_p_value(count: int, total: int, *, rank: int, calibration: int) -> float:
    """Probability that at least ``count`` of ``total`` new values exceed the ``rank``-th largest.

    If the new values and the ``calibration`` earlier ones are exchangeable and without ties, the
    number of new ones above the ``rank``-th largest earlier one is beta-binomial with parameters
    (total, rank, calibration + 1 − rank), whatever their distribution (Wilks 1942).

    Args:
        count: New values above, in [0, total].
        total: New values, at least 1.
        rank: In [1, calibration].
        calibration: Earlier values.
    """
    if not (0 <= count <= total and total >= 1 and 1 <= rank <= calibration):
        raise ValueError(f"{count} of {total} above rank {rank} of {calibration} is not possible")
    # The survival function of scipy is one minus a sum, and so never below 1e-16.
    tail = stats.betabinom.logpmf(np.arange(count, total + 1), total, rank, calibration + 1 - rank)
    return float(min(1.0, np.exp(logsumexp(tail))))


@dataclass(frozen=True, slots=True)
class SurpriseNull:
    """Null of a statistic that is −log10 of a valid p-value.

    ``basis`` says in a clause where that p-value comes from.
    """

    basis: str

    @property
    def origin(self) -> str:
        """Where the false-alarm rate comes from."""
        return f"exact: the statistic is −log10 of a p-value; {self.basis}"

    def p_value(self, statistic: float) -> float:
        """Probability that a clean subject reaches ``statistic``."""
        return float(min(1.0, max(10.0**-statistic, _LOWEST_P)))

    def threshold(self, false_alarm_rate: float) -> Threshold:
        """The value that a clean subject exceeds with at most this probability."""
        return Threshold(
            value=-math.log10(false_alarm_rate),
            false_alarm_rate=false_alarm_rate,
            origin=self.origin,
        )


@dataclass(frozen=True, slots=True)
class RuleNull:
    """A statistic that counts broken rules: one is enough, and there is no rate behind it.

    ``basis`` says in a clause why honest subjects break none.
    """

    basis: str

    @property
    def origin(self) -> str:
        """That it is a rule."""
        return f"a rule and no test, so no rate of false alarms is known: {self.basis}"

    def p_value(self, statistic: float) -> float:
        """1 for nothing broken; else a small number that stands for "never"."""
        return 1.0 if statistic < 0.5 else 1e-9

    def threshold(self, false_alarm_rate: float) -> Threshold:
        """Half a rule, whatever the rate."""
        return Threshold(value=0.5, false_alarm_rate=false_alarm_rate, origin=self.origin)
