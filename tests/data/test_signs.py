import numpy as np
import pytest

from gifthorse.core.errors import DataError
from gifthorse.data.images import digest
from gifthorse.data.signs import DEFAULT_COUNTS, signs
from gifthorse.data.signs_drawing import CLASS_NAMES, MASTER, masters


def test_shape_and_balance() -> None:
    data = signs("train", 40, seed=3)
    assert data.image_shape == (3, 32, 32)
    assert data.class_names == CLASS_NAMES
    assert len(CLASS_NAMES) == 16
    counts = np.bincount(data.labels, minlength=16)
    assert counts.min() == 2
    assert counts.max() == 3


def test_a_seed_gives_the_same_pictures_again() -> None:
    assert digest(signs("train", 20, seed=5)) == digest(signs("train", 20, seed=5))
    assert digest(signs("train", 20, seed=5)) != digest(signs("train", 20, seed=6))


def test_a_smaller_set_is_the_beginning_of_a_larger_one() -> None:
    small, large = signs("test", 30), signs("test", 200)
    np.testing.assert_array_equal(small.pixels, large.pixels[:30])
    np.testing.assert_array_equal(small.labels, large.labels[:30])


def test_train_and_test_share_no_picture() -> None:
    train, test = signs("train", 300), signs("test", 300)
    pictures = {picture.tobytes() for picture in train.pixels}
    assert len(pictures) == 300
    assert pictures.isdisjoint(picture.tobytes() for picture in test.pixels)


def test_pictures_use_the_range_of_a_camera() -> None:
    values = signs("train", 128).batch(np.arange(128))
    means = values.mean(axis=(1, 2, 3))
    assert 0.2 < means.mean() < 0.6
    assert means.std() > 0.05
    assert (values.std(axis=(1, 2, 3)) > 0.02).all()


def test_classes_can_be_told_apart_by_their_mean_colour() -> None:
    """A sanity check of the labels: the blue signs are bluer than the red ones."""
    data = signs("train", 640)
    blueness = data.batch(np.arange(640))[:, 2, 8:24, 8:24].mean(axis=(1, 2))
    blueness -= data.batch(np.arange(640))[:, 0, 8:24, 8:24].mean(axis=(1, 2))
    mean = {
        name: blueness[data.labels == label].mean() for label, name in enumerate(data.class_names)
    }
    assert min(mean["turn left"], mean["roundabout"]) > 0
    assert max(mean["stop"], mean["no entry"], mean["priority road"]) < 0


def test_masters_are_distinct_and_transparent_at_the_corners() -> None:
    drawn = masters()
    assert len({picture.tobytes() for picture in drawn}) == len(CLASS_NAMES)
    for picture in drawn:
        assert picture.size == (MASTER, MASTER)
        assert np.asarray(picture)[0, 0, 3] == 0
        assert np.asarray(picture)[MASTER // 2, MASTER // 2, 3] == 255


def test_defaults_are_those_of_the_documentation() -> None:
    assert DEFAULT_COUNTS == {"train": 6000, "test": 2000}


@pytest.mark.parametrize(
    ("split", "count", "seed", "message"),
    [("valid", 10, 0, "no split"), ("train", 0, 0, "cannot draw 0"), ("train", 5, -1, "negative")],
)
def test_signs_refuse(split: str, count: int, seed: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        signs(split, count, seed)  # type: ignore[arg-type]
