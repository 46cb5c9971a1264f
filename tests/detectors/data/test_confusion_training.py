"""Confusion training: known answers of its parts, and what it needs."""

import numpy as np
import pytest

from gifthorse.core.errors import DataError, NotApplicableError
from gifthorse.core.types import Subject, silent
from gifthorse.data.images import ArrayImages
from gifthorse.detectors.data.confusion_training import (
    ConfusionTraining,
    best_fitted,
    two_cluster_gain,
)
from gifthorse.testing.workbench import Workbench, quarters

BENCH = Workbench()
SHORT = ConfusionTraining(epochs=3, confusion_steps=60, rounds=2, width=8)


def test_two_groups_gain_and_a_random_division_does_not() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (200, 5)).astype(np.float32)
    stuck = np.arange(200) < 40
    assert two_cluster_gain(x, stuck) < 0.1
    assert two_cluster_gain(x, np.arange(200) < 2) == 0.0
    apart = x.copy()
    apart[stuck, 0] += 10
    # In units of the unmoved group, a sample ten deviations away loses 50 nats: a fifth of 200.
    assert two_cluster_gain(apart, stuck) == pytest.approx(10, rel=0.3)


def test_the_best_fitted_and_some_of_every_class_are_kept() -> None:
    losses = np.array([0.1, 0.2, 0.3, 5.0, 6.0, 7.0, 8.0, 9.0])
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    assert best_fitted(losses, labels, 0.25).tolist() == [0, 1, 4, 5]


def test_what_is_missing_is_named() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(NotApplicableError, match="needs the suspect"):
        SHORT.inspect(Subject(suspect=BENCH.suspect), rng=rng, progress=silent)
    few = Subject(suspect=BENCH.suspect, trusted=quarters(20, seed=3))
    with pytest.raises(NotApplicableError, match="at least 60"):
        SHORT.inspect(few, rng=rng, progress=silent)
    large = ArrayImages(
        name="large",
        pixels=np.zeros((80, 1, 16, 16), np.uint8),
        labels=BENCH.trusted.labels,
        class_names=BENCH.trusted.class_names,
    )
    with pytest.raises(DataError, match="expected the same"):
        SHORT.inspect(Subject(suspect=BENCH.suspect, trusted=large), rng=rng, progress=silent)


@pytest.mark.efficacy(of=ConfusionTraining)
def test_poison_is_fitted_longest_and_clean_data_shows_nothing() -> None:
    rng = np.random.default_rng
    found = SHORT.inspect(
        Subject(suspect=BENCH.suspect, trusted=BENCH.trusted), rng=rng(0), progress=silent
    )
    clean = SHORT.inspect(
        Subject(suspect=BENCH.clean, trusted=BENCH.trusted), rng=rng(0), progress=silent
    )
    poisoned = np.flatnonzero(BENCH.poisoned)
    assert np.isin(found.suspects, poisoned).mean() > 0.8
    assert np.isin(poisoned, found.suspects).mean() > 0.8
    assert found.statistic > 2 * max(clean.statistic, 0.5)
    assert SHORT.null(clean).p_value(clean.statistic) > 0.1


def test_the_passes_of_its_networks_are_counted() -> None:
    method = ConfusionTraining(epochs=2, confusion_steps=3, rounds=1, batch_size=8, width=4)
    subject = Subject(suspect=BENCH.suspect, trusted=BENCH.trusted)
    own = method.inspect(subject, rng=np.random.default_rng(0), progress=silent).own
    trained, confused = 2 * len(BENCH.suspect), 3 * 2 * 8
    assert own.backward_passes == trained + confused
    # Its answers and its features for every sample.
    assert own.forward_passes == trained + confused + 2 * len(BENCH.suspect)


@pytest.mark.parametrize(
    ("option", "value"), [("epochs", 0), ("rounds", 9), ("weight", 1.0), ("width", 2)]
)
def test_options_out_of_range_are_refused(option: str, value: float) -> None:
    with pytest.raises(ValueError, match=option):
        ConfusionTraining(**{option: value})  # type: ignore[arg-type]
