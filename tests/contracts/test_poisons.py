"""What every attack on training data does, whoever wrote it."""

from typing import Any

import numpy as np
import pytest

from gifthorse.core.errors import DataError
from gifthorse.core.protocols import Poison
from gifthorse.core.registry import Spec, build, names, plugin_class
from gifthorse.core.types import ImageData
from gifthorse.data.images import ArrayImages

POISONS = [name for name in names("attacks") if hasattr(plugin_class("attacks", name), "poison")]
every_poison = pytest.mark.parametrize("name", POISONS)
CLASSES = 5


def clean_images(channels: int = 3, n: int = 400, side: int = 16) -> ArrayImages:
    rng = np.random.default_rng(3)
    # Smooth pictures, because a warp or a blur does nothing to be seen on noise of one level.
    coarse = rng.uniform(20, 235, (n, channels, side // 4, side // 4))
    pixels = np.kron(coarse, np.ones((1, 1, 4, 4))) + rng.uniform(
        -15, 15, (n, channels, side, side)
    )
    return ArrayImages(
        name="clean",
        pixels=pixels.clip(1, 254).astype(np.uint8),
        labels=np.arange(n, dtype=np.int64) % CLASSES,
        class_names=tuple(f"class {i}" for i in range(CLASSES)),
    )


def attack(name: str, **options: Any) -> Poison:
    made = build("attacks", Spec(name, options))
    assert isinstance(made, Poison)
    return made


def pixels_of(data: ImageData) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.rint(data.batch(np.arange(len(data))) * 255).astype(np.int64)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@every_poison
@pytest.mark.parametrize("channels", [1, 3])
def test_the_truth_names_exactly_what_was_touched(name: str, channels: int) -> None:
    clean = clean_images(channels)
    data, truth = attack(name).poison(clean, rng=rng())
    changed = (pixels_of(data) != pixels_of(clean)).any(axis=(1, 2, 3))
    relabelled = data.labels != clean.labels
    named = truth.poisoned | truth.covered
    assert truth.poisoned.any()
    assert not (truth.poisoned & truth.covered).any()
    assert not (changed & ~named).any()
    assert not (relabelled & ~truth.poisoned).any()
    assert changed[truth.poisoned].mean() > 0.99


@every_poison
def test_the_same_seed_gives_the_same_poison_and_another_one_another(name: str) -> None:
    clean = clean_images()
    one, truth_one = attack(name).poison(clean, rng=rng(1))
    two, truth_two = attack(name).poison(clean, rng=rng(1))
    np.testing.assert_array_equal(pixels_of(one), pixels_of(two))
    np.testing.assert_array_equal(one.labels, two.labels)
    np.testing.assert_array_equal(truth_one.poisoned, truth_two.poisoned)
    _, other = attack(name).poison(clean, rng=rng(2))
    assert (truth_one.poisoned != other.poisoned).any()


@every_poison
def test_the_clean_data_is_not_changed(name: str) -> None:
    clean = clean_images()
    pixels, labels = clean.pixels.copy(), clean.labels.copy()
    attack(name).poison(clean, rng=rng())
    attack(name).triggered(clean, rng=rng())
    np.testing.assert_array_equal(clean.pixels, pixels)
    np.testing.assert_array_equal(clean.labels, labels)


@every_poison
def test_it_is_measured_on_triggered_pictures_that_are_not_of_the_wanted_class(name: str) -> None:
    clean = clean_images()
    wanted, true = attack(name).triggered(clean, rng=rng())
    assert len(wanted) == len(true) > 0
    np.testing.assert_array_equal(pixels_of(wanted), pixels_of(true))
    assert (wanted.labels != true.labels).all()
    again, _ = attack(name).triggered(clean, rng=rng())
    np.testing.assert_array_equal(pixels_of(wanted), pixels_of(again))


@every_poison
def test_the_stated_rate_is_the_rate(name: str) -> None:
    clean = clean_images()
    _, truth = attack(name, rate=0.05).poison(clean, rng=rng())
    assert truth.poisoned.sum() == 20


@every_poison
def test_a_class_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(DataError, match="is no class of clean"):
        attack(name, target=77).poison(clean_images(), rng=rng())
