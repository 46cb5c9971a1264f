"""Samples that are files: a folder, usually with one subfolder a class."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from gifthorse.core.errors import DataError
from gifthorse.provenance.samples import Sample

_CHUNK = 2**20


def folder_samples(root: Path, *, part: str | None = None) -> Iterator[Sample]:
    """Every file below ``root`` that is not hidden, in the order in which folders are loaded.

    Classes are the subfolders in alphabetical order; the label is the name of the class. A file
    directly in ``root`` has no label. The id is the path below ``root`` with forward slashes.

    Args:
        root: The folder.
        part: Which folder of the path is the label, counted from 0; the first unless told.

    Raises:
        DataError: No folder, no such part, or a file that cannot be read.
    """
    if part is not None and not part.isdigit():
        raise DataError(
            f"got {part!r}; expected the number of the part of the path that is the label"
        )
    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder")
    for path, folder in folder_files(root):
        identity = path.relative_to(root).as_posix()
        label = folder if part is None else _part(identity, int(part))
        yield Sample(identity, "", label, file_digest(path))


def _part(identity: str, part: int) -> str:
    folders = identity.split("/")[:-1]
    return folders[part] if part < len(folders) else ""


def folder_files(root: Path) -> Iterator[tuple[Path, str]]:
    """The files of ``folder_samples`` with their labels; nothing is read.

    Raises:
        DataError: A folder that cannot be listed.
    """
    try:
        entries = sorted(root.iterdir())
        for path in entries:
            if path.is_file() and not path.name.startswith("."):
                yield path, ""
        for folder in entries:
            if folder.is_dir() and not folder.name.startswith("."):
                for path in _below(folder):
                    yield path, folder.name
    except OSError as error:
        raise DataError(f"cannot list {root}: {error.strerror or error}") from error


def file_digest(path: Path) -> bytes:
    """SHA-256 of a file, read in pieces.

    Raises:
        DataError: It cannot be read.
    """
    try:
        with path.open("rb", buffering=0) as file:
            content = file.read(_CHUNK)
            digest = hashlib.sha256(content)
            while content:
                content = file.read(_CHUNK)
                digest.update(content)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    return digest.digest()


def _below(folder: Path) -> list[Path]:
    found = []
    for place, _, names in os.walk(folder, onerror=_raise):
        here = Path(place)
        found += [here / name for name in names if not name.startswith(".")]
    return sorted(path for path in found if path.is_file())


def _raise(error: OSError) -> None:
    raise error
