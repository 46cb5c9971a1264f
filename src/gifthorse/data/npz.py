"""NumPy archives of pictures: read without unpickling, written so that they are read again."""

import math
import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from gifthorse.core.errors import DataError
from gifthorse.core.types import ImageData, IntArray
from gifthorse.data.idx import MAX_BYTES
from gifthorse.data.images import ArrayImages, to_arrays
from gifthorse.data.labelling import numbered

_IMAGES = ("images", "image", "x", "X", "data", "pixels")
_LABELS = ("labels", "label", "y", "Y", "targets")


def load_npz(path: Path, split: str, *, name: str) -> ArrayImages:
    """Pictures from an ``.npz`` file.

    It holds ``images`` (or ``x``) and ``labels`` (or ``y``), or the same with ``_train`` and
    ``_test``, and perhaps ``class_names``. Images have shape (n, h, w), (n, h, w, c) or
    (n, c, h, w), as uint8 or as floats in [0, 1]; labels are whole numbers from 0 or strings.

    Args:
        path: The file.
        split: ``train`` or ``test``; a file without splits serves for either.
        name: How the user named the data set.

    Raises:
        DataError: Unreadable, pickled, larger than it should be, or with other arrays.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            image_key, label_key = _keys(members, split, path)
            images = _array(archive, members[image_key], path)
            labels = _array(archive, members[label_key], path)
            given = _names(archive, members, path)
            others = [key for key in _variants(_LABELS) if key in members and key != label_key]
            # A class that only the other split has is a class all the same.
            extra = [_array(archive, members[key], path) for key in others]
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(
            f"{path}: not a NumPy archive, or a broken one ({error}); write it with numpy.savez"
        ) from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    numbers, class_names = _numbered(labels, given, extra, f"{path}, array {label_key!r}")
    pixels = _channels_first(images, f"{path}, array {image_key!r}")
    if pixels.dtype == np.uint8:
        return ArrayImages(name=name, pixels=pixels, labels=numbers, class_names=class_names)
    if np.issubdtype(pixels.dtype, np.floating):
        return ArrayImages.from_floats(pixels, numbers, name=name, class_names=class_names)
    raise DataError(
        f"{path}, array {image_key!r}: got type {pixels.dtype}, expected uint8, or floats in [0, 1]"
    )


def read_texts(path: Path, key: str) -> tuple[str, ...]:
    """An array of strings in an ``.npz`` file, such as who contributed each picture.

    Raises:
        DataError: No such file or array, or other content.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            found = _names(archive, members, path, key)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{path}: not a NumPy archive, or a broken one ({error})") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    if not found:
        raise DataError(f"{path}: has no array of strings called {key!r}")
    return found


def save_npz(data: ImageData, path: Path, *, contributors: Sequence[str] | None = None) -> None:
    """Write pictures, labels and class names to a file that ``npz:FILE`` reads back.

    Pixels are rounded to eight bits a channel. The file appears whole or not at all, and the same
    data gives the same bytes.

    Args:
        data: The pictures.
        path: Where to write.
        contributors: Who supplied each, length n; kept in an array of that name.

    Raises:
        DataError: The file cannot be written.
    """
    arrays = to_arrays(data)
    named: dict[str, NDArray[Any]] = {
        "images": arrays.pixels,
        "labels": arrays.labels,
        "class_names": np.array(arrays.class_names, dtype=np.str_),
        **_texts(contributors, len(data)),
    }
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("xb") as file:
            np.savez(file, allow_pickle=False, **named)
        temporary.replace(path)
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _texts(contributors: Sequence[str] | None, count: int) -> dict[str, NDArray[Any]]:
    if contributors is None:
        return {}
    if len(contributors) != count:
        raise DataError(f"got {len(contributors)} contributors for {count} pictures")
    return {"contributors": np.array(contributors, dtype=np.str_)}


def _variants(keys: tuple[str, ...], splits: tuple[str, ...] = ("train", "test")) -> list[str]:
    endings = [f"{key}_{split}" for split in splits for key in keys]
    beginnings = [f"{split}_{key}" for split in splits for key in keys]
    return endings + beginnings


