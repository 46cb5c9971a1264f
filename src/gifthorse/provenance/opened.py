"""Opens what is signed: every file once, and what is handed on are the bytes that were hashed.

`verify` says of a path that it holds what was signed; whoever opens that path again may find
something else. Here each file is read once, into memory that nobody else can write to, hashed
there and kept there. What happens to the path meanwhile or later does not matter.
"""

import mmap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from gifthorse.core.errors import TrustError
from gifthorse.provenance.digests import open_tree
from gifthorse.provenance.envelope import parse_json
from gifthorse.provenance.policy import Policy
from gifthorse.provenance.verify import Verified, verify_tree

_HUGE = 2 << 20


@dataclass(frozen=True, kw_only=True)
class Opened:
    """Verified files in memory.

    Attributes:
        path: Where they came from, for messages; it is not opened again.
        verified: What was proven.
        contents: File name → its bytes, in a buffer of their own that may be written to.
    """

    path: Path
    verified: Verified
    contents: Mapping[str, memoryview]

    def json(self, name: str) -> dict[str, Any]:
        """A JSON object.

        Raises:
            TrustError: No such file is signed, or it is no JSON object.
        """
        if name not in self.contents:
            raise TrustError(f"{self.path} holds no signed {name}")
        return parse_json(bytes(self.contents[name]), f"{self.path / name}")


def open_verified(
    path: Path,
    *,
    policy: Policy,
    signature: Path | None = None,
    name: str | None = None,
    now: datetime | None = None,
    wanted: Callable[[str], bool] = lambda _: True,
) -> Opened:
    """As `verify`, and keeps the very bytes that were hashed.

    Args:
        path: Directory or file.
        policy: Who may sign what.
        signature: Signature file; default inside the directory or beside the file.
        name: The name that must have been signed.
        now: When certificates must be valid; default the clock.
        wanted: Which files to keep. All are verified.

    Raises:
        TrustError: Anything does not hold; nothing is handed on then.
    """
    contents: dict[str, memoryview] = {}

    def into(file: str, size: int) -> memoryview | None:
        if not wanted(file):
            return None
        contents[file] = _buffer(size)
        return contents[file]

    try:
        with open_tree(path) as tree:
            verified = verify_tree(
                tree, policy=policy, signature=signature, name=name, now=now, into=into
            )
    except (MemoryError, OverflowError) as error:
        raise TrustError(f"{path} does not fit into memory") from error
    return Opened(path=path, verified=verified, contents=contents)


def _buffer(size: int) -> memoryview:
    if size < _HUGE:
        return memoryview(bytearray(size))
    buffer = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):  # filling half a gigabyte page by page takes a while
        buffer.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(buffer)
