"""Which file names may be signed: those that every system reads the same way."""

import unicodedata
from collections.abc import Iterable

from gifthorse.core.errors import TrustError

_MAX_NAME = 4096


def check_names(names: Iterable[str]) -> None:
    """Refuse names that are ambiguous alone or together.

    Args:
        names: Relative paths with ``/``.

    Raises:
        TrustError: A name is absolute, climbs with ``..``, holds control characters, a backslash or
            bytes that are not UTF-8, is not in Unicode form NFC, occurs twice, differs from another
            by case only, or is both a file and a directory.
    """
    folded: dict[str, str] = {}
    files: set[str] = set()
    for name in names:
        check_name(name)
        if name in files:
            raise TrustError(f"the file name {name!r} occurs twice")
        files.add(name)
        parts = name.split("/")
        for depth in range(1, len(parts) + 1):
            prefix = "/".join(parts[:depth])
            key = unicodedata.normalize("NFKC", prefix.casefold()).casefold()
            if folded.setdefault(key, prefix) != prefix:
                raise TrustError(
                    f"{prefix!r} and {folded[key]!r} differ by case or Unicode form only; some "
                    "systems take them for one file"
                )
    for name in files:
        parts = name.split("/")
        for depth in range(1, len(parts)):
            if "/".join(parts[:depth]) in files:
                raise TrustError(f"{'/'.join(parts[:depth])!r} is both a file and a directory")


def check_name(name: str) -> None:
    """Refuse one name that is ambiguous by itself; see `check_names`."""
    reason = None
    if not 0 < len(name) <= _MAX_NAME:
        reason = "is empty or too long"
    elif any(0xD800 <= ord(c) <= 0xDFFF for c in name):
        reason = "is not valid UTF-8"
    elif any(unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp") or c == "\\" for c in name):
        reason = "holds control or invisible characters or a backslash"
    elif any(part in ("", ".", "..") for part in name.split("/")):
        reason = "is not a plain relative path"
    elif unicodedata.normalize("NFC", name) != name:
        reason = "is not in Unicode form NFC"
    if reason:
        raise TrustError(f"the file name {name!r} {reason}; rename the file")
