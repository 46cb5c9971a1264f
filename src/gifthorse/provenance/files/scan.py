"""Examines every file of a folder, or one file, without opening any of them as what it is."""

import hashlib
import os
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gifthorse.core.errors import DataError
from gifthorse.core.record import FileRecord, FilesRecord
from gifthorse.core.types import Progress, Verdict, silent
from gifthorse.provenance.files.examine import examine
from gifthorse.provenance.files.issues import Report, Standing
from gifthorse.provenance.files.limits import Budget, Limits
from gifthorse.provenance.files.source import FileSource

_MOST_LISTED = 1_000
_MOST_FORMATS = 6
_SKIPPED = (".git",)
_WORST_FIRST = (Verdict.FLAGGED, Verdict.INCONCLUSIVE, Verdict.CLEAR)


@dataclass(frozen=True, slots=True)
class _Found:
    """A path to examine, or why it cannot be."""

    path: Path
    name: str
    obstacle: str = ""


def scan_files(
    path: str | Path, *, limits: Limits | None = None, progress: Progress = silent
) -> FilesRecord:
    """Say of every file what it is, whether it can run code, and what it would import.

    Args:
        path: A file, or a folder with everything below it. Links are followed to files only.
        limits: Bounds for each file.
        progress: Called after every file.

    Returns:
        FLAGGED if a file can run code or hides something; INCONCLUSIVE if a file is unknown or
        could not be examined to the end; CLEAR otherwise.

    Raises:
        DataError: No such path, no file in it, or too many.
    """
    limits = limits or Limits()
    start = time.perf_counter()
    root = Path(path)
    found, notes = _listed(root, limits)
    files = []
    for done, item in enumerate(found, start=1):
        files.append(_examined(item, limits))
        progress(done, len(found), "examining files")
    files.sort(key=lambda f: (_WORST_FIRST.index(f.verdict), f.path))
    verdict, reason = overall(files, examined=len(files))
    heavy = sum(f.verdict is not Verdict.CLEAR for f in files)
    listed = files[: max(_MOST_LISTED, heavy)]
    if len(listed) < len(files):
        notes.append(f"{len(files) - len(listed):,} CLEAR files are not listed")
    return FilesRecord(
        verdict=verdict,
        reason=reason,
        examined=len(files),
        bytes=sum(f.size for f in files),
        files=tuple(listed),
        notes=tuple(notes),
        seconds=round(time.perf_counter() - start, 4),
    )


def content_digest(path: str | Path, *, limits: Limits | None = None) -> str:
    """``sha256:…`` of a file, or over (name, size, digest) of every file of a folder.

    Raises:
        DataError: As for ``scan_files``, or a file cannot be read.
    """
    root = Path(path)
    if root.is_file():
        return f"sha256:{_file_digest(root)}"
    found, _ = _listed(root, limits or Limits())
    whole = hashlib.sha256()
    for item in found:
        inner = item.obstacle or _file_digest(item.path)
        for part in (item.name, inner):
            raw = part.encode("utf-8", "surrogateescape")
            whole.update(len(raw).to_bytes(8, "big") + raw)
    return f"sha256:{whole.hexdigest()}"


def state(path: str | Path, *, limits: Limits | None = None) -> tuple[tuple[str, ...], ...]:
    """What tells whether files were exchanged or written to: number, size and times of each.

    Raises:
        DataError: As for ``scan_files``.
    """
    found, _ = _listed(Path(path), limits or Limits())
    return tuple((item.name, item.obstacle, *_times(item.path)) for item in found)


def _times(path: Path) -> tuple[str, ...]:
    try:
        seen = path.stat()
    except OSError as error:
        return (str(error.strerror),)
    return tuple(map(str, (seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)))


def _file_digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error


def _listed(root: Path, limits: Limits) -> tuple[list[_Found], list[str]]:
    try:
        mode = root.stat().st_mode
    except OSError as error:
        raise DataError(
            f"no such file or folder: {root}; expected a model file or a folder of them"
        ) from error
    except ValueError as error:
        raise DataError(f"{str(root)!r} is not a path") from error
    if not stat.S_ISDIR(mode):
        obstacle = "" if stat.S_ISREG(mode) else "not a regular file; it was not opened"
        return [_Found(root, root.name, obstacle)], []
    notes: list[str] = []
    found = []
    for item in _below(root, root, notes):
        found.append(item)
        if len(found) > limits.files:
            raise DataError(
                f"{root} holds more than {limits.files:,} files; name the folder of one model"
            )
    if not found:
        raise DataError(f"{root} holds no file; expected a model file or a folder of them")
    return found, notes


