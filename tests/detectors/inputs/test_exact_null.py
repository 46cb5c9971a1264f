import numpy as np
import pytest

from gifthorse.metrics.exact import SurpriseNull, exceedance_p_value, surprise


def test_one_new_value_above_the_largest_of_nine_happens_once_in_ten() -> None:
    assert exceedance_p_value(1, 1, rank=1, calibration=9) == pytest.approx(0.1)
    assert exceedance_p_value(0, 1, rank=1, calibration=9) == pytest.approx(1.0)


def test_exceedance_agrees_with_simulation() -> None:
    rng = np.random.default_rng(0)
    old = np.sort(rng.exponential(size=(20_000, 50)), axis=1)
    new = rng.exponential(size=(20_000, 40))
    count = (new > old[:, -2:-1]).sum(axis=1)
    expected = float((count >= 5).mean())
    assert exceedance_p_value(5, 40, rank=2, calibration=50) == pytest.approx(expected, rel=0.1)


def test_small_probabilities_keep_their_size() -> None:
    few, many = (exceedance_p_value(k, 1000, rank=10, calibration=1000) for k in (200, 400))
    assert 0 < many < few < 1e-16


def test_surprise_and_its_null_are_inverse() -> None:
    null = SurpriseNull("made up")
    assert surprise(0.01) == pytest.approx(2.0)
    assert surprise(1.0) == 0.0
    assert null.p_value(surprise(0.03)) == pytest.approx(0.03)
    assert null.threshold(0.05).value == pytest.approx(surprise(0.05))
    assert "made up" in null.threshold(0.05).origin


@pytest.mark.parametrize(("count", "rank"), [(-1, 1), (5, 1), (1, 0), (1, 10)])
def test_impossible_counts_are_refused(count: int, rank: int) -> None:
    with pytest.raises(ValueError, match="not possible"):
        exceedance_p_value(count, 4, rank=rank, calibration=9)


def test_surprise_refuses_what_is_no_probability() -> None:
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        surprise(1.5)
