"""Small marks: a statistic on its scale, a rate with its interval, a picture at its size."""

import base64
import binascii
import math
from dataclasses import dataclass

from gifthorse.core.exhibits import Passage, Picture
from gifthorse.core.record import PlantRecord, Rate
from gifthorse.report.scale import place, span
from gifthorse.report.words import count, interval, measured, number

_PICTURE_PIXELS = 144
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """A statistic against its threshold, in per cent of the scale."""

    start: float
    width: float
    threshold: float
    beyond: bool
    summary: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RateRow:
    """A rate with its interval, in per cent."""

    name: str
    help: str
    value: str
    interval: str
    tally: str
    at: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A picture as it is put on a page; ``png`` is None if it is not a PNG after all."""

    png: str | None
    label: str
    width: int
    height: int
    enlarged: bool
    size: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A stretch of a text; ``hot`` if it is marked."""

    text: str
    hot: bool


_LONGEST_PASSAGE = 4000


def pieces(passage: Passage) -> tuple[Piece, ...]:
    """A text cut at its marks; marks that overlap or point outside are cut to what is there."""
    text = passage.text[:_LONGEST_PASSAGE]
    found, end = [], 0
    for start, stop in sorted(passage.marks):
        first, last = max(start, end, 0), min(stop, len(text))
        if first >= last:
            continue
        found += [Piece(text=text[end:first], hot=False), Piece(text=text[first:last], hot=True)]
        end = last
    cut = "…" if len(passage.text) > _LONGEST_PASSAGE else ""
    found.append(Piece(text=text[end:] + cut, hot=False))
    return tuple(piece for piece in found if piece.text)


def meter(statistic: float, threshold: float) -> Meter | None:
    """A statistic against its threshold; None if one of them is not a number."""
    if not (math.isfinite(statistic) and math.isfinite(threshold)):
        return None
    low, high = span([statistic], threshold)
    zero, end = place(0, low, high), place(statistic, low, high)
    beyond = statistic > threshold
    side = "above" if beyond else "not above"
    return Meter(
        start=min(zero, end),
        width=round(abs(end - zero), 2),
        threshold=place(threshold, low, high),
        beyond=beyond,
        summary=f"Statistic {number(statistic)}, {side} the threshold {number(threshold)}.",
    )


def rate_row(name: str, text: str, rate: Rate) -> RateRow:
    """Lay out a rate with its interval."""
    return RateRow(
        name=name,
        help=text,
        value=measured(rate.value),
        interval=interval(rate),
        tally=f"{count(rate.count)} of {count(rate.total)}",
        at=place(rate.value, 0, 1),
        low=place(rate.low, 0, 1),
        high=place(rate.high, 0, 1),
    )


def plant_rates(record: PlantRecord) -> list[RateRow]:
    """How well a planted backdoor works, explained."""
    rows = [
        rate_row("Clean accuracy (CA)", "clean test samples that are right", record.clean_accuracy),
        rate_row(
            "Attack success rate (ASR)",
            "test samples with the trigger that go to the target",
            record.attack_success_rate,
        ),
        rate_row(
            "Robust accuracy (RA)",
            "test samples with the trigger that are still right",
            record.robust_accuracy,
        ),
    ]
    if record.twin_clean_accuracy is not None:
        text = "the same model trained without poison, for comparison"
        rows.append(rate_row("Clean accuracy of the twin", text, record.twin_clean_accuracy))
    if record.twin_attack_success_rate is not None:
        text = "triggered samples that the clean model sends to the target by itself"
        rows.append(rate_row("Attack success on the twin", text, record.twin_attack_success_rate))
    return rows


def shown(picture: Picture) -> Shown:
    """Check a picture and choose its size: small ones are enlarged by a whole factor."""
    try:
        data = base64.b64decode(picture.png, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    width, height = (min(max(side, 1), 4096) for side in (picture.width, picture.height))
    factor = max(1, _PICTURE_PIXELS // max(width, height))
    return Shown(
        png=picture.png if data.startswith(_PNG_SIGNATURE) else None,
        label=picture.label,
        width=width * factor,
        height=height * factor,
        enlarged=factor > 1,
        size=f"{picture.width} × {picture.height}",
    )
