"""What a compressed stream holds: gzip, zlib, bzip2, xz, lzma, and lz4 where it is installed."""

import bz2
import importlib.util
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from gifthorse.provenance.files.limits import Budget
from gifthorse.provenance.files.source import BrokenError, Source, UnpackedSource

_READ = 1 << 16
_WRITE = 1 << 20


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    def more(self, data: bytes) -> bytes: ...


class _Zlib:
    """Any of zlib's containers, at most a mebibyte at a time."""

    def __init__(self, bits: int) -> None:
        self._inner = zlib.decompressobj(bits)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    def more(self, data: bytes) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, _WRITE)

    @property
    def pending(self) -> bool:
        return bool(self._inner.unconsumed_tail)

    @property
    def unused(self) -> bytes:
        return self._inner.unused_data


class _Streamed:
    """Decompressors of the standard library's other modules."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    @property
    def eof(self) -> bool:
        return bool(self._inner.eof)

    def more(self, data: bytes) -> bytes:
        found: bytes = self._inner.decompress(data, _WRITE)
        return found

    @property
    def pending(self) -> bool:
        return not self._inner.needs_input and not self._inner.eof

    @property
    def unused(self) -> bytes:
        found: bytes = self._inner.unused_data
        return found


_Any = _Zlib | _Streamed

_OPENERS: dict[str, Callable[[], _Any]] = {
    "gzip": lambda: _Zlib(31),
    "zlib": lambda: _Zlib(15),
    "deflate": lambda: _Zlib(-15),
    "bzip2": lambda: _Streamed(bz2.BZ2Decompressor()),
    "xz": lambda: _Streamed(lzma.LZMADecompressor(memlimit=256 << 20)),
    "lzma": lambda: _Streamed(lzma.LZMADecompressor(format=lzma.FORMAT_ALONE, memlimit=256 << 20)),
}
_FAILURES = (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError, RuntimeError)


def can_unpack(kind: str) -> bool:
    """Whether ``unpacked`` knows how; lz4 is an optional library."""
    return kind in _OPENERS or (kind == "lz4" and importlib.util.find_spec("lz4") is not None)


def _opener(kind: str) -> Callable[[], _Any]:
    if kind != "lz4":
        return _OPENERS[kind]
    frame: Any = importlib.import_module("lz4.frame")
    return lambda: _Streamed(frame.LZ4FrameDecompressor())


def unpacked(source: Source, kind: str, budget: Budget) -> UnpackedSource:
    """What a stream holds, unpacked as it is read; streams one behind the other are one.

    Reading raises ``BrokenError`` where the stream is damaged.
    """
    opener = _opener(kind)

    def chunks() -> Iterator[bytes]:
        offset, data, inner = 0, b"", opener()
        while True:
            try:
                piece = inner.more(data)
            except _FAILURES as error:
                raise BrokenError(f"the {kind} stream is damaged: {error}") from error
            if piece:
                yield piece
            if inner.eof:
                data = inner.unused.lstrip(b"\0") if kind != "deflate" else b""
                if not data and kind != "deflate":
                    data = source.read_at(offset, _READ)
                    offset += len(data)
                    data = data.lstrip(b"\0")
                if not data:
                    return
                inner = opener()
            elif inner.pending:
                data = b""
            else:
                data = source.read_at(offset, _READ)
                offset += len(data)
                if not data:
                    raise BrokenError(f"the {kind} stream ends too early")
            budget.tick()

    return UnpackedSource(chunks, source.size, budget)
