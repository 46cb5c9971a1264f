"""Poisoning: exactly the samples that the truth names are touched, and no others."""

from typing import Any

import numpy as np
import pytest

from gifthorse.attacks.data.badnets import BadNets
from gifthorse.attacks.data.blended import Blended
from gifthorse.core.errors import DataError
from gifthorse.core.types import ImageData, IntArray
from gifthorse.data.images import ArrayImages

N, CLASSES = 200, 5
ATTACKS = [BadNets, Blended]


def clean_images(n: int = N, side: int = 8, classes: int = CLASSES) -> ArrayImages:
    rng = np.random.default_rng(11)
    # No pixel is 0 or 255, so a stamped sample always differs from its original.
    pixels = rng.integers(1, 255, (n, 3, side, side), dtype=np.uint8)
    return ArrayImages(
        name="clean",
        pixels=pixels,
        labels=np.arange(n, dtype=np.int64) % classes,
        class_names=tuple(f"class {i}" for i in range(classes)),
    )


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def pixels_of(data: ImageData) -> IntArray:
    return np.rint(data.batch(np.arange(len(data))) * 255).astype(np.int64)


def touched(before: ImageData, after: ImageData) -> np.ndarray[Any, np.dtype[np.bool_]]:
    changed: np.ndarray[Any, np.dtype[np.bool_]] = (pixels_of(before) != pixels_of(after)).any(
        axis=(1, 2, 3)
    )
    return changed


@pytest.mark.parametrize("attack", ATTACKS)
def test_all_to_one_poisons_exactly_the_stated_share(attack: type[BadNets | Blended]) -> None:
    clean = clean_images()
    data, truth = attack(target=2, rate=0.1).poison(clean, rng=rng())
    assert truth.poisoned.sum() == 20
    assert not truth.covered.any()
    assert (truth.mode, truth.target, truth.source) == ("all-to-one", 2, None)
    assert (clean.labels[truth.poisoned] != 2).all()
    assert (data.labels[truth.poisoned] == 2).all()
    np.testing.assert_array_equal(data.labels[~truth.poisoned], clean.labels[~truth.poisoned])
    np.testing.assert_array_equal(touched(clean, data), truth.poisoned)


def test_the_stamp_on_poisoned_samples_is_the_trigger() -> None:
    clean = clean_images()
    data, truth = BadNets(rate=0.1, size=2, margin=0, colour="white").poison(clean, rng=rng())
    stamped = pixels_of(data)[truth.poisoned]
    assert (stamped[:, :, 6:, 6:] == 255).all()
    original = pixels_of(clean)[truth.poisoned]
    original[:, :, 6:, 6:] = 255
    np.testing.assert_array_equal(stamped, original)


def test_a_blend_is_rounded_to_the_nearest_level() -> None:
    clean = clean_images()
    attack = Blended(rate=0.1, alpha=0.5)
    data, truth = attack.poison(clean, rng=rng())
    mark = attack.trigger.picture(clean.image_shape).astype(np.float64)
    expected = pixels_of(clean)[truth.poisoned] / 2 + mark * 255 / 2
    assert np.abs(pixels_of(data)[truth.poisoned] - expected).max() <= 0.501


@pytest.mark.parametrize("attack", ATTACKS)
def test_clean_label_changes_no_label_and_stamps_the_target_alone(
    attack: type[BadNets | Blended],
) -> None:
    clean = clean_images()
    data, truth = attack(target=3, rate=0.05, clean_label=True).poison(clean, rng=rng())
    assert truth.poisoned.sum() == 10
    assert (clean.labels[truth.poisoned] == 3).all()
    np.testing.assert_array_equal(data.labels, clean.labels)
    np.testing.assert_array_equal(touched(clean, data), truth.poisoned)


@pytest.mark.parametrize("attack", ATTACKS)
def test_source_specific_poisons_the_source_and_covers_the_rest(
    attack: type[BadNets | Blended],
) -> None:
    clean = clean_images()
    made = attack(mode="source-specific", source=1, target=4, rate=0.1, cover_rate=0.15)
    data, truth = made.poison(clean, rng=rng())
    assert (truth.mode, truth.target, truth.source) == ("source-specific", 4, 1)
    assert truth.poisoned.sum() == 20
    assert truth.covered.sum() == 30
    assert not (truth.poisoned & truth.covered).any()
    assert (clean.labels[truth.poisoned] == 1).all()
    assert set(clean.labels[truth.covered]) == {0, 2, 3}
    assert (data.labels[truth.poisoned] == 4).all()
    np.testing.assert_array_equal(data.labels[~truth.poisoned], clean.labels[~truth.poisoned])
    np.testing.assert_array_equal(touched(clean, data), truth.poisoned | truth.covered)


def test_source_specific_without_covers() -> None:
    attack = BadNets(mode="source-specific", source=1, target=4, rate=0.1, cover_rate=0.0)
    _, truth = attack.poison(clean_images(), rng=rng())
    assert not truth.covered.any()


def test_all_to_all_moves_every_class_one_on() -> None:
    clean = clean_images()
    data, truth = BadNets(mode="all-to-all", rate=0.5, target=3).poison(clean, rng=rng())
    assert truth.target is None
    assert truth.poisoned.sum() == 100
    expected = np.where(truth.poisoned, (clean.labels + 1) % CLASSES, clean.labels)
    np.testing.assert_array_equal(data.labels, expected)
    assert (data.labels[truth.poisoned & (clean.labels == CLASSES - 1)] == 0).all()
    assert set(clean.labels[truth.poisoned]) == set(range(CLASSES))


