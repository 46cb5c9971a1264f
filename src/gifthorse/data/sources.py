"""Data sets by the name or path that a user gives."""

import difflib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np

from gifthorse.core.errors import DataError
from gifthorse.core.types import ImageData
from gifthorse.data.decoding import resized
from gifthorse.data.idx import has_idx, load_idx
from gifthorse.data.images import ArrayImages
from gifthorse.data.npz import load_npz
from gifthorse.data.signs import signs
from gifthorse.data.tables import (
    is_parquet_folder,
    load_folder,
    load_hub,
    load_parquet,
)

Split = Literal["train", "test"]
Size = tuple[int, int]

FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

FORMS = (
    "signs",
    "signs:COUNT",
    "fashion-mnist",
    "digits",
    "cifar10",
    "hf:NAME",
    "idx:DIR",
    "folder:DIR",
    "parquet:FILE",
    "npz:FILE",
)
"""What ``load`` understands, besides the path of an existing file or folder."""

_MAX_SIDE = 4096


def load(
    source: str, *, split: Split = "train", size: Size | None = None, seed: int = 0
) -> ImageData:
    """Labelled pictures by name or path.

    Forms of ``source``:

    - ``signs`` or ``signs:COUNT``: the built-in generator of traffic-sign photographs.
    - ``fashion-mnist``: IDX files that are installed, or in ``$GIFTHORSE_DATA/fashion-mnist``.
    - ``digits``: 1,797 handwritten digits of 8 × 8 pixels that come with scikit-learn.
    - ``cifar10``, ``hf:NAME`` or ``hf:NAME:CONFIGURATION``: through the ``datasets`` library.
    - ``idx:DIR``, ``folder:DIR``, ``parquet:FILE`` and ``npz:FILE``: files in those formats.
    - The path of something that exists: its format is guessed.

    Args:
        source: One of the forms above.
        split: Which part of the data.
        size: (height, width) that pictures are resized to, bilinearly and without keeping the
            aspect ratio. None leaves them as they are; where the pictures of a folder, Parquet
            file or hub data set differ in size, all get the size of the first.
        seed: Seed of the built-in generator; other sources do not use it.

    Raises:
        DataError: Unknown form, missing or broken files, or content that is no labelled pictures.
    """
    if split not in ("train", "test"):
        raise DataError(f"no split is called {split!r}; expected 'train' or 'test'")
    if size is not None and not all(0 < side <= _MAX_SIDE for side in size):
        raise DataError(
            f"pictures cannot be {size[0]} × {size[1]} pixels; expected 1 to {_MAX_SIDE}"
        )
    form, colon, rest = source.partition(":")
    if form == "signs":
        return _fit(signs(split, _count(source, rest) if colon else None, seed), size)
    if source == "fashion-mnist":
        return _fit(_fashion(split), size)
    if source == "digits":
        return _fit(_digits(split), size)
    if source == "cifar10":
        return load_hub("uoft-cs/cifar10", split, name=source, size=size)
    if colon and form in _READERS:
        if not rest:
            raise DataError(f"{source!r}: expected something behind the colon, as in {_form(form)}")
        return _READERS[form](rest, split, source, size)
    guessed = _guess(source) if source.strip() else None
    if guessed is not None:
        return _READERS[guessed](source, split, source, size)
    near = difflib.get_close_matches(
        source, ["signs", "fashion-mnist", "digits", "cifar10"], n=1, cutoff=0.5
    )
    near = near or [_form(known) for known in difflib.get_close_matches(form, _READERS, n=1)]
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise DataError(
        f"{source!r} is neither a data set that is known nor a file or folder that exists; {hint}"
        f"expected one of {', '.join(FORMS)}, or a path"
    )


def _form(form: str) -> str:
    return next(known for known in FORMS if known.startswith(f"{form}:"))


