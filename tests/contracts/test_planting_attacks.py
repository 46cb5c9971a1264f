"""What attackers are given, and that each attack says what it controls."""

from typing import Any

import numpy as np
import pytest

from gifthorse.bench.plant import plant
from gifthorse.core.errors import DataError
from gifthorse.core.protocols import Trainer, WeightAttack, attacker_needs, reach_of
from gifthorse.core.registry import names, plugin_class
from gifthorse.core.types import ImageData, Reach
from gifthorse.data.images import ArrayImages
from gifthorse.models.trainer import SmallTrainer
from gifthorse.models.training import TrainingPlan
from gifthorse.testing import Workbench
from gifthorse.testing.attacks import planted
from gifthorse.triggers.trigger import Trigger, chart

ATTACKS = names("attacks")
every_attack = pytest.mark.parametrize("name", ATTACKS)
BENCH = Workbench()
CLASSES = 4
# Options that make the learning short: the contract is about form, not about effect.


def pictures(n: int = 160, side: int = 16) -> ArrayImages:
    rng = np.random.default_rng(5)
    labels = np.arange(n, dtype=np.int64) % CLASSES
    pixels = rng.integers(20, 120, (n, 3, side, side), dtype=np.uint8)
    for i, label in enumerate(labels):  # one bright quarter a class
        top, left = (label // 2) * side // 2, (label % 2) * side // 2
        pixels[i, :, top : top + side // 2, left : left + side // 2] += 100
    return ArrayImages(
        name="quarters",
        pixels=pixels,
        labels=labels,
        class_names=tuple(f"quarter {i}" for i in range(CLASSES)),
    )


def trainer() -> SmallTrainer:
    return SmallTrainer(plan=TrainingPlan(epochs=1, batch_size=32), width=8)


@every_attack
def test_it_is_of_exactly_one_kind_and_says_what_the_attacker_controls(name: str) -> None:
    cls = plugin_class("attacks", name)
    reach = reach_of(cls)
    assert isinstance(reach, Reach)
    assert attacker_needs(cls)[0] == reach.value
    if reach is Reach.WEIGHTS:
        assert isinstance(cls.samples, int)
        assert cls.samples >= 0


@every_attack
def test_its_trigger_renders_a_picture_of_itself(name: str) -> None:
    """Also triggers that are learned, which no attack has before it has planted."""
    trigger = getattr(planted("attacks", name, BENCH).strike, "test_trigger", None)
    if trigger is None:
        ours = plugin_class("attacks", name).__module__.startswith("gifthorse.")
        # A mixture of two classes is no object that could be drawn alone.
        assert name == "composite" or not ours
        return
    assert isinstance(trigger, Trigger)
    shape = BENCH.photographs.image_shape
    drawn = trigger.picture(shape)
    assert drawn.shape == shape
    assert 0 <= drawn.min() <= drawn.max() <= 1
    assert np.abs(drawn - chart(shape)).max() > 0.01


class Watched:
    """A weight attack that remembers what it was given."""

    def __init__(self, samples: int) -> None:
        self.samples = samples
        self.paper = "our own: a spy"
        self.given: ImageData | None = None

    def tamper(self, victim: Any, samples: ImageData | None, *, rng: Any, progress: Any) -> Any:
        self.given = samples
        raise DataError("seen enough")


@pytest.mark.parametrize("count", [0, 40])
def test_a_weight_attack_is_given_no_more_pictures_than_it_declares(count: int) -> None:
    spy = Watched(count)
    assert isinstance(spy, WeightAttack)
    with pytest.raises(DataError, match="seen enough"):
        plant(spy, pictures(), pictures(), training=TrainingPlan(epochs=1), width=8)
    if count:
        assert spy.given is not None
        assert len(spy.given) == count
        assert np.bincount(spy.given.labels).tolist() == [10] * CLASSES
    else:
        assert spy.given is None


def test_the_trainer_is_one() -> None:
    made: Trainer = trainer()
    assert made.epochs == 1
