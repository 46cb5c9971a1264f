"""Outlier statistics against values worked out by hand, and their nulls against simulation."""

import numpy as np
import pytest
from scipy import stats

from gifthorse.core.types import ScoreArray
from gifthorse.metrics.outliers import (
    AnomalyIndexNull,
    ModeratedNull,
    SpreadPrior,
    StudentisedNull,
    anomaly_indices,
    moderated_residuals,
    studentised_residuals,
)

PRIOR = SpreadPrior(spread=0.2, weight=6.0)


def scores(*values: float) -> ScoreArray:
    return np.array(values, dtype=np.float64)


def test_anomaly_index_is_the_published_one_of_neural_cleanse() -> None:
    # GTSRB, 43 classes, infected label 33; README of the authors' code. Their "MAD" is already
    # normalised: 64.466667 − 16.117647 = 48.34902 = 3.652087 × 13.238736.
    median, mad, infected = 64.466667, 13.238736, 16.117647
    raw = mad / 1.4826
    # 21 values below the median and 21 above; of the absolute deviations 21 are smaller than
    # `raw` and 21 larger, so that the one in the middle is `raw`.
    near = [median + sign * raw / 2 for sign in (-1, 1) for _ in range(10)]
    below, above = [median - 1.2 * raw] * 9, [median + 1.2 * raw] * 11
    norms = scores(infected, median, median - raw, *near, *below, *above)
    assert len(norms) == 43
    assert np.median(norms) == pytest.approx(median, abs=1e-9)
    indices = anomaly_indices(norms)
    assert int(indices.argmax()) == 0
    assert indices[0] == pytest.approx(3.652087, abs=1e-6)


def test_anomaly_index_by_hand_with_an_even_number_of_values() -> None:
    # Median (3 + 4) / 2 = 3.5, not torch's lower 3; deviations 2.5 1.5 .5 .5 1.5 96.5, MAD 1.5.
    indices = anomaly_indices(scores(1, 2, 3, 4, 5, 100))
    expected = (3.5 - scores(1, 2, 3, 4, 5, 100)) / (1.4826 * 1.5)
    np.testing.assert_allclose(indices, expected, rtol=1e-12)


def test_only_small_values_get_large_anomaly_indices() -> None:
    indices = anomaly_indices(scores(10, 11, 9, 10.5, 9.5, 1000))
    assert indices[5] < -100
    assert indices.max() < 2


@pytest.mark.parametrize("value", [0.0, 7.0, 1e9])
def test_equal_values_have_no_anomaly(value: float) -> None:
    assert not anomaly_indices(np.full(6, value)).any()


def leave_one_out(values: ScoreArray) -> ScoreArray:
    residuals = []
    for i, value in enumerate(values):
        others = [v for j, v in enumerate(values) if j != i]
        mean = sum(others) / len(others)
        variance = sum((v - mean) ** 2 for v in others) / (len(others) - 1)
        residuals.append((value - mean) / (variance * (1 + 1 / len(others))) ** 0.5)
    return scores(*residuals)


@pytest.mark.parametrize("offset", [0.0, -3.0, 1e6])
def test_studentised_residuals_compare_each_value_with_the_others(offset: float) -> None:
    values = np.random.default_rng(1).normal(size=9) + offset
    np.testing.assert_allclose(studentised_residuals(values), leave_one_out(values), rtol=1e-6)


def test_studentised_residuals_by_hand() -> None:
    # 8 against (1, 2, 3): mean 2, variance 1, so (8 − 2) / sqrt(1 · 4/3).
    assert studentised_residuals(scores(1, 2, 3, 8))[3] == pytest.approx(6 / np.sqrt(4 / 3))


def test_equal_values_have_no_studentised_residual() -> None:
    assert not studentised_residuals(np.full(5, 4.0)).any()


def test_moderated_residuals_match_a_loop() -> None:
    values = np.random.default_rng(2).normal(size=8)
    expected = []
    for i, value in enumerate(values):
        others = np.array([v for j, v in enumerate(values) if j != i])
        inner = ((others - others.mean()) ** 2).sum() / 6
        variance = (6 * inner + 6.0 * 0.2**2) / 12
        expected.append((value - others.mean()) / np.sqrt(variance * 8 / 7))
    np.testing.assert_allclose(moderated_residuals(values, PRIOR), expected, rtol=1e-10)


