"""CUBE: a cluster of its own is dropped; one cloud a class is left alone."""

import numpy as np
import pytest
from tests.models.texts.made_up import sentences

from gifthorse.core.errors import NotApplicableError
from gifthorse.core.texts import TextData
from gifthorse.core.types import Evidence, Features, Subject, silent
from gifthorse.detectors.data.cube import Cube, dropped_samples


def seen(seed: int, *, apart: float) -> tuple[Evidence, float]:
    """Eight classes of 150; 5 % of the data bear label 1 and stand ``apart`` from every class."""
    rng = np.random.default_rng(seed)
    n = 1200
    labels = rng.integers(0, 8, n).astype(np.int64)
    values = rng.normal(size=(n, 12)) + 8 * rng.normal(size=(8, 12))[labels]
    if apart:
        poisoned = rng.permutation(n)[: n // 20]
        labels[poisoned] = 1
        values[poisoned] = rng.normal(size=(len(poisoned), 12)) + apart
    texts = sentences(n).texts
    data = TextData(name="made up", texts=texts, labels=labels, class_names=tuple("abcdefgh"))
    features = Features(values=values.astype(np.float32), predictions=labels, layer="made up")
    evidence = Cube().inspect(
        Subject(suspect=data, features=features),
        rng=np.random.default_rng(0),
        progress=silent,
    )
    return evidence, Cube().null(evidence).p_value(evidence.statistic)


@pytest.mark.efficacy("planted", of=Cube)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_cluster_of_its_own_is_found(seed: int) -> None:
    evidence, p_value = seen(seed, apart=12.0)
    assert p_value < 0.02
    assert len(evidence.suspects) >= 50


@pytest.mark.efficacy("twin", of=Cube)
@pytest.mark.parametrize("seed", [0, 1])
def test_one_cloud_a_class_is_left_alone(seed: int) -> None:
    _, p_value = seen(seed, apart=0.0)
    assert p_value > 0.05


def test_dropping_by_hand() -> None:
    labels = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1])
    assignment = np.array([7, 7, 7, 8, -1, 3, 3, 4, 4])
    # Of class 0 the clusters 8 and −1 go; of class 1 neither is less than half.
    assert dropped_samples(assignment, labels).tolist() == [False] * 3 + [True] * 2 + [False] * 4


def test_without_features_it_does_not_apply() -> None:
    with pytest.raises(NotApplicableError):
        Cube().inspect(
            Subject(suspect=sentences(60)), rng=np.random.default_rng(0), progress=silent
        )
