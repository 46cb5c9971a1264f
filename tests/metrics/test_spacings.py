"""The gap after the largest value, and how often chance makes one so large."""

import math

import numpy as np
import pytest
from scipy import stats

from gifthorse.metrics.spacings import GapNull, first_gap, surprise


def test_worked_out_by_hand() -> None:
    values = np.array([2.0, 5.0, 1.5, 3.0])
    # Gaps 2, 1 and 0.5, times 1, 2 and 3: 2 over the mean of 2 and 1.5.
    assert first_gap(values) == pytest.approx(2 / 1.75)
    assert first_gap(values, least=4.0) == pytest.approx(0.5)
    assert surprise(values) == pytest.approx(-math.log(stats.f.sf(2 / 1.75, 2, 4)))


def test_too_few_values_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 4 values, got 3"):
        first_gap(np.arange(3.0))


def test_equal_values_are_no_surprise() -> None:
    assert surprise(np.ones(8)) == pytest.approx(0.0)


@pytest.mark.parametrize("kind", ["exponential", "normal", "gumbel"])
def test_the_largest_of_a_thousand_raises_no_more_alarms_than_stated(kind: str) -> None:
    rng, rate, draws = np.random.default_rng(1), 0.1, 500
    null = GapNull(tests=1)
    alarms = 0
    for _ in range(draws):
        values = np.sort(getattr(rng, kind)(size=1000))[-8:]
        alarms += null.p_value(surprise(values)) <= rate
    spread = np.sqrt(draws * rate * (1 - rate))
    assert alarms <= draws * rate + 3 * spread
    if kind == "exponential":  # where it is exact
        assert alarms >= draws * rate - 3 * spread


def test_threshold_and_p_value_agree() -> None:
    null = GapNull(tests=2)
    assert null.p_value(null.threshold(0.02).value) == pytest.approx(0.02)
    assert null.p_value(0.0) == 1.0
    assert "Bonferroni over 2 families" in null.origin