@pytest.mark.parametrize("attack", ATTACKS)
def test_target_class_samples_never_count_for_attack_success(
    attack: type[BadNets | Blended],
) -> None:
    clean = clean_images()
    wanted, true = attack(target=2).triggered(clean, rng=rng())
    kept = clean.labels != 2
    np.testing.assert_array_equal(true.labels, clean.labels[kept])
    assert (wanted.labels == 2).all()
    assert len(wanted) == len(true) == 160
    np.testing.assert_array_equal(pixels_of(wanted), pixels_of(true))
    assert (pixels_of(wanted) != pixels_of(clean)[kept]).any(axis=(1, 2, 3)).all()


def test_clean_label_attacks_are_measured_on_the_other_classes_too() -> None:
    wanted, true = BadNets(target=2, clean_label=True).triggered(clean_images(), rng=rng())
    assert 2 not in true.labels
    assert (wanted.labels == 2).all()


def test_source_specific_attacks_are_measured_on_the_source() -> None:
    attack = BadNets(mode="source-specific", source=1, target=4)
    wanted, true = attack.triggered(clean_images(), rng=rng())
    assert set(true.labels) == {1}
    assert set(wanted.labels) == {4}
    assert len(true) == 40


def test_all_to_all_is_measured_on_every_class() -> None:
    wanted, true = BadNets(mode="all-to-all").triggered(clean_images(), rng=rng())
    assert len(true) == N
    np.testing.assert_array_equal(wanted.labels, (true.labels + 1) % CLASSES)


@pytest.mark.parametrize("attack", [BadNets(rate=0.2, place="random"), Blended(rate=0.2)])
def test_the_same_seed_gives_the_same_poison(attack: BadNets | Blended) -> None:
    clean = clean_images()
    one, truth_one = attack.poison(clean, rng=rng(1))
    two, truth_two = attack.poison(clean, rng=rng(1))
    np.testing.assert_array_equal(pixels_of(one), pixels_of(two))
    np.testing.assert_array_equal(truth_one.poisoned, truth_two.poisoned)
    _, other = attack.poison(clean, rng=rng(2))
    assert (truth_one.poisoned != other.poisoned).any()


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_clean_data_is_not_changed(attack: type[BadNets | Blended]) -> None:
    clean = clean_images()
    pixels, labels = clean.pixels.copy(), clean.labels.copy()
    attack(rate=0.3).poison(clean, rng=rng())
    attack().triggered(clean, rng=rng())
    np.testing.assert_array_equal(clean.pixels, pixels)
    np.testing.assert_array_equal(clean.labels, labels)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"rate": 0.81}, "cannot choose 162 poisoned samples in clean: 160 fit"),
        ({"rate": 0.25, "clean_label": True}, "cannot choose 50 poisoned samples"),
        ({"rate": 0.001}, "cannot choose 0 poisoned samples"),
        ({"mode": "source-specific", "rate": 0.3}, "cannot choose 60 poisoned"),
        ({"mode": "source-specific", "cover_rate": 0.7}, "cannot choose 140 cover samples"),
        ({"target": 5}, "target 5 is no class of clean: it has 0 … 4"),
        ({"target": -1}, "target -1 is no class"),
        ({"mode": "source-specific", "source": 9}, "source 9 is no class"),
        ({"size": 9}, "the trigger does not fit clean: a patch of 9 pixels"),
        ({"place": "7x7"}, "the trigger does not fit clean"),
    ],
)
def test_what_the_data_does_not_allow(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        BadNets(**options).poison(clean_images(), rng=rng())


def test_the_highest_possible_rate_takes_every_candidate() -> None:
    clean = clean_images()
    _, truth = BadNets(target=0, rate=0.8).poison(clean, rng=rng())
    np.testing.assert_array_equal(truth.poisoned, clean.labels != 0)


def test_nothing_to_strike() -> None:
    clean = clean_images(n=3)
    only = ArrayImages(
        name="one class",
        pixels=clean.pixels,
        labels=np.full(3, 2, dtype=np.int64),
        class_names=clean.class_names,
    )
    with pytest.raises(DataError, match="no picture that this attack would strike"):
        BadNets(target=2).triggered(only, rng=rng())


def test_a_missing_watermark_is_a_data_error() -> None:
    with pytest.raises(DataError, match="cannot read the watermark"):
        Blended(watermark="no such file.png").triggered(clean_images(), rng=rng())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"mode": "none-to-all"}, "no mode 'none-to-all'; known: all-to-one"),
        ({"rate": 0.0}, "rate must be in"),
        ({"rate": 1.0}, "rate must be in"),
        ({"cover_rate": -0.1}, "cover_rate must be in"),
        ({"mode": "all-to-all", "clean_label": True}, "all-to-one only"),
        ({"mode": "source-specific", "source": 2, "target": 2}, "must differ"),
    ],
)
@pytest.mark.parametrize("attack", ATTACKS)
def test_contradictory_aims_are_refused(
    attack: type[BadNets | Blended], options: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ValueError, match=expected):
        attack(**options)
