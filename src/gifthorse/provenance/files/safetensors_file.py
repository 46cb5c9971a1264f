"""Examines a safetensors file: only its header is read, never a tensor.

The format runs no code. What is checked is what readers trust without looking: that every tensor
lies within the file, that none shares bytes with another, and that nothing is hidden in between.
Rules: https://github.com/huggingface/safetensors#format.
"""

import json
import math
import struct
from collections import Counter
from typing import Any

from gifthorse.provenance.files.issues import Report, Standing, shown
from gifthorse.provenance.files.limits import Budget
from gifthorse.provenance.files.source import Source

_DTYPE_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32,
    "F32": 32, "F64": 64, "I64": 64, "U64": 64, "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip


class _HeaderError(Exception):
    """The header breaks a rule; the text says which."""


def examine(source: Source, report: Report, budget: Budget) -> None:
    """Report every rule of the format that the header breaks."""
    try:
        _check(source, report, budget)
    except _HeaderError as error:
        report.add("safetensors-header", Standing.UNKNOWN, f"no valid safetensors file: {error}")


def _check(source: Source, report: Report, budget: Budget) -> None:
    raw = source.read_at(0, 8)
    if len(raw) < 8:
        raise _HeaderError("it ends within its first 8 bytes")
    (length,) = struct.unpack("<Q", raw)
    if length > budget.limits.header_bytes:
        raise _HeaderError(f"its header claims {length:,} bytes, which is too many")
    text = source.read_at(8, length)
    if len(text) < length:
        raise _HeaderError(f"its header claims {length:,} bytes and the file ends before")
    twice: list[str] = []

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            counts = Counter(key for key, _ in pairs)
            twice.extend(key for key, count in counts.items() if count > 1)
        return found

    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise _HeaderError(f"its header is not JSON ({error})") from error
    if twice:
        names = shown(sorted(set(twice))[0])
        text_ = f"the header names {names} twice; readers differ in which they take"
        report.add("safetensors-duplicate", Standing.DANGEROUS, text_)
    if not isinstance(header, dict):
        raise _HeaderError("its header is no JSON object")
    _check_metadata(header.pop("__metadata__", {}))
    spans = [(*_span(name, tensor), name) for name, tensor in header.items()]
    _check_spans(sorted(spans), source.size - 8 - length, 8 + length, report)


def _check_metadata(found: object) -> None:
    plain = isinstance(found, dict) and all(isinstance(value, str) for value in found.values())
    if not plain:
        raise _HeaderError("its __metadata__ maps to something other than text")


def _span(name: str, tensor: Any) -> tuple[int, int]:
    if not isinstance(tensor, dict):
        raise _HeaderError(f"{shown(name)} is no tensor")
    dtype, shape = tensor.get("dtype"), _whole(tensor.get("shape"))
    offsets = _whole(tensor.get("data_offsets"))
    bits = _DTYPE_BITS.get(dtype) if isinstance(dtype, str) else None
    if bits is None:
        raise _HeaderError(f"{shown(name)} has the unknown type {shown(dtype)}")
    if shape is None or offsets is None or len(offsets) != 2:
        raise _HeaderError(f"{shown(name)} has no proper shape or offsets")
    begin, end = offsets
    expected = math.prod(shape) * bits
    if (end - begin) * 8 != expected:
        raise _HeaderError(
            f"{shown(name)} takes {end - begin:,} bytes; its shape and type need {expected // 8:,}"
        )
    return begin, end


def _whole(found: object) -> list[int] | None:
    """A list of whole numbers of at most 63 bits, or None."""
    if not isinstance(found, list):
        return None
    plain = [n for n in found if isinstance(n, int) and not isinstance(n, bool)]
    fits = len(plain) == len(found) and all(0 <= n < 1 << 63 for n in plain)
    return plain if fits else None


def _check_spans(
    spans: list[tuple[int, int, str]], available: int, start: int, report: Report
) -> None:
    """Tensors lie one behind the other, from the header to the end of the file."""
    last = 0
    for begin, end, name in spans:
        if begin < last:
            text = f"the tensor {shown(name)} shares bytes with another"
            report.add("safetensors-overlap", Standing.DANGEROUS, text, start + begin)
        if begin > last:
            text = f"{begin - last:,} bytes before the tensor {shown(name)} belong to none"
            report.add("safetensors-hole", Standing.DANGEROUS, text, start + last)
        last = max(last, end)
    if last > available:
        raise _HeaderError(f"its tensors need {last:,} bytes and {available:,} are there")
    if last < available:
        text = f"{available - last:,} bytes behind the last tensor belong to none"
        report.add("safetensors-trailing", Standing.DANGEROUS, text, start + last)
