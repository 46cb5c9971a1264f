"""Digests of files and of whole directories, in one streaming pass.

A directory's digest binds the sorted (name, size, digest) of every file in it, length-prefixed, so
that a renamed, moved, added or removed file changes it. (The root digest of OpenSSF Model Signing
hashes the digests alone and does not bind names.) Not bound: permissions, times, empty directories.

What cannot be signed unambiguously is refused: symbolic links, special files, an empty tree, and
names that another file system would read differently.
"""

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from gifthorse.core.errors import TrustError, TrustInputError
from gifthorse.provenance.names import check_names

Algorithm = Literal["sha256", "blake3", "blake2b"]
ALGORITHMS: tuple[Algorithm, ...] = ("sha256", "blake3")  # what gifthorse signs with
DIGEST_SIZE = {"sha256": 32, "blake3": 32, "blake2b": 64}
_DOMAIN = b"gifthorse-tree-1\0"
_CHUNK = 4 << 20
_MAX_DEPTH = 64
_MAX_FILES = 1_000_000
_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK

Into = Callable[[str, int], memoryview | None]
"""Given a file's name and size, the writable buffer of that size to read it into, or None."""


class Hasher(Protocol):
    """What hashlib and blake3 have in common."""

    def update(self, data: memoryview, /) -> object:
        """Hash more bytes."""

    def hexdigest(self) -> str:
        """The digest so far, in lower-case hexadecimal."""


@dataclass(frozen=True, kw_only=True)
class FileDigest:
    """One file of a tree: its name relative to the root, with ``/``; bytes; digest in hex."""

    name: str
    size: int
    digest: str


def new_hasher(algorithm: str) -> Hasher:
    """An empty hash.

    Raises:
        TrustInputError: Unknown algorithm, or blake3 is not installed.
    """
    if algorithm == "sha256":
        return hashlib.sha256()
    if algorithm == "blake2b":
        return hashlib.blake2b()
    if algorithm == "blake3":
        try:
            from blake3 import blake3
        except ImportError as error:
            raise TrustInputError(
                'blake3 is not installed; run: pip install "gifthorse[signing]"'
            ) from error
        hasher: Hasher = blake3(max_threads=blake3.AUTO)
        return hasher
    raise TrustInputError(f"unknown digest {algorithm!r}; known: {', '.join(ALGORITHMS)}")


class ShardHasher:
    """Hashes every so many bytes by themselves; ``hexdigest`` is all digests in a row."""

    def __init__(self, algorithm: str, size: int) -> None:
        self._algorithm, self._size = algorithm, size
        self._done: list[str] = []
        self._now: Hasher | None = None
        self._left = 0

    def update(self, data: memoryview, /) -> None:
        """Hash more bytes."""
        while len(data):
            if self._now is None:
                self._now, self._left = new_hasher(self._algorithm), self._size
            taken = data[: self._left]
            self._now.update(taken)
            self._left -= len(taken)
            data = data[len(taken) :]
            if not self._left:
                self._done.append(self._now.hexdigest())
                self._now = None

    def hexdigest(self) -> str:
        """The digests so far, one behind the other."""
        last = [self._now.hexdigest()] if self._now is not None else []
        return "".join([*self._done, *last])


def tree_root(files: Iterable[FileDigest], algorithm: str) -> str:
    """The digest of a whole tree, in hex: SHA-256 over the sorted (name, size, digest).

    Args:
        files: In any order; names must be unique.
        algorithm: Of the files' digests; it is part of what is hashed.
    """
    total = hashlib.sha256(_DOMAIN + _prefixed(algorithm.encode()))
    for file in sorted(files, key=lambda f: f.name.encode()):
        total.update(_prefixed(file.name.encode()))
        total.update(file.size.to_bytes(8, "big"))
        total.update(_prefixed(bytes.fromhex(file.digest)))
    return total.hexdigest()


def _prefixed(data: bytes) -> bytes:
    return len(data).to_bytes(8, "big") + data


class Tree:
    """A directory or a single file, held open so that its path can no longer be exchanged."""

    def __init__(self, path: Path, descriptor: int, *, single: bool) -> None:
        self.path = path
        self.single = single
        self._descriptor = descriptor

    def names(self) -> tuple[str, ...]:
        """Every file below, sorted.

        Raises:
            TrustError: A link, a special file, an ambiguous name, or no file at all.
        """
        there = [self.path.name] if self.single else list(self._walk(self._descriptor, "", 0))
        if not there:
            raise TrustError(f"{self.path} holds no files; there is nothing to sign or verify")
        check_names(there)
        return tuple(sorted(there, key=str.encode))

    def _walk(self, descriptor: int, prefix: str, depth: int) -> Iterator[str]:
        if depth > _MAX_DEPTH:
            raise TrustError(f"{self.path} is nested deeper than {_MAX_DEPTH} directories")
        count = 0
        with os.scandir(descriptor) as entries:
            for entry in entries:
                name = f"{prefix}{entry.name}"
                count += 1
                if count > _MAX_FILES:
                    raise TrustError(f"{self.path}/{prefix} holds over {_MAX_FILES} entries")
                if entry.is_symlink():
                    raise TrustError(
                        f"{name} in {self.path} is a symbolic link; what it points to can change, "
                        "so links are never signed or trusted (copy the file instead)"
                    )
                if entry.is_dir(follow_symlinks=False):
                    with _opened(entry.name, descriptor, os.O_DIRECTORY) as inner:
                        yield from self._walk(inner, f"{name}/", depth + 1)
                elif entry.is_file(follow_symlinks=False):
                    yield name
                else:
                    raise TrustError(f"{name} in {self.path} is neither a file nor a directory")

    @contextmanager
    def open(self, name: str) -> Iterator[int]:
        """A descriptor of one file; no part of its name is followed if it is a link.

        Raises:
            TrustError: Missing, a link, or no regular file.
        """
        if self.single:
            yield self._descriptor
            return
        *folders, last = name.split("/")
        current = os.dup(self._descriptor)
        try:
            for folder in folders:
                with _opened(folder, current, os.O_DIRECTORY) as inner:
                    os.close(current)
                    current = os.dup(inner)
            with _opened(last, current) as descriptor:
                yield descriptor
        finally:
            os.close(current)


