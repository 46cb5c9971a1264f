"""Members of a zip archive, read where they lie.

Written by hand because loaders differ from ``zipfile`` in what they accept: torch reads members
whose flags claim encryption, whose checksum is wrong, or whose two names differ; a scanner that
stops there sees nothing. Here the directory is only believed about where members are.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from gifthorse.provenance.files.compressed import unpacked
from gifthorse.provenance.files.issues import Report, Standing, shown
from gifthorse.provenance.files.limits import Budget
from gifthorse.provenance.files.source import BrokenError, PartSource, Source

_END = b"PK\x05\x06"
_END64 = b"PK\x06\x06"
_LOCAL = b"PK\x03\x04"
_ENTRY = b"PK\x01\x02"
_METHODS = {8: "deflate", 12: "bzip2"}
_MAX32 = 0xFFFFFFFF
_LINK = 0o120000
_MOST_BETWEEN = 24
"""Bytes of a data descriptor, which may follow a member."""
_TENSOR = re.compile(r"[^/]+/data/\d+")
"""Members of torch's format that are never read as anything but numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One entry of the directory: names, sizes and place as it states them."""

    name: str
    method: int
    flags: int
    packed: int
    size: int
    place: int
    mode: int


def find_end(source: Source) -> int | None:
    """Where the end record of a zip is, or None: also in files that begin as something else."""
    span = min(source.size, 65_557)
    tail = source.read_at(source.size - span, span)
    at = tail.rfind(_END)
    while at >= 0:
        if len(tail) - at >= 22:
            return source.size - span + at
        at = tail.rfind(_END, 0, at)
    return None


def directory(source: Source, budget: Budget) -> tuple[list[Member], int]:
    """All entries, and how many bytes lie before the archive proper.

    Raises:
        BrokenError: There is no directory, or it is damaged.
    """
    end = find_end(source)
    if end is None:
        raise BrokenError("the zip has no directory at its end")
    count, size, place = struct.unpack("<HII", source.read_at(end + 10, 10))
    start = end - size
    locator = source.read_at(end - 20, 20)
    if locator[:4] == b"PK\x06\x07":
        (at,) = struct.unpack("<Q", locator[8:16])
        big = source.read_at(at, 56)
        if len(big) < 56 or big[:4] != _END64:
            raise BrokenError("the zip64 record is missing")
        count, size, place = struct.unpack("<QQQ", big[32:56])
        start = at - size
    if start < 0 or size > source.size:
        raise BrokenError("the zip's directory lies outside the file")
    before = start - place if start >= place else 0
    if source.read_at(start, 4) != _ENTRY and count:
        raise BrokenError("the zip's directory is not where the end record says")
    return list(_entries(source, start, size, budget)), before


def _entries(source: Source, start: int, size: int, budget: Budget) -> Iterator[Member]:
    at, end, seen = start, start + size, 0
    while at + 46 <= end:
        raw = source.read_at(at, 46)
        if raw[:4] != _ENTRY:
            raise BrokenError(f"the zip's directory is damaged after {seen} entries")
        flags, method = struct.unpack("<HH", raw[8:12])
        packed, full, named, extra, comment = struct.unpack("<IIHHH", raw[20:34])
        (mode,) = struct.unpack("<H", raw[40:42])
        (place,) = struct.unpack("<I", raw[42:46])
        text = source.read_at(at + 46, named + extra)
        name = text[:named].decode("utf-8" if flags & 0x800 else "cp437", "replace")
        full, packed, place = _wide(text[named:], full, packed, place)
        yield Member(
            name=name, method=method, flags=flags, packed=packed, size=full, place=place, mode=mode
        )
        at, seen = at + 46 + named + extra + comment, seen + 1
        if seen > budget.limits.entries:
            raise BrokenError(f"more than {budget.limits.entries:,} entries; the rest was not read")
        budget.tick()


def _wide(extra: bytes, full: int, packed: int, place: int) -> tuple[int, int, int]:
    """Sizes and place from the zip64 field, where the short ones are full."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack("<HH", extra[at : at + 4])
        field, at = extra[at + 4 : at + 4 + length], at + 4 + length
        if kind != 1:
            continue
        values = [full, packed, place]
        for i, value in enumerate(values):
            if value == _MAX32 and len(field) >= 8:
                values[i], field = struct.unpack("<Q", field[:8])[0], field[8:]
        full, packed, place = values
    return full, packed, place


def members(source: Source, report: Report, budget: Budget) -> Iterator[tuple[str, Source]]:
    """The content of every member. Strange entries are reported.

    Raises:
        BrokenError: The archive is damaged.
        LimitReachedError: Too many entries.
    """
    entries, before = directory(source, budget)
    if before > 0:
        text = f"{before:,} bytes before the zip were not examined: another file may begin there"
        report.add("zip-prefix", Standing.UNKNOWN, text)
    _report_names(entries, report)
    _report_places(source, entries, before, report, budget)
    names = {entry.name for entry in entries}
    for entry in entries:
        budget.tick()
        if entry.name.endswith("/") and not entry.size:
            continue
        content = _content(source, entry, before, report.inside(entry.name), budget)
        if content is None:
            continue
        tensor = _TENSOR.fullmatch(entry.name) and _pickle_of(entry.name) in names
        if not tensor or looks_opened(content):
            yield entry.name, content


def _pickle_of(name: str) -> str:
    """The pickle that a storage of torch's format belongs to."""
    return name.rsplit("/", 2)[0] + "/data.pkl"


