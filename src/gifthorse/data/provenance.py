"""Manifests of pictures by their decoded pixels, whatever file they came from."""

import hashlib
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gifthorse.core.errors import DataError
from gifthorse.core.types import ImageData
from gifthorse.data.images import batches, to_levels
from gifthorse.provenance.samples import Sample


def pixel_digest(levels: NDArray[np.uint8]) -> bytes:
    """SHA-256 of one picture: its shape (c, h, w), then its 8-bit levels."""
    shape = struct.pack("<3q", *levels.shape)
    return hashlib.sha256(shape + np.ascontiguousarray(levels).tobytes()).digest()


def pixel_digests(values: NDArray[Any]) -> list[bytes]:
    """The digest of every picture of (n, c, h, w) with values in [0, 1]."""
    return [pixel_digest(levels) for levels in to_levels(values)]


def picture_samples(
    data: ImageData, contributors: Sequence[str] | None = None, *, ids: Sequence[str] | None = None
) -> Iterator[Sample]:
    """Every picture as a sample of a manifest, in order.

    Args:
        data: The pictures.
        contributors: Who supplied each, length n; nobody if left out.
        ids: What each is called; its number in seven digits if left out.

    Raises:
        DataError: Not as many contributors or ids as pictures.
    """
    for what, given in (("contributors", contributors), ("ids", ids)):
        if given is not None and len(given) != len(data):
            raise DataError(f"{data.name}: got {len(given)} {what} for {len(data)} pictures")
    labels, names = data.labels, data.class_names
    for indices, values in batches(data):
        for index, digest in zip(indices.tolist(), pixel_digests(values), strict=True):
            yield Sample(
                f"{index:07}" if ids is None else ids[index],
                "" if contributors is None else contributors[index],
                names[int(labels[index])],
                digest,
            )
