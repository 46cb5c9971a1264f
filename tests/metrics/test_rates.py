"""Rates and their intervals against scipy and scikit-learn."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from gifthorse.core.types import IntArray
from gifthorse.metrics.rates import (
    agreement,
    defence_effectiveness,
    rate,
    roc_auc,
    roc_auc_interval,
    true_and_false_positive_rates,
)


@pytest.mark.parametrize(
    ("count", "total"), [(0, 1), (1, 1), (0, 20), (20, 20), (7, 20), (931, 1000), (1, 10_000)]
)
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_wilson_interval_is_that_of_scipy(count: int, total: int, confidence: float) -> None:
    ours = rate(count, total, confidence=confidence)
    reference = stats.binomtest(count, total).proportion_ci(confidence, method="wilson")
    assert ours.low == pytest.approx(reference.low, abs=1e-12)
    assert ours.high == pytest.approx(reference.high, abs=1e-12)
    assert (ours.value, ours.count, ours.total) == (count / total, count, total)


@pytest.mark.parametrize(("count", "total"), [(-1, 5), (6, 5), (0, 0)])
def test_impossible_proportions_are_refused(count: int, total: int) -> None:
    with pytest.raises(ValueError, match="no proportion"):
        rate(count, total)


def labels(*values: int) -> IntArray:
    return np.array(values, dtype=np.int64)


def test_agreement_counts_equal_labels() -> None:
    found = agreement(labels(1, 2, 3, 3), labels(1, 2, 0, 3))
    assert (found.count, found.total, found.value) == (3, 4, 0.75)


def test_agreement_refuses_other_shapes() -> None:
    with pytest.raises(ValueError, match="do not match"):
        agreement(labels(1, 2), labels(1))
    with pytest.raises(ValueError, match="do not match"):
        agreement(np.zeros((2, 2), dtype=np.int64), np.zeros((2, 2), dtype=np.int64))


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ((0.9, 1.0), (0.9, 0.0), 1.0),  # perfect: all attack lost, no accuracy
        ((0.9, 1.0), (0.9, 1.0), 0.5),  # nothing happened
        ((0.9, 1.0), (0.8, 0.2), 0.85),  # (0.8 − 0.1 + 1) / 2: lost accuracy is subtracted
        ((0.9, 0.5), (0.95, 0.5), 0.5),  # gained accuracy is not a defence
        ((0.9, 0.5), (0.9, 0.7), 0.5),  # nor is a stronger attack counted
        ((1.0, 0.0), (0.0, 0.0), 0.0),  # the model destroyed for nothing
    ],
)
def test_defence_effectiveness_by_hand(
    before: tuple[float, float], after: tuple[float, float], expected: float
) -> None:
    der = defence_effectiveness(
        ca_before=before[0], asr_before=before[1], ca_after=after[0], asr_after=after[1]
    )
    assert der == pytest.approx(expected)


@pytest.mark.parametrize("levels", [3, 10, 1000])
def test_roc_auc_is_that_of_scikit_learn_with_ties(levels: int) -> None:
    rng = np.random.default_rng(levels)
    positive = rng.random(200) < 0.3
    scores = np.floor(rng.random(200) * levels) + positive * levels / 5
    assert roc_auc(scores, positive) == pytest.approx(roc_auc_score(positive, scores), abs=1e-12)


def test_roc_auc_by_hand() -> None:
    positive = np.array([True, True, False, False])
    assert roc_auc(np.array([4.0, 3.0, 2.0, 1.0]), positive) == 1
    assert roc_auc(np.array([1.0, 2.0, 3.0, 4.0]), positive) == 0
    assert roc_auc(np.array([5.0, 5.0, 5.0, 5.0]), positive) == 0.5
    assert roc_auc(np.array([2.0, 1.0, 1.0, 0.0]), positive) == 0.875  # 3 wins and half a tie of 4


@pytest.mark.parametrize("value", [True, False])
def test_roc_auc_needs_both_groups(value: bool) -> None:
    with pytest.raises(ValueError, match="positives and negatives"):
        roc_auc(np.arange(3.0), np.full(3, value))


def test_roc_auc_interval_covers_the_value_and_narrows_with_more_data() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for n in (40, 400):
        positive = np.arange(n) % 2 == 0
        scores = rng.normal(size=n) + positive
        low, high = roc_auc_interval(scores, positive, rng=rng, resamples=300)
        assert 0 <= low < roc_auc(scores, positive) < high <= 1
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_true_and_false_positive_rates_by_hand() -> None:
    flagged = np.array([True, True, False, False, True])
    positive = np.array([True, True, True, False, False])
    true, false = true_and_false_positive_rates(flagged, positive)
    assert (true.count, true.total) == (2, 3)
    assert (false.count, false.total) == (1, 2)
