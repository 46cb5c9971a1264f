"""Examines ``.npy``: the header, and the pickle of arrays that hold Python objects."""

import ast
import re
import struct
import warnings

from gifthorse.provenance.files import pickles
from gifthorse.provenance.files.arrays import item_bytes, product
from gifthorse.provenance.files.issues import Report, Standing, shown
from gifthorse.provenance.files.limits import Budget
from gifthorse.provenance.files.source import Source

_LONGEST_HEADER = 1 << 20


def examine(source: Source, report: Report, budget: Budget) -> None:
    """Report what opening the array would do.

    Raises:
        LimitReachedError: The budget is spent.
    """
    major = source.read_at(6, 1)
    layout, begin = ("<H", 10) if major == b"\x01" else ("<I", 12)
    raw = source.read_at(8, begin - 8)
    if len(raw) < begin - 8 or not 1 <= major[0] <= 3:
        report.add(
            "npy-header", Standing.UNKNOWN, "the numpy header is cut off or of a new version"
        )
        return
    (length,) = struct.unpack(layout, raw)
    text = source.read_at(begin, min(length, _LONGEST_HEADER))
    start = begin + length
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            plain = re.sub(r"(\d)L\b", r"\1", text.decode("latin-1"))  # as Python 2 wrote it
            header = ast.literal_eval(plain.strip())
        descr, count = header["descr"], product(header["shape"])
    # A hostile header can nest deeply, or be no dictionary.
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError):
        report.add("npy-header", Standing.UNKNOWN, f"the numpy header is none: {shown(text[:60])}")
        pickles.examine(source, report, budget, start=start)
        return
    if _has_objects(descr):
        pickles.examine(source, report, budget, start=start)
        return
    size = item_bytes(descr)
    rest = source.size - start
    if count is None:
        text_ = f"an array of the impossible shape {shown(header['shape'])}"
        report.add("npy-header", Standing.UNKNOWN, text_)
    elif size is not None and size * count != rest:
        text_ = f"{rest:,} bytes of numbers where {size * count:,} are announced"
        report.add("npy-size", Standing.UNKNOWN, text_, start)


def _has_objects(descr: object) -> bool:
    """Whether a type has Python objects anywhere; types that are not understood count as such."""
    if isinstance(descr, str):
        return item_bytes(descr) in (None, -1)
    if isinstance(descr, tuple):
        return len(descr) < 1 or _has_objects(descr[0])
    if isinstance(descr, list):
        fields = [part for part in descr if isinstance(part, tuple) and len(part) in (2, 3)]
        return len(fields) < len(descr) or any(_has_objects(part[1]) for part in fields)
    return True
