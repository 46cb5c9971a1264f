"""Answers worked out by hand or by another implementation."""

import dataclasses

import numpy as np
import pytest
from scipy import stats
from tests.detectors.data.planted import planted

from gifthorse.core.types import ImageData, silent
from gifthorse.data.relabelled import Relabelled
from gifthorse.detectors.data.activation_clustering import (
    cluster_shares,
    silhouette,
    suspicious_clusters,
    two_means,
)
from gifthorse.detectors.data.spectral_signatures import SpectralSignatures, spectral_scores
from gifthorse.detectors.data.suspicion import (
    GAUSSIAN_SEPARATION,
    cleanest_split,
    group_features,
    refined,
    separation,
    smaller,
    two_means_cut,
)
from gifthorse.metrics.outliers import standing_out, studentised_residuals


def test_relative_size_points_to_the_smaller_cluster() -> None:
    # Known answers of the analyser in the Adversarial Robustness Toolbox.
    assert suspicious_clusters(np.array([0, 1, 1, 1, 1])).tolist() == [0]
    assert suspicious_clusters(np.array([0, 0, 1, 1, 1])).tolist() == []
    assert cluster_shares(np.array([0, 1, 1, 1, 1])).tolist() == [0.2, 0.8]


def test_spectral_scores_are_centred() -> None:
    """Poison that lowers activations: found 20 of 20 centred, 0 of 20 without centring."""
    rng = np.random.default_rng(0)
    features = 10 + rng.normal(size=(400, 16))
    features[:20, :8] -= 6
    centred = np.argsort(-spectral_scores(features))[:20]
    assert (centred < 20).sum() == 20
    _, _, rows = np.linalg.svd(features, full_matrices=False)
    uncentred = np.argsort(-((features @ rows[0]) ** 2))[:20]
    assert (uncentred < 20).sum() == 0


def test_spectral_scores_agree_with_a_singular_value_decomposition() -> None:
    features = np.random.default_rng(1).normal(size=(50, 7))
    centred = features - features.mean(axis=0)
    _, _, rows = np.linalg.svd(centred)
    assert np.allclose(spectral_scores(features), (centred @ rows[0]) ** 2)


def test_published_removal_takes_one_and_a_half_times_the_expected_poison() -> None:
    case = planted(0)
    scan = SpectralSignatures(removal="published", expected_poison=0.01)
    evidence = scan.inspect(case.subject, rng=np.random.default_rng(0), progress=silent)
    assert len(evidence.suspects) == round(1.5 * 0.01 * len(evidence.scores))
    chosen = evidence.scores[evidence.suspects]
    assert (np.diff(chosen) <= 0).all()


def test_two_means_cut_of_two_lumps() -> None:
    cuts, between = two_means_cut(np.array([[0.0], [0.0], [1.0], [9.0]]))
    assert cuts.tolist() == [5.0]
    # Means 1/3 and 9, shares 3/4 and 1/4.
    assert between[0] == pytest.approx((9 - 1 / 3) ** 2 * 3 / 16)


def test_separation_of_the_halves_of_a_normal_distribution() -> None:
    values = stats.norm.ppf((np.arange(100_000) + 0.5) / 100_000)
    assert separation(values, values > 0) == pytest.approx(GAUSSIAN_SEPARATION, rel=1e-3)
    assert separation(values, values > 99) == GAUSSIAN_SEPARATION


def test_separation_by_hand() -> None:
    values = np.array([-1.0, 1.0, 9.0, 11.0])
    assert separation(values, values > 5) == pytest.approx(10.0, rel=1e-5)


def test_cleanest_split_is_not_fooled_by_noise_dimensions() -> None:
    """With few samples in many dimensions some direction always splits what was searched."""
    rng = np.random.default_rng(0)
    found = [cleanest_split(rng.normal(size=(60, 8)), rng=rng).separation for _ in range(40)]
    assert np.median(found) < 1.1 * GAUSSIAN_SEPARATION


@pytest.mark.parametrize("share", [0.02, 0.1, 0.4])
def test_two_far_lumps_are_told_apart(share: float) -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(1000, 6))
    truth = np.arange(1000) < share * 1000
    x[truth, 0] += 15
    x -= x.mean(axis=0)
    assert np.array_equal(smaller(two_means(x, rng=rng)), truth)
    split = cleanest_split(x, rng=rng)
    assert np.array_equal(split.part(x), truth)
    assert split.separation > 10
    part, margin = refined(x, truth ^ (rng.random(1000) < 0.01))
    assert np.array_equal(part, truth)
    assert margin[truth].min() > margin[~truth].max()


def test_wide_features_are_narrowed() -> None:
    case = planted(0, d=300, per_class=100)
    assert group_features(case.subject).values.shape[1] == 256


def test_standing_out_is_the_studentised_residual_unless_classes_are_alike() -> None:
    values = np.array([1.0, 1.3, 0.9, 1.1, 2.0])
    expected = studentised_residuals(values)
    assert np.allclose(standing_out(values, least_spread=1e-6), expected)
    alike = np.array([1.0, 1.0, 1.0, 1.0, 1.1])
    assert standing_out(alike, least_spread=0.1).max() == pytest.approx(np.sqrt(4 / 5))


def test_silhouette_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import silhouette_score

    rng = np.random.default_rng(3)
    x = rng.standard_normal((400, 10)) * np.linspace(3, 1, 10)
    part = x[:, 0] > 2
    assert silhouette(x, part, 1000, rng=rng) == pytest.approx(silhouette_score(x, part), abs=1e-5)
    one_left = np.arange(400) < 1
    assert silhouette(x, one_left, 1000, rng=rng) == 0
    assert silhouette(np.zeros((400, 10)), part, 1000, rng=rng) == 0


def test_groups_are_remembered_for_the_same_labels_only() -> None:
    subject = planted(1).subject
    first = group_features(subject)
    assert group_features(subject) is first
    assert isinstance(subject.suspect, ImageData)
    labels = np.roll(subject.suspect.labels, 1)
    moved = dataclasses.replace(
        subject,
        suspect=Relabelled(
            data=subject.suspect, labels=labels, class_names=subject.suspect.class_names
        ),
    )
    again = group_features(moved)
    assert again is not first
    for group in again.classes:
        assert (labels[group.indices] == group.label).all()
