"""Examines ONNX models and other protocol buffers field by field; raw tensors are not read.

Field numbers: onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
"""

from collections.abc import Iterator
from pathlib import PurePosixPath

from gifthorse.provenance.files.issues import Report, Standing, shown
from gifthorse.provenance.files.limits import Budget, LimitReachedError
from gifthorse.provenance.files.source import BrokenError, PartSource, Source
from gifthorse.provenance.files.zips import leaves_folder

_DEEPEST = 24
_LONGEST_NAME = 1 << 12
_KNOWN_DOMAINS = frozenset(
    {"", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training", "com.microsoft",
     "com.microsoft.nchwc", "com.microsoft.experimental", "com.ms.internal.nhwc"}
)  # fmt: skip
_PYTHON_OPS = frozenset({"PyOp", "PythonOp", "PyFunc", "PyCustomOp"})

_MODEL = {7: "graph", 25: "function"}
_GRAPH = {1: "node", 5: "tensor", 15: "sparse"}
_INNER: dict[str, dict[int, str]] = {
    "model": _MODEL,
    "graph": _GRAPH,
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}

Field = tuple[int, int, int, int]
"""(number, wire type, value or offset, length)."""


def fields(source: Source, budget: Budget) -> Iterator[Field]:
    """The fields of one message.

    Raises:
        BrokenError: They are none.
    """
    at, size, seen = 0, source.size, 0
    while at < size:
        seen += 1
        if seen % 1024 == 0:
            budget.tick()
        key, at = _varint(source, at)
        number, wire = key >> 3, key & 7
        if not 0 < number < 1 << 29:
            raise BrokenError(f"no protocol buffer: field {number} at byte {at:,}")
        if wire == 0:
            value, at = _varint(source, at)
            yield number, wire, value, 0
            continue
        if wire == 2:
            length, at = _varint(source, at)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise BrokenError(f"no protocol buffer: wire type {wire} at byte {at:,}")
        if at + length > size:
            raise BrokenError(f"a field of {length:,} bytes at byte {at:,} is cut off")
        yield number, wire, at, length
        at += length


def _varint(source: Source, at: int) -> tuple[int, int]:
    raw = source.read_at(at, 10)
    value = 0
    for i, byte in enumerate(raw):
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value, at + i + 1
    raise BrokenError(f"no protocol buffer: an endless number at byte {at:,}")


def examine_onnx(source: Source, report: Report, budget: Budget) -> None:
    """Report files that the model reads, and operators that need a library of their own.

    Raises:
        BrokenError: It is no protocol buffer.
        LimitReachedError: The budget is spent.
    """
    seen = _message(source, "model", report, budget, 0)
    if "graph" not in seen:
        raise BrokenError("no ONNX model: it holds no graph")


def _message(source: Source, kind: str, report: Report, budget: Budget, depth: int) -> set[str]:
    if depth > _DEEPEST:
        raise LimitReachedError(f"graphs within graphs, more than {_DEEPEST} deep")
    inner, seen = _INNER.get(kind, {}), set()
    names: dict[int, str] = {}
    external: list[tuple[str, str]] = []
    for number, wire, place, length in fields(source, budget):
        if wire != 2:
            continue
        if number in inner:
            seen.add(inner[number])
            part = PartSource(source, place, length)
            _message(part, inner[number], report, budget, depth + 1)
        elif kind == "node" and number in (4, 7):
            names[number] = _text(source, place, length)
        elif kind == "tensor" and number == 13:
            external.append(_entry(PartSource(source, place, length), budget))
    if kind == "node":
        _check_operator(names.get(4, ""), names.get(7, ""), report)
    for key, value in external:
        if key == "location":
            _check_location(value, report)
    return seen


def _text(source: Source, place: int, length: int) -> str:
    return source.read_at(place, min(length, _LONGEST_NAME)).decode("utf-8", "replace")


def _entry(source: Source, budget: Budget) -> tuple[str, str]:
    found = {
        number: _text(source, place, length)
        for number, wire, place, length in fields(source, budget)
        if wire == 2
    }
    return found.get(1, ""), found.get(2, "")


def _check_operator(name: str, domain: str, report: Report) -> None:
    if name in _PYTHON_OPS or "python" in domain.lower():
        text = f"the operator {shown(name)} of {shown(domain)} runs Python code"
        report.add("onnx-python", Standing.DANGEROUS, text)
    elif domain not in _KNOWN_DOMAINS:
        text = f"the operator {shown(name)} of {shown(domain)} needs a library of its own"
        report.add("onnx-custom-operator", Standing.UNKNOWN, text)


def _check_location(location: str, report: Report) -> None:
    outside = leaves_folder(location) or "://" in location or PurePosixPath(location).is_absolute()
    if outside:
        text = f"reads its weights from {shown(location)}, outside of its folder"
        report.add("onnx-external-data", Standing.DANGEROUS, text)
    else:
        text = f"reads weights from {shown(location)} beside it"
        report.add("onnx-external-data", Standing.NOTE, text)


def examine_plain(source: Source, report: Report, budget: Budget) -> None:
    """A protocol buffer that holds data alone, such as a SentencePiece vocabulary.

    Raises:
        BrokenError: It is no protocol buffer.
    """
    del report
    for _ in fields(source, budget):
        pass