@contextmanager
def open_tree(path: Path) -> Iterator[Tree]:
    """Open a directory or a file.

    Raises:
        TrustInputError: There is no such path.
        TrustError: It is a link to a file, or a special file.
    """
    try:
        # The user may name a directory through a link; nothing below it may be one.
        single = not path.is_dir()
        descriptor = os.open(path, _OPEN if single else os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    except FileNotFoundError as error:
        raise TrustInputError(f"no such file or directory: {path}") from error
    except (OSError, ValueError) as error:
        raise TrustError(f"{path} cannot be opened without following links: {error}") from error
    try:
        if single and not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise TrustError(f"{path} is neither a file nor a directory")
        yield Tree(path, descriptor, single=single)
    except OSError as error:
        raise TrustError(f"{path} cannot be read: {error}") from error
    finally:
        os.close(descriptor)


@contextmanager
def _opened(name: str, folder: int, flags: int = 0) -> Iterator[int]:
    try:
        descriptor = os.open(name, _OPEN | flags, dir_fd=folder)
    except OSError as error:
        raise TrustError(f"{name} changed while it was read: {error.strerror}") from error
    try:
        if not flags and not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise TrustError(f"{name} is not a regular file")
        yield descriptor
    finally:
        os.close(descriptor)


def digest_files(
    tree: Tree,
    names: Sequence[str],
    hashers: Callable[[str], Sequence[Hasher]],
    *,
    limits: Mapping[str, int] | None = None,
    into: Into | None = None,
) -> dict[str, tuple[int, tuple[str, ...]]]:
    """Hash files, several at once, reading each byte exactly once.

    Args:
        tree: An open tree.
        names: Files of it.
        hashers: New hashers for a file.
        limits: Bytes after which reading a file stops, so that a file that grows is not followed.
        into: Where files are kept: they are hashed from this buffer, and from nothing else.

    Returns:
        For each name its size in bytes and one digest for each hasher.

    Raises:
        TrustError: A file is missing, became a link, or cannot be read.
    """

    def one(name: str) -> tuple[int, tuple[str, ...]]:
        made = hashers(name)
        limit = None if limits is None else limits[name]
        with tree.open(name) as descriptor:
            there = os.fstat(descriptor).st_size
            # A file that is larger than what was signed is refused anyway, and not kept.
            fits = limit is None or there <= limit
            kept = into(name, there) if into is not None and fits else None
            if kept is None:
                size = _pump(descriptor, made, limit=limit)
            else:
                size = _pump_into(descriptor, made, kept)
        return size, tuple(hasher.hexdigest() for hasher in made)

    if len(names) == 1:
        return {names[0]: one(names[0])}
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return dict(zip(names, pool.map(one, names), strict=True))


def _pump(descriptor: int, hashers: Sequence[Hasher], *, limit: int | None) -> int:
    """Read to the end; while one buffer is hashed, the next is read."""
    size = os.fstat(descriptor).st_size
    chunk = min(_CHUNK, max(size, 1) + 1)
    buffers = [bytearray(chunk), bytearray(chunk)] if size > chunk else [bytearray(chunk)]
    if len(buffers) == 1:  # a small file: no thread is worth it
        return _pump_here(descriptor, hashers, buffers[0], limit=limit)
    done, turn = 0, 0
    pending: Future[None] | None = None
    os.lseek(descriptor, 0, os.SEEK_SET)
    with ThreadPoolExecutor(1) as pool:
        while True:
            count = os.readv(descriptor, [buffers[turn]])
            if count:
                ahead = pool.submit(_update, hashers, memoryview(buffers[turn])[:count])
            if pending is not None:
                pending.result()  # its buffer is free again
            if not count:
                return done
            pending, turn, done = ahead, 1 - turn, done + count
            if limit is not None and done > limit:
                pending.result()
                return done


def _pump_here(
    descriptor: int, hashers: Sequence[Hasher], buffer: bytearray, *, limit: int | None
) -> int:
    done = 0
    os.lseek(descriptor, 0, os.SEEK_SET)
    while count := os.readv(descriptor, [buffer]):
        _update(hashers, memoryview(buffer)[:count])
        done += count
        if limit is not None and done > limit:
            break
    return done


def _pump_into(descriptor: int, hashers: Sequence[Hasher], kept: memoryview) -> int:
    """Fill a buffer and hash it; while one piece is hashed, the next is read.

    Returns:
        Bytes read; one more than the buffer holds if the file goes on behind it.
    """
    done, pending = 0, []
    os.lseek(descriptor, 0, os.SEEK_SET)
    with ThreadPoolExecutor(1) as pool:
        while count := os.readv(descriptor, [kept[done : done + _CHUNK] or bytearray(1)]):
            if done == len(kept):
                return done + count
            pending.append(pool.submit(_update, hashers, kept[done : done + count]))
            done += count
        for piece in pending:
            piece.result()
    return done


def _update(hashers: Sequence[Hasher], data: memoryview) -> None:
    for hasher in hashers:
        hasher.update(data)
