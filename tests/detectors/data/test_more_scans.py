"""SCAn, SPECTRE and the frequency detector: known answers, and planted data with clean twins."""

import math

import numpy as np
import pytest
import scipy.fft
from tests.detectors.data.planted import planted

from gifthorse.core.types import IntArray, Subject, silent
from gifthorse.data.images import ArrayImages
from gifthorse.detectors.data.frequency import Frequency, made_up_trigger, spectrum
from gifthorse.detectors.data.scan import Scan, membership, two_groups
from gifthorse.detectors.data.spectre import Spectre, que_scores, whitened


def test_two_groups_by_hand() -> None:
    # Ten at −1 and thirty at 1/3 along one axis: J / n = (1/4)(3/4)(4/3)².
    x = np.zeros((40, 2))
    x[:10, 0], x[10:, 0] = -1, 1 / 3
    x[:, 1] = np.tile([0.01, -0.01], 20)
    part, gain = two_groups(x, 30)
    assert part.tolist() == [True] * 10 + [False] * 30
    assert gain == pytest.approx(3 / 16 * (4 / 3) ** 2, rel=1e-6)
    scores = membership(x, part)
    assert scores[:10].min() > 0 > scores[10:].max()


def test_whitening_ignores_the_farthest() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 3)) * [1, 5, 0.2]
    x[:100] += [40.0, 0, 0]
    white = whitened(x, trim=0.1, rounds=10)
    np.testing.assert_allclose(np.cov(white[100:], rowvar=False), np.eye(3), atol=0.5)
    assert np.abs(white[:100, 0]).min() > 20


def test_que_scores_by_hand() -> None:
    # Σ = diag(4, 1): the weights are 1 and exp(−4·3/3) = e⁻⁴.
    white = np.array([[2.0, 1], [-2, 1], [2, -1], [-2, -1]])
    scores, largest = que_scores(white, 4.0)
    assert largest == pytest.approx(4)
    small = math.exp(-4)
    np.testing.assert_allclose(scores, (4 + small) / (1 + small))


def labels_of(subject: Subject) -> IntArray:
    assert subject.suspect is not None
    return subject.suspect.labels


@pytest.mark.efficacy
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("detector", [Scan(), Spectre(expected_poison=0.1)])
def test_planted_features_are_found_and_the_twin_is_clear(
    detector: Scan | Spectre, seed: int
) -> None:
    for poison in (30, 0):
        made = planted(seed, poison=poison)
        found = detector.inspect(made.subject, rng=np.random.default_rng(0), progress=silent)
        p = detector.null(found).p_value(found.statistic)
        if poison:
            assert p < 0.01
            hit = made.poisoned[found.suspects].sum()
            assert hit >= 0.9 * poison
            assert made.poisoned[found.suspects[:20]].mean() > 0.9
        elif isinstance(detector, Scan) and p < 0.01:
            # Class 5 has two natural modes; to SCAn's model those are two identities.
            assert set(labels_of(made.subject)[found.suspects].tolist()) == {5}
        else:
            assert p > 0.01


def test_the_spectrum_by_scipy() -> None:
    x = np.random.default_rng(0).random((2, 1, 8, 8)).astype(np.float32)
    raw = scipy.fft.dctn(x[1, 0], norm="ortho")
    np.testing.assert_allclose(
        spectrum(x)[1, 0], np.sign(raw) * np.log1p(255 * np.abs(raw)), rtol=1e-4
    )


@pytest.mark.parametrize("kind", range(5))
def test_made_up_triggers_change_the_picture_and_stay_pictures(kind: int) -> None:
    rng = np.random.default_rng(kind)
    x, other = rng.random((2, 3, 16, 16)).astype(np.float32)
    before = x.copy()
    made_up_trigger(x, other, kind, rng)
    assert not np.array_equal(x, before)
    assert 0 <= x.min() <= x.max() <= 1


def smooth(count: int, seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Waves of low frequency, as photographs are; (n, 1, 16, 16)."""
    rng = np.random.default_rng(seed)
    coefficients = np.zeros((count, 1, 16, 16))
    coefficients[:, :, :3, :3] = rng.normal(size=(count, 1, 3, 3))
    x = scipy.fft.idctn(coefficients, axes=(2, 3), norm="ortho")
    return np.asarray((0.5 + 0.8 * x).clip(0, 1))


def images(x: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> ArrayImages:
    labels = np.arange(len(x), dtype=np.int64) % 2
    return ArrayImages.from_floats(x, labels, name="waves", class_names=("a", "b"))


@pytest.mark.efficacy(of=Frequency)
def test_sharp_marks_on_smooth_pictures_are_found_and_the_twin_is_clear() -> None:
    trusted, clean = images(smooth(240, 1)), smooth(200, 2)
    marked = clean.copy()
    marked[:40, :, -4:, -4:] = np.indices((4, 4)).sum(axis=0) % 2
    detector = Frequency(epochs=8, width=4)

    def p_value(x: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> tuple[float, float]:
        subject = Subject(suspect=images(x), trusted=trusted)
        found = detector.inspect(subject, rng=np.random.default_rng(0), progress=silent)
        assert found.own.backward_passes == 8 * 2 * 160  # epochs, clean and marked, two thirds
        hit = float((found.suspects < 40).mean()) if len(found.suspects) else 0.0
        return detector.null(found).p_value(found.statistic), hit

    p, hit = p_value(marked)
    assert p < 1e-3
    assert hit > 0.8
    assert p_value(clean)[0] > 0.01