def _keys(members: dict[str, zipfile.ZipInfo], split: str, path: Path) -> tuple[str, str]:
    found = []
    for keys in (_IMAGES, _LABELS):
        candidates = [*_variants(keys, (split,)), *keys]
        key = next((key for key in candidates if key in members), None)
        if key is None:
            raise DataError(
                f"{path}: got the arrays {', '.join(members) or '(none)'}, expected one of "
                f"{', '.join(keys)}, or with _{split} behind it"
            )
        found.append(key)
    return found[0], found[1]


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> NDArray[Any]:
    """One array, after its header has been compared with what the archive holds."""
    where = f"{path}, array {member.filename.removesuffix('.npy')!r}"
    try:
        with archive.open(member) as file:
            shape, dtype = _header(file, where)
            header = file.tell()
        claimed = math.prod(shape) * dtype.itemsize
        if claimed > MAX_BYTES:
            raise DataError(f"{where}: claims {claimed:,} bytes, at most {MAX_BYTES:,} are read")
        if claimed != member.file_size - header:
            raise DataError(
                f"{where}: the header claims {claimed:,} bytes of data, got "
                f"{member.file_size - header:,}; write the file again"
            )
        with archive.open(member) as file:
            loaded: NDArray[Any] = npy.read_array(file, allow_pickle=False)
    except ValueError as error:
        raise DataError(f"{where}: not an array ({error})") from error
    return loaded


def _header(file: IO[bytes], where: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = npy.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = npy.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, _, dtype = npy.read_array_header_2_0(file)
    else:
        raise DataError(f"{where}: version {version} of the format is not read")
    if dtype.hasobject:
        raise DataError(
            f"{where}: holds pickled Python objects, which are never opened because that can run "
            "code; save plain numbers and strings"
        )
    return shape, dtype


def _names(
    archive: zipfile.ZipFile,
    members: dict[str, zipfile.ZipInfo],
    path: Path,
    key: str = "class_names",
) -> tuple[str, ...]:
    if key not in members:
        return ()
    names = _array(archive, members[key], path)
    if names.ndim != 1 or names.dtype.kind != "U":
        raise DataError(
            f"{path}, array {key!r}: got shape {names.shape} and type {names.dtype}, "
            "expected strings of shape (k,)"
        )
    return tuple(str(name) for name in names)


def _numbered(
    labels: NDArray[Any], given: tuple[str, ...], others: list[NDArray[Any]], where: str
) -> tuple[IntArray, tuple[str, ...]]:
    """Labels as numbers, and class names over all splits."""
    columns = []
    for array in (labels, *others):
        flat = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
        if flat.ndim != 1 or flat.dtype.kind not in "iuU":
            raise DataError(
                f"{where}: got shape {array.shape} and type {array.dtype}, expected (n,) whole "
                "numbers or strings"
            )
        columns.append(flat.tolist())
    if not columns[0]:
        raise DataError(f"{where}: got 0 labels; a data set needs at least one picture")
    numbers, names = numbered([value for column in columns for value in column], given, where)
    return numbers[: len(columns[0])], names


def _channels_first(images: NDArray[Any], where: str) -> NDArray[Any]:
    if images.ndim == 3:
        return images[:, None]
    if images.ndim != 4:
        raise DataError(
            f"{where}: got the shape {images.shape}, expected (n, h, w), (n, h, w, c) "
            "or (n, c, h, w)"
        )
    first, last = images.shape[1] in (1, 3), images.shape[3] in (1, 3)
    if first and last:
        raise DataError(
            f"{where}: the shape {images.shape} can be read as (n, c, h, w) and as (n, h, w, c); "
            "resize the pictures so that neither side is 1 or 3 pixels"
        )
    if first:
        return images
    if last:
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    raise DataError(
        f"{where}: the shape {images.shape} has no axis of 1 or 3 channels; "
        "expected (n, h, w, c) or (n, c, h, w)"
    )
