"""When work has to stop, and how it is stopped."""

import re
import time
from dataclasses import dataclass, field

from gifthorse.core.errors import DataError, OutOfTimeError
from gifthorse.core.types import Progress

_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(h|m|s)?")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, None: 1.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline:
    """When work has to stop; ``at`` is on ``time.monotonic``'s clock, infinite for never."""

    at: float = field(default=float("inf"))

    @classmethod
    def after(cls, seconds: float) -> "Deadline":
        """So many seconds from now.

        Raises:
            DataError: Not above 0.
        """
        if not seconds > 0:
            raise DataError(f"a budget must be above 0 seconds, got {seconds:g}")
        return cls(at=time.monotonic() + seconds)

    @property
    def left(self) -> float:
        """Seconds that are left, at least 0."""
        return max(0.0, self.at - time.monotonic())

    def part(self, share: float) -> "Deadline":
        """The end of this share, in (0, 1], of what is left."""
        return (
            self if self.at == float("inf") else Deadline(at=time.monotonic() + share * self.left)
        )

    def check(self) -> None:
        """Stop the work if it is time.

        Raises:
            OutOfTimeError: It is.
        """
        if self.left <= 0:
            raise OutOfTimeError("the time budget ended")

    def watching(self, progress: Progress) -> Progress:
        """The same progress callback, which also stops the work that tells it something."""

        def tell(done: int, total: int, what: str) -> None:
            progress(done, total, what)
            # What was just finished is not thrown away.
            if done < total and self.left <= 0:
                raise OutOfTimeError(f"the time budget ended at {what}, {done} of {total}")

        return tell


def seconds(text: str) -> float:
    """Seconds of a time such as ``10m``, ``1h30m``, ``90s`` or ``90``.

    Raises:
        DataError: It is none, or not above 0.
    """
    plain = text.strip().lower()
    parts = _PART.findall(plain)
    total = sum(float(number) * _SECONDS[unit or None] for number, unit in parts)
    if not parts or _PART.sub("", plain).strip() or not 0 < total < 1e9:
        raise DataError(f"{text!r} is no time; expected for example 10m, 1h30m or 90s")
    return total
