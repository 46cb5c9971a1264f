"""Examines a GGUF file: header, metadata and chat templates; tensors are not read.

The format runs no code, but readers written in C trust its lengths, and its chat template is
rendered by programs that may not sandbox it.
Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

import math
import struct
from collections.abc import Iterator

from gifthorse.provenance.files.issues import Report, Standing, shown
from gifthorse.provenance.files.limits import Budget
from gifthorse.provenance.files.source import BrokenError, Cursor, Source, TruncatedError
from gifthorse.provenance.files.texts import examine_template

_FIXED = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY = 8, 9
_MOST_KEYS = 100_000
_MOST_TENSORS = 1_000_000
_LONGEST_KEY = 1 << 16
_LONGEST_TEXT = 16 << 20
_DEEPEST = 4

BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210),
    15: (256, 292), 16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18),
    21: (256, 110), 22: (256, 82), 23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4),
    27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2), 34: (256, 54), 35: (256, 66),
    39: (32, 17),
}  # fmt: skip
"""Type of a tensor → (items a block, bytes a block)."""


class _Reader:
    """Numbers and strings of one byte order."""

    def __init__(self, source: Source, order: str) -> None:
        self.cursor = Cursor(source, 4)
        self.order = order

    def number(self, letter: str) -> int:
        layout = self.order + letter
        value: int = struct.unpack(layout, self.cursor.read(struct.calcsize(layout)))[0]
        return value

    def text(self, most: int) -> bytes:
        """A string; a longer one than ``most`` is passed over and comes back empty."""
        length = self.number("Q")
        if length > most:
            self.cursor.skip(length)
            return b""
        return self.cursor.read(length)


def examine(source: Source, report: Report, budget: Budget) -> None:
    """Report what is wrong with the header, and hostile templates.

    Raises:
        BrokenError: The header is none.
        TruncatedError: It ends too early.
        LimitReachedError: The budget is spent.
    """
    order = ">" if source.read_at(0, 4) == b"FUGG" or source.read_at(4, 2) == b"\0\0" else "<"
    reader = _Reader(source, order)
    version = reader.number("I")
    if version not in (2, 3):
        raise BrokenError(f"GGUF version {version} is not known")
    tensors, keys = reader.number("Q"), reader.number("Q")
    if keys > _MOST_KEYS or tensors > _MOST_TENSORS:
        raise BrokenError(f"a GGUF header that claims {keys:,} keys and {tensors:,} tensors")
    alignment = _metadata(reader, keys, report, budget)
    spans = list(_tensors(reader, tensors, budget))
    start = -(-reader.cursor.offset // alignment) * alignment
    _check_spans(sorted(spans), source.size - start, alignment, report)


def _metadata(reader: _Reader, count: int, report: Report, budget: Budget) -> int:
    alignment, seen = 32, set()
    for _ in range(count):
        budget.tick()
        key = reader.text(_LONGEST_KEY)
        if key in seen:
            text = f"the key {shown(key)} stands twice; readers differ in which they take"
            report.add("gguf-duplicate", Standing.UNKNOWN, text)
        seen.add(key)
        kind = reader.number("I")
        if kind == _STRING:
            value = reader.text(_LONGEST_TEXT)
            if b"chat_template" in key:
                _template(value, report)
        elif key == b"general.alignment" and kind == 4:
            alignment = reader.number("I")
            if not 0 < alignment <= 1 << 16 or alignment & (alignment - 1):
                raise BrokenError(f"a GGUF alignment of {alignment}")
        else:
            _pass_over(reader, kind, budget, 0)
    return alignment


def _template(value: bytes, report: Report) -> None:
    if not value:
        text = "a chat template that is empty or too long was not examined"
        report.add("gguf-template", Standing.UNKNOWN, text)
    examine_template(value.decode("utf-8", "replace"), report)


def _pass_over(reader: _Reader, kind: int, budget: Budget, depth: int) -> None:
    if kind in _FIXED:
        reader.cursor.skip(_FIXED[kind])
    elif kind == _STRING:
        reader.text(0)
    elif kind == _ARRAY and depth < _DEEPEST:
        inner, count = reader.number("I"), reader.number("Q")
        if inner in _FIXED:
            reader.cursor.skip(_FIXED[inner] * count)
            return
        for i in range(count):
            if i % 4096 == 0:
                budget.tick()
            _pass_over(reader, inner, budget, depth + 1)
    else:
        raise BrokenError(f"a GGUF value of type {kind}")


def _tensors(reader: _Reader, count: int, budget: Budget) -> Iterator[tuple[int, int, bytes]]:
    """(begin, end, name) of every tensor, from the start of the tensor data."""
    for _ in range(count):
        budget.tick()
        name = reader.text(_LONGEST_KEY)
        dimensions = reader.number("I")
        if dimensions > 8:
            raise BrokenError(f"a GGUF tensor of {dimensions} dimensions")
        items = math.prod(reader.number("Q") for _ in range(dimensions))
        kind, begin = reader.number("I"), reader.number("Q")
        per_block, size = BLOCKS.get(kind, (1, 0))
        yield begin, begin + items // per_block * size, name


def _check_spans(
    spans: list[tuple[int, int, bytes]], available: int, alignment: int, report: Report
) -> None:
    last = 0
    for begin, end, name in spans:
        if begin % alignment:
            text = f"the tensor {shown(name)} is not aligned"
            report.add("gguf-tensor", Standing.UNKNOWN, text)
        if begin < last:
            text = f"the tensor {shown(name)} shares bytes with another"
            report.add("gguf-overlap", Standing.UNKNOWN, text)
        last = max(last, end)
    if last > available:
        raise TruncatedError(f"its tensors need {last:,} bytes and {max(available, 0):,} are there")
    if available - last >= max(alignment, 64):
        text = f"{available - last:,} bytes behind the last tensor belong to none"
        report.add("gguf-trailing", Standing.UNKNOWN, text)
