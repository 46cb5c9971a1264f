"""What every attack does that learns its trigger, owns the training, or edits the weights."""

from typing import Any

import numpy as np
import pytest

from gifthorse.bench.plant import plant
from gifthorse.core.errors import DataError
from gifthorse.core.protocols import Trainer, WeightAttack, attacker_needs, reach_of
from gifthorse.core.registry import Spec, build, names, plugin_class
from gifthorse.core.types import ImageData, Planting, Reach, silent
from gifthorse.data.images import ArrayImages, subset
from gifthorse.models.classifier import as_classifier
from gifthorse.models.trainer import SmallTrainer
from gifthorse.models.training import TrainingPlan

ATTACKS = names("attacks")
LEARNED = [name for name in ATTACKS if not hasattr(plugin_class("attacks", name), "poison")]
every_attack = pytest.mark.parametrize("name", ATTACKS)
every_learned = pytest.mark.parametrize("name", LEARNED)
CLASSES = 4
# Options that make the learning short: the contract is about form, not about effect.
SHORT = {"steps": 6, "warmup": 1, "restarts": 1}


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


def attack(name: str, **options: Any) -> Any:
    cls = plugin_class("attacks", name)
    known = {key: value for key, value in SHORT.items() if key in cls.__dataclass_fields__}
    if reach_of(cls) is Reach.WEIGHTS:
        known = {}  # they refuse to edit a network with a trigger that was not learned
    return build("attacks", Spec(name, {**known, **options}))


def planted(name: str, clean: ImageData, *, seed: int = 0, **options: Any) -> Planting:
    made, rng = attack(name, **options), np.random.default_rng(seed)
    if hasattr(made, "craft"):
        return made.craft(clean, trainer=trainer(), rng=rng, progress=silent)  # type: ignore[no-any-return]
    if hasattr(made, "subvert"):
        return made.subvert(clean, trainer=trainer(), rng=rng, progress=silent)  # type: ignore[no-any-return]
    victim = trainer().fit(clean, rng=np.random.default_rng(9))
    samples = subset(clean, np.arange(made.samples)[:80]) if made.samples else None
    return made.tamper(victim, samples, rng=rng, progress=silent)  # type: ignore[no-any-return]


def fingerprint(planting: Planting) -> tuple[Any, ...]:
    if planting.data is not None:
        pixels = planting.data.batch(np.arange(len(planting.data)))
        return (pixels.tobytes(), planting.data.labels.tobytes())
    return (as_classifier(planting.model).digest(),)


@every_attack
def test_it_is_of_exactly_one_kind_and_says_what_the_attacker_controls(name: str) -> None:
    cls = plugin_class("attacks", name)
    reach = reach_of(cls)
    assert isinstance(reach, Reach)
    assert attacker_needs(cls)[0] == reach.value
    if reach is Reach.WEIGHTS:
        assert isinstance(cls.samples, int)
        assert cls.samples >= 0


@every_learned
def test_it_leaves_behind_what_its_reach_allows(name: str) -> None:
    clean = pictures()
    planting = planted(name, clean)
    if reach_of(plugin_class("attacks", name)) is Reach.DATA:
        assert planting.data is not None
        assert len(planting.data) == len(clean)
        named = planting.truth.poisoned | planting.truth.covered
        assert planting.truth.poisoned.any()
        before, after = (d.batch(np.arange(len(clean))) for d in (clean, planting.data))
        changed = (before != after).any(axis=(1, 2, 3))
        assert not (changed & ~named).any()
        assert changed[planting.truth.poisoned].mean() > 0.9
        relabelled = planting.data.labels != clean.labels
        assert not (relabelled & ~planting.truth.poisoned).any()
    else:
        assert planting.model is not None
        assert planting.model.class_names == clean.class_names
        assert not planting.truth.poisoned.any()
        assert not planting.truth.covered.any()


@every_learned
def test_the_same_seed_gives_the_same_backdoor(name: str) -> None:
    clean = pictures()
    one, two = planted(name, clean, seed=1), planted(name, clean, seed=1)
    assert fingerprint(one) == fingerprint(two)
    rng = np.random.default_rng
    first, second = (p.strike.triggered(clean, rng=rng(0))[0] for p in (one, two))
    rows = np.arange(len(first))
    np.testing.assert_array_equal(first.batch(rows), second.batch(rows))


@every_learned
def test_it_changes_neither_the_data_nor_the_victim(name: str) -> None:
    clean = pictures()
    pixels, labels = clean.pixels.copy(), clean.labels.copy()
    planting = planted(name, clean)
    planting.strike.triggered(clean, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(clean.pixels, pixels)
    np.testing.assert_array_equal(clean.labels, labels)
    made = attack(name)
    if hasattr(made, "tamper"):
        victim = trainer().fit(clean, rng=np.random.default_rng(9))
        before = victim.digest()
        samples = subset(clean, np.arange(80)) if made.samples else None
        made.tamper(victim, samples, rng=np.random.default_rng(0), progress=silent)
        assert victim.digest() == before


@every_learned
def test_its_strike_changes_pictures_of_other_classes_alone(name: str) -> None:
    clean = pictures()
    wanted, true = planted(name, clean, target=2).strike.triggered(
        clean, rng=np.random.default_rng(0)
    )
    assert len(wanted) == len(true) > 0
    assert (wanted.labels != true.labels).all()
    assert (wanted.labels == 2).all()


@every_learned
def test_a_class_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(DataError, match="is no class of"):
        planted(name, pictures(), target=77)


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
