"""Where a value lies on a scale, in per cent of its length."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gifthorse.report.words import number


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A mark on an axis; ``at`` is in per cent, ``anchor`` keeps its text inside the plot."""

    at: float
    text: str
    anchor: str


def finite(value: float | None) -> float | None:
    """The value, or None if it is not a number."""
    return value if value is not None and math.isfinite(value) else None


def span(values: Sequence[float], limit: float | None) -> tuple[float, float]:
    """From zero to a little beyond the last mark, so that a threshold never hides on the rim."""
    marks = [0.0, *values] if limit is None else [0.0, *values, limit]
    low, high = min(marks), max(marks)
    if high <= low:
        return 0.0, 1.0
    room = 0.05 * (high - low)
    return (low - room if low < 0 else low), (high + room if high > 0 else high)


def padded(values: Sequence[float]) -> tuple[float, float]:
    """The range of some values with a little room on both sides."""
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    room = 0.05 * (high - low) or 0.5
    return low - room, high + room


def place(value: float, low: float, high: float) -> float:
    """Where a value lies between two ends, in per cent; clamped."""
    share = 100 * (value - low) / (high - low) if high > low else 0.0
    return round(min(max(share, 0.0), 100.0), 2) if math.isfinite(share) else 0.0


def tick(value: float | None, low: float, high: float, text: str) -> Tick | None:
    """A mark that keeps its text inside the plot; None without a value."""
    if value is None:
        return None
    at = place(value, low, high)
    return Tick(at=at, text=text, anchor="start" if at < 25 else "end" if at > 75 else "middle")


def axis(low: float, high: float) -> tuple[Tick, ...]:
    """Three to five round numbers (1, 2 or 5 times a power of ten)."""
    rough = (high - low) / 4
    if not (math.isfinite(rough) and rough > 1e-300):
        return ()
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.ceil(low / step), math.floor(high / step)
    return tuple(
        Tick(at=place(mark * step, low, high), text=number(mark * step), anchor="middle")
        for mark in range(first, last + 1)
    )
