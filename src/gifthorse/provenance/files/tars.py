"""Members of a tar archive, read where they lie."""

import itertools
import posixpath
from collections.abc import Iterator

from gifthorse.provenance.files.issues import Report, Standing, shown
from gifthorse.provenance.files.kinds import is_tar
from gifthorse.provenance.files.limits import Budget, LimitReachedError
from gifthorse.provenance.files.source import BrokenError, PartSource, Source
from gifthorse.provenance.files.zips import leaves_folder

_BLOCK = 512
_MOST_PADDING = 1 << 20
_KNOWN = frozenset((b"0", b"\0", b"7", b"1", b"2", b"5"))
_SPECIAL = {b"3": "a character device", b"4": "a block device", b"6": "a named pipe"}


def _octal(field: bytes) -> int:
    if field[:1] in (b"\x80", b"\xff"):
        return int.from_bytes(field[1:], "big") if field[0] == 0x80 else -1
    try:
        return int(field.strip(b"\0 ") or b"0", 8)
    except ValueError:
        return -1


def _extended(raw: bytes) -> dict[str, str]:
    """Records of a pax header: ``length key=value`` and a line end."""
    found: dict[str, str] = {}
    while raw:
        digits, space, _ = raw.partition(b" ")
        if not space or not digits.isdigit() or len(digits) > 9 or int(digits) <= len(digits):
            break
        record, raw = raw[len(digits) + 1 : int(digits)], raw[int(digits) :]
        key, _, value = record.rstrip(b"\n").partition(b"=")
        found[key.decode("utf-8", "replace")] = value.decode("utf-8", "replace")
    return found


def members(source: Source, report: Report, budget: Budget) -> Iterator[tuple[str, Source]]:
    """The content of every regular member. Links, devices and names that lead out are reported.

    Raises:
        BrokenError: A header is damaged; what comes behind it was not read.
        LimitReachedError: Too many members.
    """
    pax: dict[str, str] = {}
    long_name = ""
    for header, body, stated in _headers(source, budget):
        kind, size = header[156:157], stated
        if kind in (b"L", b"x", b"g", b"K"):
            text = source.read_at(body, min(size, 1 << 16))
            if kind == b"L":
                long_name = text.rstrip(b"\0").decode("utf-8", "replace")
            elif kind == b"x":
                pax = _extended(text)
            continue
        name = pax.get("path") or long_name or _name(header)
        pax, long_name = {}, ""
        _report_member(name, kind, header, report)
        if kind in (b"0", b"\0", b"7") and size:
            yield name, PartSource(source, body, size)


def _headers(source: Source, budget: Budget) -> Iterator[tuple[bytes, int, int]]:
    """Every header, where its content begins, and how long that is."""
    at, size_override = 0, -1
    for seen in itertools.count():
        budget.tick()
        header = source.read_at(at, _BLOCK)
        if not header or not header.strip(b"\0"):
            if source.read_at(at, _MOST_PADDING).strip(b"\0"):
                raise BrokenError(f"after the tar's end at byte {at:,} there is more")
            return
        if not is_tar(header):
            raise BrokenError(f"the tar's header at byte {at:,} is damaged; the rest was not read")
        kind, size = header[156:157], _octal(header[124:136])
        if kind not in (b"x", b"g", b"L", b"K") and size_override >= 0:
            size, size_override = size_override, -1
        if size < 0:
            raise BrokenError(f"the tar's header at byte {at:,} states no size")
        if seen > budget.limits.entries:
            raise LimitReachedError(f"more than {budget.limits.entries:,} members")
        body = at + _BLOCK
        if kind == b"x":
            stated = _extended(source.read_at(body, min(size, 1 << 16))).get("size", "")
            size_override = int(stated) if stated.isdigit() and len(stated) < 19 else -1
        yield header, body, size
        at = body + (size + _BLOCK - 1) // _BLOCK * _BLOCK


def _name(header: bytes) -> str:
    name = header[:100].split(b"\0", 1)[0].decode("utf-8", "replace")
    prefix = header[345:500].split(b"\0", 1)[0].decode("utf-8", "replace")
    return f"{prefix}/{name}" if prefix and header[257:262] == b"ustar" else name


def _report_member(name: str, kind: bytes, header: bytes, report: Report) -> None:
    if leaves_folder(name):
        text = f"the member {shown(name)} leads out of the folder it is extracted to"
        report.add("path-traversal", Standing.DANGEROUS, text)
    if kind in (b"1", b"2"):
        target = header[157:257].split(b"\0", 1)[0].decode("utf-8", "replace")
        # Symbolic links start where they lie, hard links at the top of the archive.
        base = posixpath.dirname(name) if kind == b"2" else ""
        outside = target.startswith("/") or leaves_folder(
            posixpath.normpath(posixpath.join(base, target.replace("\\", "/")))
        )
        text = f"{shown(name)} is a link to {shown(target)}"
        text += ", outside of the folder it is extracted to" if outside else ""
        report.add("archive-link", Standing.DANGEROUS if outside else Standing.UNKNOWN, text)
    if kind not in _KNOWN and kind not in _SPECIAL:
        text = f"{shown(name)} is of the unknown type {shown(kind)} and was not examined"
        report.add("tar-type", Standing.UNKNOWN, text)
    if kind in _SPECIAL:
        text = f"{shown(name)} is {_SPECIAL[kind]}"
        report.add("archive-device", Standing.DANGEROUS, text)
