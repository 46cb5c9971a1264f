"""Samples in tar archives as WebDataset writes them: one name, up to its first dot."""

import hashlib
import json
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from gifthorse.core.errors import DataError
from gifthorse.provenance.reading.fields import Fields
from gifthorse.provenance.samples import MOST_TEXT, Sample, content_digest

_CHUNK = 2**20
_MOST_PARTS = 1000


def tar_files(place: Path) -> list[Path]:
    """A tar archive, or all of a folder in order.

    Raises:
        DataError: There is none.
    """
    files = sorted(place.rglob("*.tar*")) if place.is_dir() else [place]
    if not files or not files[0].is_file():
        raise DataError(f"{place}: there is no tar archive")
    return files


def tar_samples(place: Path, fields: Fields) -> Iterator[Sample]:
    """One sample for each run of members with one key; nothing is unpacked.

    The label is in ``KEY.cls``, or in a field of ``KEY.json``, which can hold the contributor too.
    All members but ``.cls`` are content. The id is the key, behind the archive's name in a folder.

    Raises:
        DataError: Not tar, or a member that is neither file nor folder.
    """
    for path in tar_files(place):
        prefix = f"{path.relative_to(place).as_posix()}/" if place.is_dir() else ""
        for key, parts, facts in _groups(path):
            where = f"{path}, {key}"
            row = facts | ({} if fields.label else {"label": facts.get("cls", "")})
            identity, who, label = fields.of(row, f"{prefix}{key}", where)
            yield Sample(identity, who, label, content_digest(parts))


_Group = tuple[str, list[tuple[str, bytes]], dict[str, Any]]


def _groups(path: Path) -> Iterator[_Group]:
    group: _Group | None = None
    try:
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                archive.members.clear()  # type: ignore[attr-defined]  # else it keeps every header
                if member.isdir():
                    continue
                file = archive.extractfile(member) if member.isreg() else None
                if file is None:
                    raise DataError(f"{path}: {member.name!r} is neither a file nor a folder")
                key, ending = split_name(member.name)
                if group is None or group[0] != key:
                    if group is not None:
                        yield group
                    group = (key, [], {})
                _add(group, ending, file, member.size, path)
    except (tarfile.TarError, EOFError, zlib.error, OSError, ValueError) as error:
        raise DataError(f"cannot read {path} as a tar archive ({error})") from error
    if group is not None:
        yield group


def split_name(name: str) -> tuple[str, str]:
    """The key of a member, and what follows the first dot of its last part."""
    folder, _, last = name.rpartition("/")
    base, _, ending = last.partition(".")
    return (f"{folder}/{base}" if folder else base), ending


def _add(group: _Group, ending: str, file: IO[bytes], size: int, path: Path) -> None:
    key, parts, facts = group
    if len(parts) == _MOST_PARTS:
        raise DataError(f"{path}: more than {_MOST_PARTS} members of {key!r}")
    first = file.read(_CHUNK)
    digest = hashlib.sha256(first)
    while block := file.read(_CHUNK):
        digest.update(block)
    if ending == "cls" and size <= MOST_TEXT:
        facts["cls"] = first.decode("utf-8", "replace").strip()
        return
    if ending == "json" and size <= _CHUNK:
        try:
            found = json.loads(first)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, dict):
            facts |= {str(name): value for name, value in found.items() if name != "cls"}
    parts.append((ending, digest.digest()))
