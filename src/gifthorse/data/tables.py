"""Folders of pictures, Parquet files and hub data sets, as ``datasets.Dataset``."""

import glob
from pathlib import Path
from typing import Any

from gifthorse.core.errors import DataError
from gifthorse.data.hub import HubImages

PICTURE_ENDINGS = frozenset(
    (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
)

_TEST_SPLITS = ("test", "validation", "valid", "val")  # names of held-out data, best first


def load_folder(folder: Path, split: str, *, name: str, size: tuple[int, int] | None) -> HubImages:
    """Pictures in one subfolder a class, perhaps below ``train/`` and ``test/``.

    Classes are the subfolders in alphabetical order, over both splits. Hidden files, files of
    other kinds and classes without pictures in either split are passed over.

    Args:
        folder: The root.
        split: ``train`` or ``test``; a folder without splits serves for either.
        name: How the user named the data set.
        size: (height, width); None means that of the first picture.

    Raises:
        DataError: No folder, no classes, no pictures, or no such split.
    """
    import datasets

    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder")
    parts = _parts(folder)
    root = _part(parts, split, folder) if parts else folder
    pictures = {part: _by_class(part) for part in (list(parts.values()) or [folder])}
    classes = sorted({label for found in pictures.values() for label in found})
    if not classes:
        flat = sum(1 for file in root.iterdir() if _is_picture(file))
        hint = f"found {flat} pictures directly in it; " if flat else ""
        raise DataError(
            f"{root}: expected one subfolder of pictures a class; {hint}"
            "without subfolders the classes are unknown"
        )
    rows = [(str(file), label) for label in classes for file in pictures[root].get(label, ())]
    if not rows:
        raise DataError(f"{root}: got 0 images; a data set needs at least one")
    features = datasets.Features(
        {"image": datasets.Image(decode=False), "label": datasets.ClassLabel(names=classes)}
    )
    columns = {
        "image": [{"bytes": None, "path": file} for file, _ in rows],
        "label": [label for _, label in rows],
    }
    dataset = datasets.Dataset.from_dict(columns, features=features)
    return HubImages.wrap(dataset, name=name, size=size, roots=(root,))


def load_parquet(pattern: str, split: str, *, name: str, size: tuple[int, int] | None) -> HubImages:
    """Pictures in Parquet files, as ``datasets`` writes them.

    Args:
        pattern: A file, a folder (searched with its subfolders), or a pattern with ``*``.
        split: ``train`` or ``test``: in a folder whose file names begin with splits, which files
            to read. Otherwise all are read.
        name: How the user named the data set.
        size: (height, width); None means that of the first picture.

    Raises:
        DataError: No such files, not Parquet, or no columns of pictures and labels.
    """
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = _parquet_files(pattern, split)
    file = files[0]
    try:
        # Reading the ends of the files first gives short errors, before anything is converted.
        for file in files:
            if pq.read_metadata(file).num_rows == 0:
                raise DataError(f"{file}: got 0 images; leave this file out")
        dataset = datasets.Dataset.from_parquet([str(file) for file in files])
    except (datasets.exceptions.DatasetGenerationError, pa.ArrowException) as error:
        raise DataError(
            f"{name}: cannot read {file} as Parquet ({error.__cause__ or error}); "
            "get the file again"
        ) from error
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{name}: cannot read {file} as Parquet ({error})") from error
    return HubImages.wrap(dataset, name=name, size=size)


def load_hub(repository: str, split: str, *, name: str, size: tuple[int, int] | None) -> HubImages:
    """Pictures from a hub, or from the local cache of one (``HF_HUB_OFFLINE=1``).

    No code of the repository is run.

    Args:
        repository: ``owner/name``, or ``owner/name:configuration``.
        split: ``train`` or ``test``; where a data set has no ``test``, its validation split.
        name: How the user named the data set.
        size: (height, width); None means that of the first picture.

    Raises:
        DataError: No such data set, no network, no such split, or no pictures.
    """
    path, _, configuration = repository.partition(":")
    if not path:
        raise DataError("hf: expected the name of a data set, as in hf:owner/name")
    import datasets
    import huggingface_hub.constants

    try:
        dataset = _load_split(path, configuration or None, split)
    except Exception as error:  # whatever a dozen libraries raise means the same here
        raise DataError(
            f"{name}: cannot load {path!r} ({type(error).__name__}: {_first_line(error)}); it "
            "needs the network, or a copy in the local cache; or use folder:DIR, parquet:FILE, "
            "idx:DIR, npz:FILE, or the built-in signs"
        ) from error
    # Repositories of plain picture files are downloaded to these folders and named by path.
    caches = (datasets.config.HF_DATASETS_CACHE, huggingface_hub.constants.HF_HUB_CACHE)
    roots = tuple(Path(cache) for cache in caches)
    return HubImages.wrap(dataset, name=name, size=size, roots=roots)


def _load_split(path: str, configuration: str | None, split: str) -> Any:
    import datasets

    wanted = ("train",) if split == "train" else _TEST_SPLITS
    for part in wanted:
        try:
            return datasets.load_dataset(path, configuration, split=part)
        except ValueError as error:
            if "Unknown split" not in str(error) or part == wanted[-1]:
                raise
    raise AssertionError("the last split returns or raises")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")


def _is_picture(file: Path) -> bool:
    return (
        file.suffix.lower() in PICTURE_ENDINGS and not file.name.startswith(".") and file.is_file()
    )


def _parts(folder: Path) -> dict[str, Path]:
    """The subfolders that are splits; none if there is no training split."""
    found = {part: folder / part for part in ("train", *_TEST_SPLITS) if (folder / part).is_dir()}
    if "train" not in found:
        return {}
    # "train" may also be a class, of vehicles; then it holds pictures and stands beside others.
    others = [other for other in _subfolders(folder) if other.name not in found]
    return found if not others or any(map(_has_class, found.values())) else {}


def _subfolders(folder: Path) -> list[Path]:
    return sorted(sub for sub in folder.iterdir() if sub.is_dir() and not sub.name.startswith("."))


def _has_class(folder: Path) -> bool:
    return any(_is_picture(file) for sub in _subfolders(folder) for file in sub.rglob("*"))


def _part(parts: dict[str, Path], split: str, folder: Path) -> Path:
    names = ("train",) if split == "train" else _TEST_SPLITS
    for name in names:
        if name in parts:
            return parts[name]
    raise DataError(
        f"{folder}: has {', '.join(parts)}/ but none of {', '.join(names)}/ for the {split} split"
    )


def _by_class(root: Path) -> dict[str, list[Path]]:
    found = {}
    for folder in _subfolders(root):
        if files := sorted(file for file in folder.rglob("*") if _is_picture(file)):
            found[folder.name] = files
    return found


def _parquet_files(pattern: str, split: str) -> list[Path]:
    path = Path(pattern)
    if path.is_dir():
        return _files_of_split(path, split)
    # A file whose name has brackets in it is a file before it is a pattern.
    files = [path] if path.is_file() else sorted(map(Path, glob.glob(pattern, recursive=True)))  # noqa: PTH207
    if not files:
        raise DataError(f"{pattern}: there is no such file, folder or pattern of files")
    return files


def _files_of_split(folder: Path, split: str) -> list[Path]:
    files = sorted(folder.rglob("*.parquet"))
    if not files:
        raise DataError(f"{folder}: there are no .parquet files in this folder")
    named = {
        part: [file for file in files if file.name.startswith(part) or file.parent.name == part]
        for part in ("train", *_TEST_SPLITS)
    }
    if not any(named.values()):
        return files
    for wanted in ("train",) if split == "train" else _TEST_SPLITS:
        if named[wanted]:
            return named[wanted]
    known = ", ".join(part for part, found in named.items() if found)
    raise DataError(f"{folder}: has files for {known} but none for the {split} split")


def is_parquet_folder(folder: Path) -> bool:
    """Whether a folder holds Parquet files, directly or one folder deeper."""
    return any(next(folder.glob(level), None) for level in ("*.parquet", "*/*.parquet"))
