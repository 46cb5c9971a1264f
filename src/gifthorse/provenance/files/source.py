"""Reading bytes where they lie: on disk, within an archive, or behind a decompressor.

Nothing is extracted to disk, and nothing is read before it is asked for: tensors of a checkpoint
are skipped.
"""

import os
from collections.abc import Callable, Iterator
from typing import Protocol

from gifthorse.provenance.files.limits import Budget

_KEPT = 1 << 20
_STEP = 1 << 16


class TruncatedError(Exception):
    """The bytes end before what was announced. Never leaves this package."""


class BrokenError(Exception):
    """The bytes are not what their format wants. Never leaves this package."""


class Source(Protocol):
    """Bytes that can be read anywhere."""

    @property
    def size(self) -> int:
        """How many bytes there are; may have to unpack everything."""

    def read_at(self, offset: int, count: int) -> bytes:
        """At most ``count`` bytes from ``offset``; fewer only at the end."""


class FileSource:
    """An open regular file."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size

    def read_at(self, offset: int, count: int) -> bytes:
        """Read; see ``Source``."""
        parts = []
        while count > 0 and 0 <= offset < self.size:
            part = os.pread(self._descriptor, min(count, 1 << 30), offset)
            if not part:
                break
            parts.append(part)
            offset, count = offset + len(part), count - len(part)
        return b"".join(parts)


class BytesSource:
    """Bytes in memory."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.size = len(content)

    def read_at(self, offset: int, count: int) -> bytes:
        """Read; see ``Source``."""
        return self._content[offset : offset + count] if offset >= 0 and count > 0 else b""


class PartSource:
    """A stretch of another source; it never reads beyond its own end."""

    def __init__(self, parent: Source, start: int, size: int) -> None:
        self._parent = parent
        self._start = start
        self.size = size

    def read_at(self, offset: int, count: int) -> bytes:
        """Read; see ``Source``."""
        count = min(count, self.size - offset)
        if offset < 0 or count <= 0:
            return b""
        return self._parent.read_at(self._start + offset, count)


class UnpackedSource:
    """What a decompressor yields, unpacked as far as it is read and no further.

    Reading forward keeps one mebibyte; reading further back unpacks again from the start, which
    the budget pays for.
    """

    def __init__(self, chunks: Callable[[], Iterator[bytes]], packed: int, budget: Budget) -> None:
        self._chunks = chunks
        self._packed = packed
        self._budget = budget
        self._size: int | None = None
        self._restart()

    def _restart(self) -> None:
        self._iterator = self._chunks()
        self._kept = bytearray()
        self._start = 0

    @property
    def _end(self) -> int:
        return self._start + len(self._kept)

    @property
    def size(self) -> int:
        """How many bytes there are: unpacks everything."""
        while self._size is None:
            self._more(keep_from=self._end)
        return self._size

    def _more(self, *, keep_from: int) -> None:
        """Unpack one chunk, and forget what lies far before ``keep_from``."""
        chunk = next(self._iterator, b"")
        if not chunk:
            self._size = self._end
            return
        self._kept += chunk
        self._budget.unpack(len(chunk), self._end, self._packed)
        excess = min(keep_from, self._end) - _KEPT - self._start
        if excess > _KEPT:
            del self._kept[:excess]
            self._start += excess

    def read_at(self, offset: int, count: int) -> bytes:
        """Read; see ``Source``."""
        if offset < 0 or count <= 0 or (self._size is not None and offset >= self._size):
            return b""
        if offset < self._start:
            self._restart()
        while self._end < offset + count and (self._size is None or self._end < self._size):
            self._more(keep_from=offset)
        begin = offset - self._start
        return bytes(self._kept[begin : begin + count])


class Cursor:
    """Reads a source from front to back."""

    def __init__(self, source: Source, offset: int = 0) -> None:
        self.source = source
        self._base = offset
        self._buffer = b""
        self._at = 0

    @property
    def offset(self) -> int:
        """Where the next byte is read."""
        return self._base + self._at

    def _fill(self, count: int) -> None:
        if len(self._buffer) - self._at < count:
            self._base += self._at
            self._buffer = self.source.read_at(self._base, max(count, _STEP))
            self._at = 0

    def read(self, count: int) -> bytes:
        """Exactly ``count`` bytes.

        Raises:
            TruncatedError: There are fewer.
        """
        self._fill(count)
        found = self._buffer[self._at : self._at + count]
        if len(found) < count:
            raise TruncatedError(f"ends at byte {self.offset + len(found):,}")
        self._at += count
        return found

    def byte(self) -> int:
        """The next byte, or -1 at the end."""
        if self._at >= len(self._buffer):
            self._fill(1)
            if not self._buffer:
                return -1
        value = self._buffer[self._at]
        self._at += 1
        return value

    def peek(self, count: int) -> bytes:
        """At most ``count`` bytes, which stay unread."""
        self._fill(count)
        return self._buffer[self._at : self._at + count]

    def line(self, most: int) -> bytes:
        """A line without its end; at the end of the file unpicklers drop the last byte instead.

        Raises:
            TruncatedError: No line end within ``most`` bytes.
        """
        seen = self.peek(min(most, 256))
        end = seen.find(b"\n")
        if end < 0:
            seen = self.peek(most)
            end = seen.find(b"\n")
        if end < 0 and len(seen) == most:
            raise TruncatedError(f"no end of the line that starts at byte {self.offset:,}")
        end = end if end >= 0 else len(seen) - 1
        return self.read(end + 1)[:-1]

    def skip(self, count: int) -> None:
        """Pass over ``count`` bytes without keeping them.

        Raises:
            TruncatedError: There are fewer.
        """
        target = self.offset + count
        if count > 0 and not self.source.read_at(target - 1, 1):
            raise TruncatedError(f"ends before byte {target:,}")
        if target <= self._base + len(self._buffer):
            self._at += count
        else:
            self._base, self._buffer, self._at = target, b"", 0
