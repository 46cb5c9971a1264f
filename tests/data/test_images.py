import numpy as np
import pytest

from gifthorse.core.errors import DataError
from gifthorse.core.types import ImageData
from gifthorse.data.images import ArrayImages, Subset, batches, digest, subset, to_arrays


def _images(count: int = 6, channels: int = 1, classes: int = 3) -> ArrayImages:
    rng = np.random.default_rng(0)
    return ArrayImages(
        name="tiny",
        pixels=rng.integers(0, 256, size=(count, channels, 4, 5), dtype=np.uint8),
        labels=np.arange(count) % classes,
        class_names=tuple("abcdefgh"[:classes]),
    )


def test_array_images_are_image_data() -> None:
    data = _images(channels=3)
    assert isinstance(data, ImageData)
    assert isinstance(subset(data, np.array([0])), ImageData)
    assert data.image_shape == (3, 4, 5)
    assert len(data) == 6


def test_batch_is_a_new_array_in_the_unit_range() -> None:
    data = _images()
    before = data.pixels.copy()
    values = data.batch(np.array([5, 0, 0]))
    assert values.dtype == np.float32
    assert values.shape == (3, 1, 4, 5)
    np.testing.assert_array_equal(values[0], data.pixels[5] / np.float32(255))
    values[:] = 7
    np.testing.assert_array_equal(data.pixels, before)


def test_from_floats_rounds_to_the_nearest_level() -> None:
    pixels = np.array([0.0, 0.5, 1.0, 0.3 / 255]).reshape(1, 1, 2, 2)
    data = ArrayImages.from_floats(pixels, np.array([0]), name="f", class_names=("a",))
    np.testing.assert_array_equal(data.pixels.ravel(), [0, 128, 255, 0])


def test_float_round_trip() -> None:
    data = _images(channels=3)
    again = ArrayImages.from_floats(
        data.batch(np.arange(6)), data.labels, name="again", class_names=data.class_names
    )
    np.testing.assert_array_equal(again.pixels, data.pixels)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, "2 of 8 pixel values are NaN or infinite"),
        (np.inf, "2 of 8 pixel values are NaN or infinite"),
        (255.0, r"lie in \[0, 255\], expected \[0, 1\]; .*divide by 255"),
        (-0.25, r"lie in \[-0.25, 0\], expected \[0, 1\]"),
    ],
)
def test_from_floats_refuses(value: float, message: str) -> None:
    pixels = np.zeros((2, 1, 2, 2), dtype=np.float32)
    pixels[:, 0, 1, 1] = value
    with pytest.raises(DataError, match=message):
        ArrayImages.from_floats(pixels, np.array([0, 0]), name="f", class_names=("a",))


def test_from_floats_refuses_whole_numbers() -> None:
    with pytest.raises(DataError, match="type uint8, expected floats"):
        ArrayImages.from_floats(
            np.zeros((1, 1, 2, 2), np.uint8), np.array([0]), name="f", class_names=("a",)
        )