def test_a_prior_without_weight_changes_nothing() -> None:
    values = np.random.default_rng(3).normal(size=7)
    weightless = SpreadPrior(spread=1.0, weight=0.0)
    np.testing.assert_allclose(
        moderated_residuals(values, weightless), studentised_residuals(values), rtol=1e-10
    )


def test_a_prior_keeps_trifles_from_standing_out() -> None:
    values = scores(0.001, -0.001, 0.0005, -0.0005, 0.02)
    assert studentised_residuals(values)[4] > 10
    assert moderated_residuals(values, PRIOR)[4] < 0.5


def test_two_values_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="at least 3"):
        studentised_residuals(scores(1, 2))
    with pytest.raises(ValueError, match="at least 3"):
        moderated_residuals(scores(1, 2), PRIOR)


@pytest.mark.parametrize("n", [6, 10])
@pytest.mark.parametrize("rate", [0.05, 0.01])
def test_clean_normals_exceed_the_studentised_threshold_at_the_stated_rate(
    n: int, rate: float
) -> None:
    rng = np.random.default_rng(4)
    trials = 4000
    threshold = StudentisedNull(n).threshold(rate)
    exceeded = sum(
        studentised_residuals(rng.normal(5, 3, n)).max() > threshold.value for _ in range(trials)
    )
    error = np.sqrt(rate * (1 - rate) / trials)
    assert rate - 4 * error - 0.1 * rate < exceeded / trials < rate + 4 * error


def test_clean_normals_exceed_the_moderated_threshold_at_the_stated_rate() -> None:
    # The model behind the moderated t: variances vary as prior.spread² · weight / χ²(weight).
    rng = np.random.default_rng(5)
    trials, n, rate = 4000, 10, 0.05
    threshold = ModeratedNull(n=n, tests=2, weight=PRIOR.weight, priors="0.2").threshold(rate)
    exceeded = 0
    for _ in range(trials):
        spreads = PRIOR.spread * np.sqrt(PRIOR.weight / rng.chisquare(PRIOR.weight, 2))
        largest = max(moderated_residuals(rng.normal(0, s, n), PRIOR).max() for s in spreads)
        exceeded += largest > threshold.value
    assert 0.035 < exceeded / trials < 0.063


def test_clean_normals_exceed_the_anomaly_threshold_at_the_stated_rate() -> None:
    rng = np.random.default_rng(6)
    null = AnomalyIndexNull(10)
    threshold = null.threshold(0.05)
    trials = 4000
    largest = np.array([anomaly_indices(rng.normal(50, 8, 10)).max() for _ in range(trials)])
    assert 0.035 < (largest > threshold.value).mean() < 0.065
    # The fixed "anomaly index > 2" of the paper alarms far too often with ten classes.
    assert (largest > 2).mean() > 0.25


NULLS = [
    StudentisedNull(8),
    ModeratedNull(n=8, tests=2, weight=PRIOR.weight, priors="0.2"),
    AnomalyIndexNull(8),
]


@pytest.mark.parametrize("null", NULLS, ids=lambda null: type(null).__name__)
@pytest.mark.parametrize("rate", [0.2, 0.05, 0.01])
def test_p_value_and_threshold_agree(
    null: StudentisedNull | ModeratedNull | AnomalyIndexNull, rate: float
) -> None:
    threshold = null.threshold(rate)
    assert threshold.false_alarm_rate == rate
    assert threshold.origin == null.origin
    assert null.p_value(threshold.value) == pytest.approx(rate, rel=0.01)
    assert null.p_value(threshold.value + 0.5) < rate < null.p_value(threshold.value - 0.5)


@pytest.mark.parametrize("null", NULLS, ids=lambda null: type(null).__name__)
def test_p_values_stay_in_their_range(
    null: StudentisedNull | ModeratedNull | AnomalyIndexNull,
) -> None:
    assert null.p_value(-1e6) == 1
    assert 0 < null.p_value(1e12) < 1e-4


def test_studentised_p_value_is_bonferroni_over_classes() -> None:
    assert StudentisedNull(10).p_value(4.0) == pytest.approx(10 * stats.t(8).sf(4.0))


def test_moderated_p_value_is_bonferroni_over_classes_and_tests() -> None:
    null = ModeratedNull(n=10, tests=2, weight=PRIOR.weight, priors="0.2")
    assert null.p_value(4.0) == pytest.approx(20 * stats.t(14).sf(4.0))
