"""Conformal p-values: worked out by hand, and their rate counted."""

import numpy as np
import pytest

from gifthorse.metrics.conformal import ConformalNull

NINETY_NINE = ConformalNull.of(np.arange(1.0, 100.0), "sha256:0")


def test_ranks_worked_out_by_hand() -> None:
    assert NINETY_NINE.p_value(0.0) == 1.0
    assert NINETY_NINE.p_value(95.0) == pytest.approx(0.06)  # 95 … 99 reach it
    assert NINETY_NINE.p_value(95.5) == pytest.approx(0.05)
    assert NINETY_NINE.p_value(99.0) == pytest.approx(0.02)
    assert NINETY_NINE.threshold(0.05).value == 95.0  # above it: at most 4 of 99
    assert NINETY_NINE.threshold(0.01).value == 99.0


def test_beyond_the_largest_the_tail_goes_on_and_never_above_the_rank() -> None:
    values = [NINETY_NINE.p_value(v) for v in (99.5, 150.0, 300.0, 3000.0)]
    assert values[0] <= 0.01
    assert values == sorted(values, reverse=True)
    assert 0 < values[-1] < 1e-4
    threshold = NINETY_NINE.threshold(0.001)
    assert threshold.value > 99.0
    assert NINETY_NINE.p_value(threshold.value + 1e-6) <= 0.001


@pytest.mark.parametrize("rate", [0.02, 0.05, 0.2])
def test_clean_models_are_flagged_at_most_at_the_rate(rate: float) -> None:
    rng = np.random.default_rng(7)
    for draw in (rng.standard_normal, rng.random, rng.standard_exponential):
        alarms = 0
        for _ in range(2000):
            null = ConformalNull.of(draw(40), "sha256:0")
            statistic = float(draw(1)[0])
            flagged = statistic > null.threshold(rate).value
            assert flagged == (null.p_value(statistic) <= rate) or statistic == pytest.approx(
                null.threshold(rate).value
            )
            alarms += flagged
        assert alarms / 2000 <= rate + 4 * np.sqrt(rate / 2000)


@pytest.mark.parametrize("values", [np.zeros(19), np.full(30, np.nan)])
def test_too_little_is_no_null(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
    with pytest.raises(ValueError, match="at least 20 finite"):
        ConformalNull.of(values, "sha256:0")
