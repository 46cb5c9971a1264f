"""The weight schedule of Neural Cleanse, round by round."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from gifthorse.core.types import Subject
from gifthorse.data.images import ArrayImages
from gifthorse.detectors.models.inversion import Masked, Race
from gifthorse.detectors.models.neural_cleanse import NeuralCleanse, _Schedule
from gifthorse.detectors.models.trusted import probe_of
from gifthorse.models.classifier import ImageClassifier

OPTIONS = NeuralCleanse(patience=2, first_weight=0.01, goal=0.9)
HIT, MISS = 1.0, 0.5


@pytest.fixture
def schedule(make: Callable[..., ImageClassifier], trusted: ArrayImages) -> _Schedule:
    subject = Subject(model=make(None), trusted=trusted)
    model, probe = probe_of(subject, samples=8, rng=np.random.default_rng(0))
    family = Masked(start_opacity=0.5)
    generator = torch.Generator().manual_seed(0)
    race = Race(model, probe, family, learning_rate=0.1, generator=generator)
    return _Schedule(OPTIONS, race, family)


def after(schedule: _Schedule, *rounds: float, size: float = 50.0) -> float:
    """The weight of class 0 after rounds with these success rates; the others always miss."""
    for hit in rounds:
        hits = torch.full((8,), MISS)
        hits[0] = hit
        schedule.after(hits, torch.full((8,), size))
    return float(schedule.weights[0])


def test_the_weight_is_switched_on_after_enough_rounds_in_a_row(schedule: _Schedule) -> None:
    assert after(schedule, HIT, MISS, HIT) == 0
    assert after(schedule, HIT) == pytest.approx(0.01)
    assert not schedule.weights[1:].any()


def test_the_weight_doubles_when_it_goes_well(schedule: _Schedule) -> None:
    after(schedule, HIT, HIT)
    assert after(schedule, HIT) == pytest.approx(0.01)
    assert after(schedule, HIT) == pytest.approx(0.02)
    assert after(schedule, HIT, HIT) == pytest.approx(0.04)


def test_the_weight_falls_by_more_than_it_rises(schedule: _Schedule) -> None:
    after(schedule, HIT, HIT)
    assert after(schedule, MISS) == pytest.approx(0.01)
    assert after(schedule, MISS) == pytest.approx(0.01 / 2**1.5)


def test_the_smallest_mask_that_reached_the_goal_is_kept(schedule: _Schedule) -> None:
    after(schedule, HIT, size=30.0)
    after(schedule, MISS, size=5.0)
    after(schedule, HIT, size=20.0)
    after(schedule, HIT, size=25.0)
    norms = schedule.norms()
    assert norms[0] == 20.0
    # Where nothing reached the goal, the mask as it is: half of 12 × 12 pixels.
    np.testing.assert_allclose(norms[1:], 72, rtol=0.05)
    assert schedule.notes(tuple("abcdefgh")) == ("no mask reached the goal for: b, c, d, e, f",)


def test_a_class_stops_when_nothing_gets_smaller_any_more(schedule: _Schedule) -> None:
    after(schedule, *[HIT] * 8)
    assert not schedule.stopped.any()
    after(schedule, HIT)  # the ninth round, eight of them idle: four times the patience
    assert schedule.stopped.tolist() == [True] + [False] * 7
    after(schedule, HIT, size=1.0)
    assert schedule.norms()[0] == 50.0
