"""IDX files, the format of MNIST and its successors."""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import IO, cast

import numpy as np

from gifthorse.core.errors import DataError
from gifthorse.data.images import ArrayImages, PixelArray
from gifthorse.data.labelling import digits

MAX_BYTES = 4 * 2**30
"""Arrays larger than this are not read into memory."""

_CHUNK = 2**22
_UINT8 = 0x08


def read_idx(path: Path, ndims: tuple[int, ...]) -> PixelArray:
    """One IDX file of bytes, plain or gzipped.

    Memory grows with what the file holds, not with what its header claims.

    Args:
        path: The file.
        ndims: Numbers of dimensions that are welcome.

    Raises:
        DataError: Unreadable, another format, or shorter or longer than its header says.
    """
    try:
        with path.open("rb") as probe:
            zipped = probe.read(2) == b"\x1f\x8b"
        with cast("IO[bytes]", gzip.open(path, "rb") if zipped else path.open("rb")) as file:
            shape = _header(file, path, ndims)
            content = _content(file, path, math.prod(shape))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{path}: the gzip file is truncated or broken ({error}); get it again"
        ) from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)


def _header(file: IO[bytes], path: Path, ndims: tuple[int, ...]) -> tuple[int, ...]:
    magic = file.read(4)
    expected = " or ".join(f"00 00 08 {ndim:02x}" for ndim in ndims)
    if len(magic) < 4 or magic[:3] != bytes([0, 0, _UINT8]) or magic[3] not in ndims:
        raise DataError(
            f"{path}: got the magic number {magic.hex(' ') or '(empty file)'}, expected {expected} "
            f"(IDX, unsigned bytes, {' or '.join(map(str, ndims))} dimensions)"
        )
    sizes = file.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise DataError(f"{path}: the file ends within its header; get it again")
    shape = struct.unpack(f">{magic[3]}I", sizes)
    if math.prod(shape) > MAX_BYTES:
        raise DataError(
            f"{path}: the header claims {math.prod(shape):,} bytes ({shape}); at most "
            f"{MAX_BYTES:,} are read; the file is damaged or hostile"
        )
    return shape


def _content(file: IO[bytes], path: Path, claimed: int) -> bytearray:
    content = bytearray()
    while len(content) <= claimed:
        part = file.read(min(_CHUNK, claimed + 1 - len(content)))
        if not part:
            break
        content += part
    if len(content) != claimed:
        got = "more" if len(content) > claimed else f"{len(content):,}"
        raise DataError(
            f"{path}: the header claims {claimed:,} bytes of data, got {got}; get the file again"
        )
    return content


def find_pair(folder: Path, split: str) -> tuple[Path, Path]:
    """The image and label files of a split in a folder.

    Names are those of MNIST: ``train-images-idx3-ubyte``, ``t10k-labels-idx1-ubyte`` and so on,
    with or without ``.gz``. If a folder holds one pair only, it serves for either split.

    Raises:
        DataError: No such pair.
    """
    pairs = _pairs(folder)
    if not pairs:
        raise DataError(
            f"{folder}: expected files named *images-idx3-ubyte and *labels-idx1-ubyte "
            "(or with .gz), found no such pair"
        )
    if len(pairs) == 1:
        return next(iter(pairs.values()))
    prefixes = {"train": ("train",), "test": ("t10k", "test")}[split]
    for name, pair in sorted(pairs.items()):
        if name.lower().startswith(prefixes):
            return pair
    raise DataError(
        f"{folder}: none of the pairs {', '.join(sorted(map(repr, pairs)))} is the {split} split; "
        f"expected a name that begins with {' or '.join(prefixes)}"
    )


def has_idx(folder: Path) -> bool:
    """Whether a folder holds at least one pair of image and label files."""
    return bool(_pairs(folder))


def _pairs(folder: Path) -> dict[str, tuple[Path, Path]]:
    """What stands before ``images`` in the names, with both files."""
    pairs: dict[str, tuple[Path, Path]] = {}
    for images in sorted(folder.glob("*images[-.]idx[34]-ubyte*")):
        if images.name.removesuffix(".gz")[-6:] != "-ubyte":
            continue
        prefix, joint, _ = images.name.rpartition("images")
        separator = images.name[len(prefix + joint)]
        for ending in (".gz", ""):
            labels = folder / f"{prefix}labels{separator}idx1-ubyte{ending}"
            if labels.is_file():
                pairs[prefix] = (images, labels)
    return pairs


def load_idx(
    folder: Path, split: str, *, name: str, class_names: tuple[str, ...] | None = None
) -> ArrayImages:
    """Pictures from IDX files.

    Args:
        folder: Where the files are.
        split: ``train`` or ``test``.
        name: How the user named the data set.
        class_names: Names of the classes; their digits unless told.

    Raises:
        DataError: Files are missing or broken, or do not belong together.
    """
    image_file, label_file = find_pair(folder, split)
    images = read_idx(image_file, (3, 4))
    labels = read_idx(label_file, (1,)).astype(np.int64)
    if len(images) != len(labels):
        raise DataError(
            f"{image_file.name} has {len(images)} images but {label_file.name} has {len(labels)} "
            "labels; expected as many; they do not belong together"
        )
    if len(images) == 0:
        raise DataError(f"{image_file}: got 0 images; a data set needs at least one")
    names = class_names or digits(_classes(folder), name)
    return ArrayImages(
        name=name, pixels=_channels_first(images, image_file), labels=labels, class_names=names
    )


def _classes(folder: Path) -> int:
    """How many classes the labels of all splits have, so that train and test agree."""
    label_files = [labels for _, labels in _pairs(folder).values()]
    return 1 + max(int(read_idx(labels, (1,)).max(initial=0)) for labels in label_files)


def _channels_first(images: PixelArray, path: Path) -> PixelArray:
    if images.ndim == 3:
        return images[:, None]
    if images.shape[3] in (1, 3):
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    if images.shape[1] in (1, 3):
        return images
    raise DataError(f"{path}: got the shape {images.shape}, expected 1 or 3 channels")