def looks_opened(content: Source) -> bool:
    """Whether a tensor begins like a file that some loader opens, not like numbers."""
    head = content.read_at(0, 11)
    if head.startswith((b"\x93NUMPY", b"PK\x03\x04", b"\x1f\x8b\x08", b"\x7fELF")):
        return True
    # Pickles of protocols 4 and 5 begin with a frame whose length has zeros at its end.
    return head[:1] == b"\x80" and head[2:3] == b"\x95" and head[7:11] == bytes(4)


def _content(
    source: Source, entry: Member, before: int, report: Report, budget: Budget
) -> Source | None:
    at = before + entry.place
    local = source.read_at(at, 30)
    if len(local) < 30 or local[:4] != _LOCAL:
        report.add("zip-broken", Standing.UNKNOWN, "the member is not where the directory says")
        return None
    named, extra = struct.unpack("<HH", local[26:30])
    own = source.read_at(at + 30, named)
    if own.decode("utf-8", "replace") != entry.name and own.decode("cp437") != entry.name:
        text = f"the member calls itself {shown(own)}, other than the directory does"
        report.add("zip-two-names", Standing.UNKNOWN, text)
    begin = at + 30 + named + extra
    packed = PartSource(source, begin, max(0, min(entry.packed, source.size - begin)))
    if packed.size < entry.packed:
        report.add("zip-broken", Standing.UNKNOWN, "the member is cut off")
    if entry.mode & 0o170000 == _LINK:
        _report_link(packed, report)
    if entry.flags & 0x41:
        text = "the member is encrypted, or claims to be; its bytes were examined as they are"
        report.add("zip-encrypted", Standing.UNKNOWN, text)
    if entry.method == 0:
        return packed
    if entry.method not in _METHODS:
        text = f"compression method {entry.method} is not known; the member was not examined"
        report.add("zip-method", Standing.UNKNOWN, text)
        return None
    return unpacked(packed, _METHODS[entry.method], budget)


def _report_link(content: Source, report: Report) -> None:
    target = content.read_at(0, 200)
    report.add("archive-link", Standing.DANGEROUS, f"a link to {shown(target)}")


def leaves_folder(name: str) -> bool:
    """Whether a member's name leads out of the folder that it is extracted to."""
    flat = name.replace("\\", "/")
    return flat.startswith("/") or ".." in flat.split("/") or flat[1:3] == ":/" or "\0" in name


def _report_names(entries: list[Member], report: Report) -> None:
    seen: set[str] = set()
    for entry in entries:
        if leaves_folder(entry.name):
            text = f"the member {shown(entry.name)} leads out of the folder it is extracted to"
            report.add("path-traversal", Standing.DANGEROUS, text)
        if entry.name in seen:
            text = f"two members are called {shown(entry.name)}; loaders differ in which they read"
            report.add("zip-duplicate", Standing.UNKNOWN, text)
        seen.add(entry.name)


def _report_places(
    source: Source, entries: list[Member], before: int, report: Report, budget: Budget
) -> None:
    """Members that share bytes, and bytes that belong to none: both are signs of craft.

    Sharing is how small archives unpack to huge ones; in between, members can hide that readers
    find which go through the archive from its front.
    """
    end = 0
    for entry in sorted(entries, key=lambda e: e.place):
        budget.tick()
        if entry.place < end:
            text = "members share the same bytes, as in archives made to fill memory"
            report.add("archive-bomb", Standing.DANGEROUS, text)
            return
        if entry.place - end > _MOST_BETWEEN:
            text = f"{entry.place - end:,} bytes between members belong to none"
            report.add("zip-hole", Standing.UNKNOWN, text, before + end)
        local = source.read_at(before + entry.place, 30)
        named, extra = struct.unpack("<HH", local[26:30]) if len(local) == 30 else (0, 0)
        end = entry.place + 30 + named + extra + entry.packed
