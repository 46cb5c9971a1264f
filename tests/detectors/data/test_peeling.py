"""Poison in several clusters, and small classes whose division is luck."""

import numpy as np
import pytest
from tests.detectors.data.planted import Planted, planted, subject_of

from gifthorse.core.types import Progress
from gifthorse.detectors.data.peeling import divided
from gifthorse.detectors.data.spectral_signatures import SpectralSignatures


def silent(done: int, total: int, text: str) -> None: ...


QUIET: Progress = silent


def two_clusters(seed: int, *, poison: int) -> Planted:
    """The second half of the poison lies elsewhere than the first."""
    case = planted(seed, poison=poison)
    features, suspect = case.subject.features, case.subject.suspect
    assert features is not None
    assert suspect is not None
    values = features.values.copy()
    second = np.flatnonzero(case.poisoned)[::2]
    shift = np.random.default_rng(seed).normal(size=values.shape[1])
    values[second] += 40 * shift / np.linalg.norm(shift)
    return Planted(
        subject=subject_of(values.astype(np.float32), suspect.labels),
        poisoned=case.poisoned,
        target=case.target,
    )


@pytest.mark.parametrize("seed", range(3))
def test_both_clusters_are_pointed_to(seed: int) -> None:
    case = two_clusters(seed, poison=80)
    found = SpectralSignatures().inspect(
        case.subject, rng=np.random.default_rng(seed), progress=QUIET
    )
    assert SpectralSignatures().null(found).p_value(found.statistic) < 0.05
    inside = case.poisoned[found.suspects]
    assert inside.sum() > 0.95 * case.poisoned.sum()
    assert inside.mean() > 0.95


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_peeled_where_nothing_stands_out(seed: int) -> None:
    case = planted(seed, poison=0)
    found = SpectralSignatures().inspect(
        case.subject, rng=np.random.default_rng(seed), progress=QUIET
    )
    assert SpectralSignatures().null(found).p_value(found.statistic) > 0.05
    assert len(found.suspects) <= 200  # the smaller part of one class


def test_several_divisions_agree_better_than_one() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(150, 8))
    x[:20, 0] += 4
    x -= x.mean(axis=0)
    once = [divided(x, 1, rng=rng).cleanness for _ in range(20)]
    often = [divided(x, 5, rng=rng).cleanness for _ in range(20)]
    assert np.std(often) < 0.7 * np.std(once)
