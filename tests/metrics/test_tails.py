"""The tail null: calibrated on exponential scores, and it finds an outlier."""

import numpy as np
import pytest

from gifthorse.metrics.tails import TailNull


def test_false_alarms_are_as_stated() -> None:
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(2000):
        scores = np.sort(rng.exponential(2.0, 40) + 1)
        alarms += TailNull.of(scores[:-1], what="scores").p_value(float(scores[-1])) < 0.05
    # The largest is taken out of the group that it is compared with, which costs a little.
    assert 0.03 < alarms / 2000 < 0.1


def test_an_outlier_is_found_and_the_threshold_inverts_the_p_value() -> None:
    rng = np.random.default_rng(1)
    null = TailNull.of(rng.exponential(1.0, 40), what="scores")
    assert null.p_value(25.0) < 1e-3
    assert null.p_value(null.start) == 1.0
    for rate in (0.2, 0.05, 0.01):
        assert null.p_value(null.threshold(rate).value) == pytest.approx(rate, rel=1e-6)


def test_too_few_scores_are_refused() -> None:
    with pytest.raises(ValueError, match="no tail"):
        TailNull.of(np.ones(3), what="scores")
