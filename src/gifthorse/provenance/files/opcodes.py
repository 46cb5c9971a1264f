"""Splits a pickle into operations, without doing any of them.

Names of operations are those of ``pickletools``; the arguments are read here, because
``pickletools.genops`` refuses what real unpicklers accept (module names that are not ASCII, strings
that are no UTF-8), holds long strings in memory, and cannot pass over the array bytes that joblib
writes between operations.
"""

import codecs
import pickletools
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass

from gifthorse.provenance.files.source import BrokenError, Cursor

_LONGEST_LINE = 1 << 16
_LONGEST_KEPT = 1 << 12

NAMES: dict[int, str] = {ord(opcode.code): opcode.name for opcode in pickletools.opcodes}


@dataclass(frozen=True, slots=True)
class Blob:
    """A string or bytes too long to keep."""

    length: int


Argument = None | bool | int | float | str | bytes | Blob | tuple[str, str]


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _fixed(layout: str) -> Callable[[Cursor], Argument]:
    size = struct.calcsize(layout)

    def read(cursor: Cursor) -> Argument:
        value: int | float = struct.unpack(layout, cursor.read(size))[0]
        return value

    return read


def _counted(layout: str, *, text: bool = False) -> Callable[[Cursor], Argument]:
    size = struct.calcsize(layout)

    def read(cursor: Cursor) -> Argument:
        (length,) = struct.unpack(layout, cursor.read(size))
        if length < 0:
            raise BrokenError(f"a string of {length} bytes")
        if length > _LONGEST_KEPT:
            cursor.skip(length)
            return Blob(length)
        raw = cursor.read(length)
        return _text(raw) if text else raw

    return read


def _long(layout: str) -> Callable[[Cursor], Argument]:
    size = struct.calcsize(layout)

    def read(cursor: Cursor) -> Argument:
        (length,) = struct.unpack(layout, cursor.read(size))
        if length < 0:
            raise BrokenError(f"a number of {length} bytes")
        if length > _LONGEST_KEPT:
            cursor.skip(length)
            return Blob(length)
        return int.from_bytes(cursor.read(length), "little", signed=True)

    return read


def _line(cursor: Cursor) -> Argument:
    return _text(cursor.line(_LONGEST_LINE))


def _number(cursor: Cursor) -> Argument:
    raw = cursor.line(_LONGEST_LINE).strip().rstrip(b"L")
    if raw in (b"00", b"01"):
        return raw == b"01"
    try:
        return int(raw, 0) if len(raw) < 1000 else Blob(len(raw))
    except ValueError:
        return None


def _real(cursor: Cursor) -> Argument:
    try:
        return float(cursor.line(_LONGEST_LINE))
    except ValueError:
        return None


def _quoted(cursor: Cursor) -> Argument:
    raw = cursor.line(_LONGEST_LINE).strip()
    if len(raw) >= 2 and raw[:1] in (b"'", b'"') and raw[-1:] == raw[:1]:
        raw = raw[1:-1]
    try:
        with warnings.catch_warnings():  # unknown escapes are no concern of the user
            warnings.simplefilter("ignore")
            return _text(codecs.escape_decode(raw)[0])
    except ValueError:
        return _text(raw)


def _escaped(cursor: Cursor) -> Argument:
    raw = cursor.line(_LONGEST_LINE)
    try:
        return raw.decode("raw-unicode-escape")
    except UnicodeDecodeError:
        return _text(raw)


def _pair(cursor: Cursor) -> Argument:
    module = _text(cursor.line(_LONGEST_LINE))
    return module, _text(cursor.line(_LONGEST_LINE))


_READERS: dict[str, Callable[[Cursor], Argument]] = {
    "INT": _number,
    "LONG": _number,
    "FLOAT": _real,
    "STRING": _quoted,
    "UNICODE": _escaped,
    "PERSID": _line,
    "GET": _number,
    "PUT": _number,
    "GLOBAL": _pair,
    "INST": _pair,
    "BININT": _fixed("<i"),
    "BININT1": _fixed("<B"),
    "BININT2": _fixed("<H"),
    "BINFLOAT": _fixed(">d"),
    "BINGET": _fixed("<B"),
    "LONG_BINGET": _fixed("<I"),
    "BINPUT": _fixed("<B"),
    "LONG_BINPUT": _fixed("<I"),
    "EXT1": _fixed("<B"),
    "EXT2": _fixed("<H"),
    "EXT4": _fixed("<i"),
    "PROTO": _fixed("<B"),
    "FRAME": _fixed("<Q"),
    "LONG1": _long("<B"),
    "LONG4": _long("<i"),
    "BINSTRING": _counted("<i", text=True),
    "SHORT_BINSTRING": _counted("<B", text=True),
    "BINUNICODE": _counted("<I", text=True),
    "SHORT_BINUNICODE": _counted("<B", text=True),
    "BINUNICODE8": _counted("<Q", text=True),
    "BINBYTES": _counted("<I"),
    "SHORT_BINBYTES": _counted("<B"),
    "BINBYTES8": _counted("<Q"),
    "BYTEARRAY8": _counted("<Q"),
}


def next_operation(cursor: Cursor) -> tuple[str, Argument]:
    """Read one operation.

    Raises:
        BrokenError: No operation has this code.
        TruncatedError: The file ends within it.
    """
    code = cursor.byte()
    name = NAMES.get(code)
    if name is None:
        at = cursor.offset - (code >= 0)
        what = "ends without STOP" if code < 0 else f"byte {code:#04x} is no operation"
        raise BrokenError(f"{what} at byte {at:,}")
    reader = _READERS.get(name)
    return name, reader(cursor) if reader is not None else None
