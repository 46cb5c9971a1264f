"""Labelled pictures in memory, views of them, and what can be said about any of them."""

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gifthorse.core.errors import DataError
from gifthorse.core.types import FloatArray, ImageData, IntArray
from gifthorse.data.relabelled import Relabelled

PixelArray = NDArray[np.uint8]

_BATCH = 512


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ArrayImages:
    """Labelled pictures in memory, eight bits a channel.

    Attributes:
        name: How the user named the data set.
        pixels: Shape (n, c, h, w), c = 1 or 3, n ≥ 1. The array is not copied.
        labels: Class of every picture, shape (n,), values in [0, len(class_names)).
        class_names: A name for every class.

    Raises:
        DataError: No pictures, another shape or type, or a label without a class.
    """

    name: str
    pixels: PixelArray
    labels: IntArray
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        _check_pixels(self.name, self.pixels)
        if self.pixels.dtype != np.uint8:
            raise DataError(
                f"{self.name}: pixels have type {self.pixels.dtype}, expected uint8; "
                "turn floats in [0, 1] into pictures with ArrayImages.from_floats"
            )
        object.__setattr__(self, "class_names", tuple(self.class_names))
        labels = checked_labels(self.name, self.labels, len(self.pixels), len(self.class_names))
        object.__setattr__(self, "labels", labels)

    @classmethod
    def from_floats(
        cls,
        pixels: NDArray[Any],
        labels: IntArray,
        *,
        name: str,
        class_names: tuple[str, ...],
    ) -> "ArrayImages":
        """Pictures from floats in [0, 1], rounded to the nearest of 256 levels.

        Args:
            pixels: Shape (n, c, h, w), any float type, values in [0, 1].
            labels: Shape (n,).
            name: How the user named the data set.
            class_names: A name for every class.

        Raises:
            DataError: NaN, infinite values, values outside [0, 1], or what the class refuses.
        """
        _check_pixels(name, pixels)
        if not np.issubdtype(pixels.dtype, np.floating):
            raise DataError(f"{name}: pixels have type {pixels.dtype}, expected floats in [0, 1]")
        broken = sum(int((~np.isfinite(part)).sum()) for part in _parts(pixels))
        if broken:
            raise DataError(
                f"{name}: {broken} of {pixels.size} pixel values are NaN or infinite; "
                "expected numbers in [0, 1]; repair or leave out those pictures"
            )
        low = min(float(part.min()) for part in _parts(pixels))
        high = max(float(part.max()) for part in _parts(pixels))
        if low < 0 or high > 1:
            raise DataError(
                f"{name}: pixel values lie in [{low:.4g}, {high:.4g}], expected [0, 1]; undo the "
                "normalisation, divide by 255, or store 8-bit levels as uint8"
            )
        levels = np.empty(pixels.shape, dtype=np.uint8)
        for start, part in zip(range(0, len(pixels), _BATCH), _parts(pixels), strict=True):
            levels[start : start + len(part)] = to_levels(part)
        return cls(name=name, pixels=levels, labels=labels, class_names=class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of every picture."""
        _, channels, height, width = self.pixels.shape
        return channels, height, width

    def __len__(self) -> int:
        return len(self.pixels)

    def batch(self, indices: IntArray) -> FloatArray:
        """The pictures at ``indices``: a new array (len(indices), c, h, w), values in [0, 1]."""
        values = self.pixels[np.asarray(indices, dtype=np.int64)].astype(np.float32)
        values /= np.float32(255)
        return values


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subset:
    """A view of some pictures of another data set; nothing is copied or decoded.

    Attributes:
        base: The data set that holds the pictures.
        indices: Which of them, in this order, shape (n,), n ≥ 1, values in [0, len(base)).
        labels: Their classes, shape (n,).

    Raises:
        DataError: No indices, or one that the data set does not have.
    """

    base: ImageData
    indices: IntArray
    labels: IntArray = field(init=False)

    def __post_init__(self) -> None:
        indices = np.asarray(self.indices)
        if indices.size == 0:
            raise DataError(f"{self.base.name}: got 0 images; a data set needs at least one")
        if indices.ndim != 1 or not np.issubdtype(indices.dtype, np.integer):
            raise DataError(
                f"{self.base.name}: indices have shape {indices.shape} and type {indices.dtype}, "
                "expected whole numbers of shape (n,)"
            )
        low, high = int(indices.min()), int(indices.max())
        if low < 0 or high >= len(self.base):
            raise DataError(
                f"{self.base.name}: indices lie in [{low}, {high}], "
                f"expected [0, {len(self.base) - 1}]"
            )
        object.__setattr__(self, "indices", indices.astype(np.int64))
        object.__setattr__(self, "labels", self.base.labels[self.indices])

    @property
    def name(self) -> str:
        """The name of the data set it is a view of."""
        return self.base.name

    @property
    def class_names(self) -> tuple[str, ...]:
        """All classes of the data set, even those without a picture here."""
        return self.base.class_names

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of every picture."""
        return self.base.image_shape

    def __len__(self) -> int:
        return len(self.indices)

    def batch(self, indices: IntArray) -> FloatArray:
        """The pictures at ``indices`` of this view: a new array, values in [0, 1]."""
        return self.base.batch(self.indices[np.asarray(indices, dtype=np.int64)])


def subset(data: ImageData, indices: IntArray) -> ImageData:
    """A lazy view of the pictures at ``indices`` (shape (n,)), in that order.

    Raises:
        DataError: No indices, or one that the data set does not have.
    """
    view = Subset(base=data, indices=indices)
    if isinstance(data, Subset):  # a view of a view would look up every index twice
        return Subset(base=data.base, indices=data.indices[view.indices])
    return view


def to_arrays(data: ImageData) -> ArrayImages:
    """All pictures in memory, rounded to eight bits a channel; in-memory data comes back as is."""
    if isinstance(data, ArrayImages):
        return data
    pixels = np.empty((len(data), *data.image_shape), dtype=np.uint8)
    for indices, values in batches(data):
        pixels[indices] = to_levels(values)
    return ArrayImages(
        name=data.name, pixels=pixels, labels=data.labels.copy(), class_names=data.class_names
    )


def digest(data: ImageData) -> str:
    """``sha256:…`` over class names, labels and pixels as 8-bit levels, in order.

    It depends on the content alone: a view and a copy of the same pictures have the same digest,
    and so have pictures that were decoded from another file format. The name is left out.
    """
    total = hashlib.sha256(b"gifthorse image data 2\0")
    total.update(struct.pack("<4q", len(data), *data.image_shape))
    for class_name in data.class_names:
        text = class_name.encode("utf-8", errors="surrogatepass")
        total.update(struct.pack("<q", len(text)) + text)
    total.update(np.ascontiguousarray(data.labels, dtype="<i8").data)
    for levels in _levels(data):
        total.update(np.ascontiguousarray(levels).data)
    return f"sha256:{total.hexdigest()}"


def _levels(data: ImageData) -> Iterator[PixelArray]:
    """All pictures in order as 8-bit levels; pixels that are held as such are not converted."""
    if isinstance(data, ArrayImages):
        yield from (data.pixels[i : i + _BATCH] for i in range(0, len(data), _BATCH))
    elif isinstance(data, Relabelled):
        yield from _levels(data.data)
    else:
        yield from (to_levels(values) for _, values in batches(data))


def batches(data: ImageData, size: int = _BATCH) -> Iterator[tuple[IntArray, FloatArray]]:
    """All pictures in order, at most ``size`` at a time, each batch with its indices."""
    for start in range(0, len(data), size):
        indices = np.arange(start, min(start + size, len(data)), dtype=np.int64)
        yield indices, data.batch(indices)


def to_levels(values: NDArray[Any]) -> PixelArray:
    """Floats in [0, 1] as the nearest of 256 levels; values outside are clipped."""
    levels: PixelArray = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    return levels


def checked_labels(name: str, labels: NDArray[Any], count: int, classes: int) -> IntArray:
    """Labels as int64 of shape (count,), every one in [0, classes).

    Raises:
        DataError: Another shape or type, or a label without a class.
    """
    labels = np.asarray(labels)
    if labels.shape != (count,):
        raise DataError(
            f"{name}: got {count} images but labels of shape {labels.shape}, expected ({count},)"
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{name}: labels have type {labels.dtype}, expected whole numbers")
    wrong = (labels < 0) | (labels >= classes)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise DataError(
            f"{name}: {int(wrong.sum())} labels have no class: image {row} has label "
            f"{int(labels[row])}, expected 0 to {classes - 1}"
        )
    return labels.astype(np.int64)


def _check_pixels(name: str, pixels: NDArray[Any]) -> None:
    if not isinstance(pixels, np.ndarray) or pixels.ndim != 4 or pixels.shape[1] not in (1, 3):
        raise DataError(
            f"{name}: pixels have shape {np.shape(pixels)}, expected (n, c, h, w) with c = 1 or 3"
        )
    if len(pixels) == 0:
        raise DataError(f"{name}: got 0 images; a data set needs at least one")
    if pixels.size == 0:
        raise DataError(f"{name}: pictures of shape {pixels.shape[1:]} have no pixels")


def _parts(pixels: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Slices, so that checking a large array needs no second one of its size."""
    for start in range(0, len(pixels), _BATCH):
        yield pixels[start : start + _BATCH]
