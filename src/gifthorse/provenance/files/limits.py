"""How much work one file may cause, so that a hostile one cannot fill memory or take forever."""

import time
from dataclasses import dataclass

from gifthorse.core.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of the scan of one file on disk, all that it holds inside included.

    Attributes:
        seconds: Wall-clock time.
        unpacked_bytes: What all its compressed parts may unpack to.
        ratio: Unpacked bytes a packed byte, judged above ``ratio_from`` unpacked bytes. Weights
            compress by less than 2; text by less than 20.
        ratio_from: In bytes.
        depth: Archives within archives.
        entries: Members of one archive, and operations of one pickle divided by 1,000.
        files: Files of one folder.
        header_bytes: Largest header or text that is parsed as a whole.
    """

    seconds: float = 60.0
    unpacked_bytes: int = 4 << 30
    ratio: float = 200.0
    ratio_from: int = 32 << 20
    depth: int = 5
    entries: int = 20_000
    files: int = 20_000
    header_bytes: int = 32 << 20

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not getattr(self, name) > 0:
                raise DataError(f"the limit {name} must be above 0, got {getattr(self, name)}")


class LimitReachedError(Exception):
    """A bound was reached: what was not seen is not judged. Never leaves this package."""

    def __init__(self, text: str, *, bomb: bool = False) -> None:
        super().__init__(text)
        self.bomb = bomb


class Budget:
    """What is left of the limits during the scan of one file."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._end = time.monotonic() + limits.seconds
        self._unpacked = 0

    def tick(self) -> None:
        """Call in every loop over what a file holds.

        Raises:
            LimitReachedError: The time is up.
        """
        if time.monotonic() > self._end:
            raise LimitReachedError(f"not finished after {self.limits.seconds:g} s")

    def unpack(self, count: int, total: int, packed: int) -> None:
        """Account for ``count`` more bytes out of ``packed`` compressed ones, ``total`` so far.

        Raises:
            LimitReachedError: Too much in all, or too much for its compressed size.
        """
        self.tick()
        self._unpacked += count
        if total > self.limits.ratio_from and total > self.limits.ratio * max(packed, 1):
            raise LimitReachedError(
                f"{packed:,} compressed bytes unpack to more than {total:,}, over "
                f"{self.limits.ratio:g} times as many",
                bomb=True,
            )
        if self._unpacked > self.limits.unpacked_bytes:
            raise LimitReachedError(
                f"compressed parts unpack to more than {self.limits.unpacked_bytes:,} bytes"
            )
