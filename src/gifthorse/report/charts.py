"""Exhibits become geometry; ``templates/charts.html.j2`` draws it as inline SVG.

Drawn by hand rather than with matplotlib: positions across the page are percentages and text is
in pixels, so that a chart stretches from a phone to a sheet of paper while its letters keep their
size, and its colours are CSS variables, so that it follows light and dark. Output is deterministic.

Records are read from files, so nothing is taken for granted here: lists of unequal length, NaN
and indices out of range lose a mark, never the page.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from gifthorse.core.exhibits import (
    BarsExhibit,
    HistogramExhibit,
    ScatterExhibit,
)
from gifthorse.report.scale import Tick, axis, finite, padded, place, span, tick
from gifthorse.report.words import count, number, plural, shorten

MOST_BARS = 40
MOST_POINTS = 1500
MOST_PANELS = 6
MOST_NUMBERS = 2000
_LABEL_COLUMNS = 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bar, in per cent of the plot's width."""

    label: str
    full_label: str
    value: str
    left: float
    width: float
    hot: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BarChart:
    """Horizontal bars. ``numbers`` are all values as text, for those who cannot see bars."""

    bars: tuple[Bar, ...]
    zero: float
    threshold: Tick | None
    gutter: int
    summary: str
    remark: str
    numbers: tuple[tuple[str, str, bool], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One point, in per cent of the plot."""

    x: float
    y: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ScatterChart:
    """Two clouds of points; the second is drawn last, as squares."""

    ordinary: tuple[Point, ...]
    suspect: tuple[Point, ...]
    legend: tuple[str, str]
    summary: str
    remark: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One bin of a histogram, in per cent."""

    left: float
    width: float
    height: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One distribution; ``peak`` is the height of its highest bin."""

    name: str
    columns: tuple[Column, ...]
    peak: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HistogramChart:
    """One panel a distribution, over a common axis.

    Panels rather than overlaid colours: they need no colour to be told apart, and a hundred
    suspects stay visible beside fifty thousand ordinary samples.
    """

    panels: tuple[Panel, ...]
    ticks: tuple[Tick, ...]
    threshold: Tick | None
    summary: str
    remark: str


def bar_chart(exhibit: BarsExhibit) -> BarChart:
    """Lay out bars: in the given order, or the most telling ones if there are too many."""
    values = exhibit.values
    known = [index for index, value in enumerate(values) if math.isfinite(value)]
    hot = frozenset(exhibit.highlight)
    chosen = _most_telling(known, values, hot)
    limit = finite(exhibit.threshold)
    low, high = span([values[index] for index in chosen], limit)
    zero = place(0, low, high)
    labels = {index: _label(exhibit.labels, index) for index in known}
    rows = []
    for index in chosen:
        end = place(values[index], low, high)
        rows.append(
            Bar(
                label=shorten(labels[index], _LABEL_COLUMNS),
                full_label=labels[index],
                value=number(values[index]),
                left=min(zero, end),
                width=round(abs(end - zero), 2),
                hot=index in hot,
            )
        )
    longest = max((len(row.label) for row in rows), default=0)
    return BarChart(
        bars=tuple(rows),
        zero=zero,
        threshold=tick(limit, low, high, f"threshold {number(limit)}"),
        gutter=28 + 8 * min(longest, _LABEL_COLUMNS),
        summary=_bars_summary(exhibit, chosen, labels, hot, limit),
        remark=_bars_remark(chosen, values),
        numbers=tuple(
            (labels[index], number(values[index]), index in hot) for index in known[:MOST_NUMBERS]
        ),
    )


def _bars_remark(chosen: Sequence[int], values: Sequence[float]) -> str:
    remarks = []
    if len(chosen) < len(values) and len(chosen) == MOST_BARS:
        remarks.append(f"The {MOST_BARS} most telling of {count(len(values))} are drawn.")
    if not all(math.isfinite(value) for value in values):
        remarks.append("Values that are not numbers are left out.")
    return " ".join(remarks)


def _most_telling(known: list[int], values: Sequence[float], hot: frozenset[int]) -> list[int]:
    """At most ``MOST_BARS`` indices: highlighted ones, then their neighbours in value.

    For some methods small is suspicious (the norm of a mask), so the end of the scale where the
    highlighted bars lie is the one to show.
    """
    if len(known) <= MOST_BARS:
        return known
    marked = [values[index] for index in known if index in hot]
    middle = sorted(values[index] for index in known)[len(known) // 2]
    smallest_first = bool(marked) and sum(marked) / len(marked) < middle
    ranked = sorted(known, key=lambda index: values[index], reverse=not smallest_first)
    kept = sorted(ranked, key=lambda index: index not in hot)[:MOST_BARS]
    return [index for index in ranked if index in frozenset(kept)]


def _bars_summary(
    exhibit: BarsExhibit,
    chosen: Sequence[int],
    labels: dict[int, str],
    hot: frozenset[int],
    limit: float | None,
) -> str:
    marked = [
        f"{labels[index]} ({number(exhibit.values[index])})" for index in chosen if index in hot
    ]
    text = f"Bar chart of {exhibit.value_name} for {plural(len(exhibit.values), 'unit')}."
    if limit is not None:
        text += f" Threshold {number(limit)}."
    if marked:
        text += f" Highlighted: {', '.join(marked[:5])}{' and more' if len(marked) > 5 else ''}."
    return text


def scatter_chart(exhibit: ScatterExhibit) -> ScatterChart:
    """Lay out points; thinned evenly if there are too many to be told apart."""
    clouds: tuple[list[tuple[float, float]], list[tuple[float, float]]] = ([], [])
    for x, y, group in zip(exhibit.x, exhibit.y, exhibit.group, strict=False):
        if math.isfinite(x) and math.isfinite(y):
            clouds[group != 0].append((x, y))
    everything = clouds[0] + clouds[1]
    across = padded([x for x, _ in everything])
    upward = padded([y for _, y in everything])
    drawn = [
        tuple(
            Point(x=place(x, *across), y=round(100 - place(y, *upward), 2))
            for x, y in _thinned(cloud)
        )
        for cloud in clouds
    ]
    legend = [
        f"{name} ({count(len(cloud))})"
        for name, cloud in zip(exhibit.group_names, clouds, strict=True)
    ]
    thinned = any(len(cloud) > MOST_POINTS for cloud in clouds)
    return ScatterChart(
        ordinary=drawn[0],
        suspect=drawn[1],
        legend=(legend[0], legend[1]),
        summary=f"Scatter plot of {plural(len(everything), 'point')}: {legend[0]}, {legend[1]}.",
        remark=f"At most {count(MOST_POINTS)} points a group are drawn." if thinned else "",
    )


def _thinned(cloud: list[tuple[float, float]]) -> list[tuple[float, float]]:
    if len(cloud) <= MOST_POINTS:
        return cloud
    return [cloud[position * len(cloud) // MOST_POINTS] for position in range(MOST_POINTS)]


def histogram_chart(exhibit: HistogramExhibit) -> HistogramChart:
    """Lay out one panel a distribution over a common axis."""
    edges = exhibit.edges if all(math.isfinite(edge) for edge in exhibit.edges) else ()
    limit = finite(exhibit.threshold)
    ends = [*edges, limit] if limit is not None else list(edges)
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    if high <= low:
        low, high = low - 0.5, high + 0.5
    names = list(exhibit.counts)[:MOST_PANELS]
    panels = tuple(_panel(name, exhibit.counts[name], edges, low, high) for name in names)
    text = f"Histogram of {exhibit.value_name}: {', '.join(panel.name for panel in panels)}."
    hidden = len(exhibit.counts) - len(names)
    return HistogramChart(
        panels=panels,
        ticks=axis(low, high),
        threshold=tick(limit, low, high, f"threshold {number(limit)}"),
        summary=text + (f" Threshold {number(limit)}." if limit is not None else ""),
        remark=f"{plural(hidden, 'more series', 'more series')} not drawn." if hidden else "",
    )


def _panel(
    name: str, counts: tuple[int, ...], edges: Sequence[float], low: float, high: float
) -> Panel:
    peak = max((*counts, 1))
    columns = []
    for (left, right), size in zip(pairwise(edges), counts, strict=False):
        if size > 0 and right > left:
            start = place(left, low, high)
            columns.append(
                Column(
                    left=start,
                    width=round(place(right, low, high) - start, 2),
                    height=round(100 * size / peak, 2),
                )
            )
    return Panel(name=f"{name} ({count(sum(counts))})", columns=tuple(columns), peak=count(peak))


def _label(labels: Sequence[str], index: int) -> str:
    return labels[index] if index < len(labels) else f"#{index}"