def _count(source: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= 1_000_000:
        raise DataError(f"{source!r}: expected a number of images, as in signs:500, got {text!r}")
    return int(text)


def _fit(data: ArrayImages, size: Size | None) -> ArrayImages:
    if size is None or data.image_shape[1:] == size:
        return data
    return ArrayImages(
        name=data.name,
        pixels=resized(data.pixels, size),
        labels=data.labels,
        class_names=data.class_names,
    )


def _read_idx(rest: str, split: str, name: str, size: Size | None) -> ImageData:
    folder = Path(rest)
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder")
    return _fit(load_idx(folder, split, name=name), size)


def _read_npz(rest: str, split: str, name: str, size: Size | None) -> ImageData:
    return _fit(load_npz(Path(rest), split, name=name), size)


def _read_folder(rest: str, split: str, name: str, size: Size | None) -> ImageData:
    return load_folder(Path(rest), split, name=name, size=size)


def _read_parquet(rest: str, split: str, name: str, size: Size | None) -> ImageData:
    return load_parquet(rest, split, name=name, size=size)


def _read_hub(rest: str, split: str, name: str, size: Size | None) -> ImageData:
    return load_hub(rest, split, name=name, size=size)


_READERS: dict[str, Callable[[str, str, str, Size | None], ImageData]] = {
    "hf": _read_hub,
    "idx": _read_idx,
    "folder": _read_folder,
    "parquet": _read_parquet,
    "npz": _read_npz,
}


def _guess(source: str) -> str | None:
    """The form of something that exists; None if there is no such path.

    Raises:
        DataError: It exists, and is nothing that can be read.
    """
    path = Path(source)
    try:
        if path.is_file():
            form = {".npz": "npz", ".parquet": "parquet"}.get(path.suffix.lower())
            if form is None:
                raise DataError(
                    f"{source}: a file of an unknown kind; expected .npz or .parquet, "
                    "or the folder that holds IDX files or pictures"
                )
            return form
        if not path.is_dir():
            return None
        if has_idx(path):
            return "idx"
        if is_parquet_folder(path):
            return "parquet"
        if any(path.iterdir()):
            return "folder"  # what it lacks as a folder of classes, the reader says best
    except (OSError, ValueError) as error:  # a name too long, a null byte, no permission
        raise DataError(f"cannot look at {source!r}: {error}") from error
    raise DataError(f"{source}: the folder is empty")


def _digits(split: str) -> ArrayImages:
    """Every fifth picture is for testing; the writers are mixed in the original order too."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    testing = np.arange(len(labels)) % 5 == 4
    rows = testing if split == "test" else ~testing
    return ArrayImages(
        name="digits",
        pixels=np.rint(pixels[rows].reshape(-1, 1, 8, 8) / 16 * 255).astype(np.uint8),
        labels=labels[rows].astype(np.int64),
        class_names=tuple("0123456789"),
    )


def _fashion(split: str) -> ArrayImages:
    for folder in _fashion_places():
        if folder.is_dir() and has_idx(folder):
            return load_idx(folder, split, name="fashion-mnist", class_names=FASHION_CLASSES)
    raise DataError(
        "fashion-mnist is not installed; run `make data`, or `apt-get install "
        "dataset-fashion-mnist`, or set GIFTHORSE_DATA to a folder that holds "
        "fashion-mnist/train-images-idx3-ubyte.gz and the like, or name the files with idx:DIR, "
        "or download them with hf:zalando-datasets/fashion_mnist"
    )


def _fashion_places() -> list[Path]:
    """Where the files may be, the user's own place first."""
    roots: list[Path] = []
    if own := os.environ.get("GIFTHORSE_DATA"):
        roots.append(Path(own))
    home = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    shared = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
    shares = [home, *shared.split(":"), str(Path(sys.prefix) / "share"), "/usr/share"]
    roots += [Path(share) / "datasets" for share in shares if share]
    return [root / "fashion-mnist" for root in roots]
