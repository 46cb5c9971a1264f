import numpy as np
import pytest
from scipy import stats

from gifthorse.metrics.gamma import (
    PublishedGammaNull,
    SimulatedGammaNull,
    gamma_shape_and_scale,
    largest_value_surprise,
)


def test_the_closed_form_recovers_shape_and_scale() -> None:
    values = np.random.default_rng(0).gamma(4.0, 2.5, 50_000)
    shape, scale = gamma_shape_and_scale(values)
    assert float(shape) == pytest.approx(4.0, rel=0.03)
    assert float(scale) == pytest.approx(2.5, rel=0.03)


def test_the_published_p_by_scipy() -> None:
    values = np.array([3.0, 4, 5, 6, 5.5, 4.5, 9])
    shape, scale = gamma_shape_and_scale(values[:-1])
    expected = 1 - stats.gamma.cdf(9, shape, scale=scale) ** 7
    assert float(largest_value_surprise(values)) == pytest.approx(-np.log10(expected))
    assert PublishedGammaNull().p_value(float(-np.log10(expected))) == pytest.approx(expected)


def test_an_outlier_raises_the_surprise_and_the_scale_does_not_matter() -> None:
    values = np.array([3.0, 4, 5, 6, 5.5, 4.5, 5])
    plain = largest_value_surprise(values)
    assert largest_value_surprise(values * 100) == pytest.approx(plain)
    assert largest_value_surprise(np.append(values, 30)) > plain + 2


def test_the_simulated_null_keeps_its_rate_where_the_published_one_does_not() -> None:
    draws = np.random.default_rng(1).gamma(20.0, size=(4000, 10))
    seen = largest_value_surprise(draws)
    threshold = SimulatedGammaNull(10, 20.0).threshold(0.05).value
    assert (seen > threshold).mean() == pytest.approx(0.05, abs=0.015)
    assert (seen > PublishedGammaNull().threshold(0.05).value).mean() > 0.07
    assert SimulatedGammaNull(10, 20.0).p_value(threshold) == pytest.approx(0.05, abs=0.005)
