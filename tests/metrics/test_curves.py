"""ROC curves against hand-made ones and the area that counts pairs."""

import numpy as np
import pytest

from gifthorse.core.record import Rate
from gifthorse.metrics.curves import found_at, mean_curve, roc_curve, thinned
from gifthorse.metrics.rates import (
    defence_effectiveness,
    defence_effectiveness_bounds,
    rate,
    rate_change,
    roc_auc,
)


def test_a_curve_by_hand() -> None:
    scores = np.array([3.0, 2.0, 2.0, 1.0])
    positive = np.array([True, True, False, False])
    assert roc_curve(scores, positive) == ((0, 0), (0, 0.5), (0.5, 1), (1, 1))


def test_its_area_is_the_probability_of_order() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        scores = rng.integers(0, 12, 60).astype(float)
        positive = rng.random(60) < 0.4
        x, y = np.array(roc_curve(scores, positive)).T
        assert np.trapezoid(y, x) == pytest.approx(roc_auc(scores, positive))


def test_a_mean_of_equal_curves_is_the_curve() -> None:
    curve = ((0.0, 0.0), (0.0, 0.5), (0.5, 1.0), (1.0, 1.0))
    found = dict(mean_curve([curve, curve], steps=3)[1:])
    assert found == {0.0: 0.5, 0.5: 1.0, 1.0: 1.0}


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        roc_curve(np.array([np.nan, 1]), np.array([True, False]))
    with pytest.raises(ValueError, match="positives and negatives"):
        roc_curve(np.array([1.0, 2.0]), np.array([True, True]))
    with pytest.raises(ValueError, match="no curves"):
        mean_curve([])


def test_thinning_keeps_the_ends() -> None:
    curve = tuple((i / 999, i / 999) for i in range(1000))
    assert len(thinned(curve, 50)) <= 50
    assert (thinned(curve, 50)[0], thinned(curve, 50)[-1]) == (curve[0], curve[-1])


def test_the_change_of_a_rate_newcombe_1998() -> None:
    # Newcombe 1998, table II, example (a), method 10: 56/70 − 48/80.
    low, high = rate_change(rate(56, 70), rate(48, 80))
    assert low == pytest.approx(0.0524, abs=1e-4)
    assert high == pytest.approx(0.3339, abs=1e-4)


def test_bounds_of_der_hold_its_value_and_cover_the_truth() -> None:
    rng = np.random.default_rng(1)
    truth = {"ca_before": 0.9, "ca_after": 0.88, "asr_before": 0.95, "asr_after": 0.3}
    wanted, held = defence_effectiveness(**truth), 0
    for _ in range(400):
        drawn: dict[str, Rate] = {
            name: rate(int(rng.binomial(200, p)), 200) for name, p in truth.items()
        }
        low, high = defence_effectiveness_bounds(**drawn)
        value = defence_effectiveness(**{name: found.value for name, found in drawn.items()})
        assert low <= value <= high
        held += low <= wanted <= high
    assert held >= 380  # 95 % of 400


def test_positives_found_at_a_rate_of_false_ones() -> None:
    scores = np.array([9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0])
    positive = np.array([1, 0, 1, 1, 0, 0, 1, 0], dtype=np.bool_)
    assert found_at(scores, positive, 0.0) == 1  # only 9 lies above the highest clean score, 8
    assert found_at(scores, positive, 0.25) == 3  # one clean one may: the threshold is 5
    assert found_at(scores, positive, 0.24) == 1
    assert found_at(np.ones(8), positive, 0.9) == 0  # ties are nobody's success
    with pytest.raises(ValueError, match="no threshold"):
        found_at(scores, np.ones(8, dtype=np.bool_), 0.1)
