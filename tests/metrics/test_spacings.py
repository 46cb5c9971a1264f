"""The gap after the largest value, and how often chance makes one so large."""

import math

import numpy as np
import pytest
from scipy import stats

from gifthorse.metrics.spacings import GapNull, GapPrior, first_gap, fitted_prior, surprise


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


def test_a_prior_counts_like_gaps_that_were_seen() -> None:
    values = np.array([2.0, 5.0, 1.5, 3.0])
    # Two gaps of 2 and 1.5 are worth four degrees of freedom, the prior of 0.5 six.
    prior = GapPrior(scale=0.5, weight=6.0)
    assert first_gap(values, prior) == pytest.approx(2 / ((2 * 3.5 + 6 * 0.5) / 10))
    assert surprise(values, prior) == pytest.approx(
        -math.log(stats.f.sf(first_gap(values, prior), 2, 10))
    )
    assert surprise(values, GapPrior(scale=9.0, weight=0.0)) == surprise(values)


def _subjects(count: int, scale: float, weight: float, seed: int) -> list[np.ndarray]:
    """The eight largest of many values whose tail has a scale of its own for every subject."""
    rng = np.random.default_rng(seed)
    scales = scale * weight / rng.chisquare(weight, count)
    return [np.sort(s * rng.exponential(size=1000))[-8:] for s in scales]


def test_the_prior_is_found_again_in_what_it_made() -> None:
    found = fitted_prior(_subjects(2000, 0.3, 8.0, seed=3), most=100.0)
    assert found.scale == pytest.approx(0.3, rel=0.1)
    assert found.weight == pytest.approx(8.0, rel=0.25)
    assert fitted_prior(_subjects(2000, 0.3, 8.0, seed=3), most=4.0).weight == 4.0


def test_with_its_prior_the_rate_is_exact_and_the_power_larger() -> None:
    rate, draws = 0.1, 1000
    prior, null = GapPrior(scale=0.3, weight=8.0), GapNull(tests=1, priors="a test")
    clean = _subjects(draws, 0.3, 8.0, seed=4)
    alarms = sum(null.p_value(surprise(values, prior)) <= rate for values in clean)
    assert abs(alarms - draws * rate) <= 3 * np.sqrt(draws * rate * (1 - rate))
    planted = [np.concatenate([v, [v.max() + 1.5]]) for v in clean]
    with_prior = sum(surprise(values, prior) > 4 for values in planted)
    assert with_prior > sum(surprise(values) > 4 for values in planted)
    assert "moderated by a test" in null.origin


@pytest.mark.parametrize(("scale", "weight"), [(0.0, 1.0), (-1.0, 1.0), (1.0, -1.0), (np.nan, 1.0)])
def test_priors_that_make_no_sense_are_refused(scale: float, weight: float) -> None:
    with pytest.raises(ValueError, match="scale must be positive"):
        GapPrior(scale=scale, weight=weight)


def test_a_prior_needs_subjects() -> None:
    with pytest.raises(ValueError, match="at least 3 clean subjects, got 1"):
        fitted_prior([np.arange(5.0)], most=8.0)
