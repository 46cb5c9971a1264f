"""Samples and splits of a data set that keep every class represented."""

import numpy as np

from gifthorse.core.errors import DataError
from gifthorse.core.types import ImageData, IntArray
from gifthorse.data.images import subset


def stratified_sample(data: ImageData, count: int, rng: np.random.Generator) -> ImageData:
    """As many pictures of every class as possible, without replacement, in their order.

    Classes that have too few give all they have, and the others make up for it. Where the count
    cannot be divided evenly, chance decides which classes give one more.

    Args:
        data: Where to draw from.
        count: How many, ≥ 1; more than there are means all.
        rng: Source of the draw.

    Raises:
        DataError: ``count`` is below 1.
    """
    if count < 1:
        raise DataError(f"{data.name}: cannot draw a sample of {count} images, expected at least 1")
    if count >= len(data):
        return data
    rows = _rows_by_class(data, rng)
    sizes = np.array([len(row) for row in rows], dtype=np.int64)
    take = np.zeros_like(sizes)
    while (left := count - int(take.sum())) > 0:
        open_classes = np.flatnonzero(take < sizes)
        share = left // len(open_classes)
        if share:
            take[open_classes] = np.minimum(take[open_classes] + share, sizes[open_classes])
        else:
            take[rng.choice(open_classes, size=left, replace=False)] += 1
    chosen = np.concatenate([row[:number] for row, number in zip(rows, take, strict=True)])
    return subset(data, np.sort(chosen))


def split(
    data: ImageData, fraction: float, rng: np.random.Generator
) -> tuple[ImageData, ImageData]:
    """Two disjoint parts that together are the whole, each with every class in proportion.

    Args:
        data: What to split.
        fraction: Size of the first part, in (0, 1).
        rng: Source of the draw.

    Raises:
        DataError: The fraction is out of range, or would leave a part empty.
    """
    if not 0 < fraction < 1:
        raise DataError(f"{data.name}: fraction {fraction} is out of range, expected in (0, 1)")
    total = round(fraction * len(data))
    if total in (0, len(data)):
        raise DataError(
            f"{data.name}: {fraction:g} of {len(data)} images leaves a part without images"
        )
    rows = _rows_by_class(data, rng)
    exact = np.array([fraction * len(row) for row in rows])
    take = np.floor(exact).astype(np.int64)
    # What rounding down left over goes to the classes that lost most by it.
    order = np.argsort(take - exact, kind="stable")
    take[order[: total - int(take.sum())]] += 1
    first = np.concatenate([row[:number] for row, number in zip(rows, take, strict=True)])
    second = np.concatenate([row[number:] for row, number in zip(rows, take, strict=True)])
    return subset(data, np.sort(first)), subset(data, np.sort(second))


def _rows_by_class(data: ImageData, rng: np.random.Generator) -> list[IntArray]:
    """Indices of every class's pictures, each list shuffled."""
    labels = data.labels
    return [
        rng.permutation(np.flatnonzero(labels == label)) for label in range(len(data.class_names))
    ]