@pytest.mark.parametrize(
    ("pixels", "labels", "message"),
    [
        (np.zeros((0, 1, 2, 2), np.uint8), [], "got 0 images"),
        (np.zeros((2, 2, 2), np.uint8), [0, 0], "shape"),
        (np.zeros((2, 4, 2, 2), np.uint8), [0, 0], "c = 1 or 3"),
        (np.zeros((2, 1, 0, 2), np.uint8), [0, 0], "no pixels"),
        (np.zeros((2, 1, 2, 2), np.float32), [0, 0], "expected uint8"),
        (np.zeros((2, 1, 2, 2), np.uint8), [0], "got 2 images but labels of shape"),
        (np.zeros((2, 1, 2, 2), np.uint8), [0.0, 1.0], "expected whole numbers"),
        (np.zeros((2, 1, 2, 2), np.uint8), [0, 2], "image 1 has label 2, expected 0 to 1"),
        (np.zeros((2, 1, 2, 2), np.uint8), [-1, 0], "image 0 has label -1"),
    ],
)
def test_array_images_refuse(pixels: np.ndarray, labels: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        ArrayImages(name="x", pixels=pixels, labels=np.array(labels), class_names=("a", "b"))


def test_small_label_types_become_int64() -> None:
    data = ArrayImages(
        name="x",
        pixels=np.zeros((2, 1, 2, 2), np.uint8),
        labels=np.array([0, 1], dtype=np.uint8),
        class_names=("a", "b"),
    )
    assert data.labels.dtype == np.int64


def test_subset_keeps_order_and_classes() -> None:
    data = _images(channels=3)
    view = subset(data, np.array([4, 1]))
    np.testing.assert_array_equal(view.labels, data.labels[[4, 1]])
    np.testing.assert_array_equal(view.batch(np.array([1])), data.batch(np.array([1])))
    assert view.class_names == data.class_names
    assert view.name == "tiny"


def test_subset_of_a_subset_looks_into_the_base() -> None:
    data = _images()
    view = subset(subset(data, np.array([5, 3, 1])), np.array([2, 0]))
    assert isinstance(view, Subset)
    assert view.base is data
    np.testing.assert_array_equal(view.indices, [1, 5])
    np.testing.assert_array_equal(view.batch(np.arange(2)), data.batch(np.array([1, 5])))


@pytest.mark.parametrize(
    ("indices", "message"),
    [([], "got 0 images"), ([6], r"lie in \[6, 6\], expected \[0, 5\]"), ([-1], r"\[-1, -1\]"),
     ([0.0], "whole numbers"), ([[0]], "shape")],
)  # fmt: skip
def test_subset_refuses(indices: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        subset(_images(), np.array(indices))


def test_a_subset_of_a_subset_is_checked_against_the_subset() -> None:
    with pytest.raises(DataError, match=r"expected \[0, 1\]"):
        subset(subset(_images(), np.array([0, 1])), np.array([4]))


def test_to_arrays_materialises_a_view() -> None:
    data = _images(channels=3)
    arrays = to_arrays(subset(data, np.array([3, 0])))
    np.testing.assert_array_equal(arrays.pixels, data.pixels[[3, 0]])
    np.testing.assert_array_equal(arrays.labels, data.labels[[3, 0]])
    assert to_arrays(data) is data


def test_batches_cover_everything_once() -> None:
    seen = np.concatenate([indices for indices, _ in batches(_images(7), size=3)])
    np.testing.assert_array_equal(seen, np.arange(7))


def test_digest_depends_on_content_alone() -> None:
    data = _images(600)
    assert digest(data).startswith("sha256:")
    assert len(digest(data)) == len("sha256:") + 64
    everything = subset(data, np.arange(len(data)))
    assert digest(everything) == digest(data) == digest(to_arrays(everything))
    renamed = ArrayImages(
        name="other", pixels=data.pixels, labels=data.labels, class_names=data.class_names
    )
    assert digest(renamed) == digest(data)


def test_digest_notices_every_change() -> None:
    data = _images()
    pixels = data.pixels.copy()
    pixels[-1, 0, 3, 4] ^= 1
    labels = data.labels.copy()
    labels[0] = 2

    def changed(
        pixels: np.ndarray = data.pixels,
        labels: np.ndarray = data.labels,
        names: tuple[str, ...] = data.class_names,
    ) -> str:
        return digest(ArrayImages(name="tiny", pixels=pixels, labels=labels, class_names=names))

    flat = data.pixels.reshape(6, 1, 5, 4)
    digests = [
        digest(data),
        changed(pixels=pixels),
        changed(pixels=flat),
        changed(labels=labels),
        changed(names=("a", "b", "d")),
        changed(names=("ab", "", "c")),
        digest(subset(data, np.arange(6)[::-1])),
    ]
    assert len(set(digests)) == len(digests)