def _below(folder: Path, root: Path, notes: list[str]) -> Iterator[_Found]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        yield _Found(folder, _relative(folder, root), f"cannot be listed: {error.strerror}")
        return
    for entry in entries:
        path = Path(entry.path)
        name = _relative(path, root)
        if entry.is_dir(follow_symlinks=False):
            if entry.name in _SKIPPED:
                notes.append(f"{name} was not examined: no loader reads it")
            else:
                yield from _below(path, root, notes)
        elif entry.is_symlink():
            yield _link(path, name, root)
        elif entry.is_file(follow_symlinks=False):
            yield _Found(path, name)
        else:
            yield _Found(path, name, "not a regular file; it was not opened")


def _link(path: Path, name: str, root: Path) -> _Found:
    """Links are examined where they lead: within the folder, or into a cache of the hub."""
    try:
        target = path.resolve(strict=True)
        inside = root.resolve()
    except (OSError, RuntimeError):
        return _Found(path, name, "a link that leads nowhere")
    blobs = inside.parent.parent / "blobs"
    if not target.is_file():
        return _Found(path, name, "a link to something that is no file; it was not followed")
    if target.is_relative_to(inside) or (
        inside.parent.name == "snapshots" and target.is_relative_to(blobs)
    ):
        return _Found(target, name)
    return _Found(path, name, "a link that leads out of the folder; it was not followed")


def _relative(path: Path, root: Path) -> str:
    return os.fsencode(path.relative_to(root).as_posix()).decode("utf-8", "replace")


def _examined(item: _Found, limits: Limits) -> FileRecord:
    report, size = Report(), 0
    if item.obstacle:
        report.add("not-examined", Standing.UNKNOWN, item.obstacle)
        return _record(item, report, size)
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    # A single file may be named through a link; links in folders were resolved before.
    try:
        descriptor = os.open(item.path.resolve(), flags)
    except OSError as error:
        report.add("not-examined", Standing.UNKNOWN, f"cannot be opened: {error.strerror}")
        return _record(item, report, size)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            report.add("not-examined", Standing.UNKNOWN, "not a regular file")
        else:
            source = FileSource(descriptor)
            size = source.size
            examine(source, item.name, report, Budget(limits))
    except OSError as error:
        report.add("not-examined", Standing.UNKNOWN, f"cannot be read: {error.strerror}")
    # Hostile files are normal input: a mistake of ours must end in "not examined", not in a crash.
    except (MemoryError, RecursionError, ValueError, ArithmeticError, LookupError) as error:
        text = f"the examination failed: {type(error).__name__}"
        report.add("not-examined", Standing.UNKNOWN, text)
    finally:
        os.close(descriptor)
    return _record(item, report, size)


def _record(item: _Found, report: Report, size: int) -> FileRecord:
    weight = {Verdict.FLAGGED: 0, Verdict.INCONCLUSIVE: 1, Verdict.CLEAR: 2}
    issues = sorted(report.issues.values(), key=lambda issue: weight[issue.verdict])
    formats = list(dict.fromkeys(report.formats))
    return FileRecord(
        path=item.name,
        formats=tuple(formats[:_MOST_FORMATS]),
        size=size,
        verdict=report.standing.verdict,
        imports=tuple(report.imports),
        issues=tuple(issues),
    )


def overall(files: Sequence[FileRecord], *, examined: int) -> tuple[Verdict, str]:
    """The verdict of the worst file, and what is wrong with it."""
    worst = min(files, key=lambda f: _WORST_FIRST.index(f.verdict))
    alike = sum(f.verdict is worst.verdict for f in files)
    if worst.verdict is Verdict.CLEAR:
        one = "1 file" if examined == 1 else f"{examined:,} files"
        return Verdict.CLEAR, f"nothing in {one} can run code when it is loaded"
    issue = min(worst.issues, key=lambda i: _WORST_FIRST.index(i.verdict))
    place = f"{worst.path}!/{issue.member}" if issue.member else worst.path
    more = f" ({alike - 1:,} more like it)" if alike > 1 else ""
    return worst.verdict, f"{place}: {issue.text}{more}"
