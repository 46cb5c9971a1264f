"""Trials pivoted for people: attack × defence, seeds put together."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gifthorse.bench.table import Row

METRICS = ("asr", "ca", "ra", "der", "auc", "statistic", "seconds")
LOWER_IS_BETTER = frozenset({"asr", "seconds"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One attack against one defence, over all seeds.

    Attributes:
        mean: Over seeds, or None if no trial has the metric.
        low: Smallest over seeds.
        high: Largest over seeds.
        seeds: How many trials have the metric.
        flagged: How many of ``judged`` a detector flagged.
        judged: How many a detector judged.
    """

    mean: float | None
    low: float | None
    high: float | None
    seeds: int
    flagged: int
    judged: int


def chosen(table: Iterable[Row], conditions: Sequence[str]) -> list[Row]:
    """Rows that fulfil all of ``column=value`` (equal) and ``column~text`` (contains).

    Raises:
        ValueError: A condition is neither, or names no column.
    """
    rows = list(table)
    for condition in conditions:
        column, sign, wanted = _parts(condition)
        if rows and column not in rows[0]:
            raise ValueError(f"no column {column!r}; known: {', '.join(rows[0])}")
        if sign == "=":
            rows = [row for row in rows if _text(row[column]) == wanted]
        else:
            rows = [row for row in rows if wanted.lower() in _text(row[column]).lower()]
    return rows


def pivot(
    table: Iterable[Row],
    metric: str,
    *,
    down: str = "attack_label",
    across: str = "defence_label",
) -> tuple[list[str], list[str], dict[tuple[str, str], Cell]]:
    """(names of lines, names of columns, cells): every value of one column against another's.

    The clean twin is the last attack; ``none`` comes first among defences, then repairs.

    Raises:
        ValueError: No such column.
    """
    lines = list(table)
    for column in (down, across):
        if lines and column not in lines[0]:
            raise ValueError(f"no column {column!r}; known: {', '.join(lines[0])}")
    groups: dict[tuple[str, str], list[Row]] = {}
    places: dict[str, dict[str, tuple[int, float, str]]] = {down: {}, across: {}}
    for row in lines:
        key = _text(row[down]), _text(row[across])
        groups.setdefault(key, []).append(row)
        for column, name in zip((down, across), key, strict=True):
            places[column][name] = _place(row, column)
    names = [sorted(places[c], key=places[c].__getitem__) for c in (down, across)]
    return names[0], names[1], {key: _cell(rows, metric) for key, rows in groups.items()}


def _place(row: Row, column: str) -> tuple[int, float, str]:
    """Where the value of a row stands among the others of its column."""
    value, order = row[column], {"none": 0, "repair": 1, "detector": 2}
    number = float(value) if isinstance(value, int | float) else 0.0
    rank = 0
    if column in ("defence_label", "defence"):
        rank = order[str(row["role"])]
    elif column == "attack_label":
        rank = int(not row["attack"])
    return rank, number, _text(value)


def _cell(rows: Sequence[Row], metric: str) -> Cell:
    values = [float(v) for r in rows if isinstance(v := r[metric], int | float)]
    verdicts = [r["verdict"] for r in rows if r["verdict"] in ("FLAGGED", "CLEAR")]
    return Cell(
        mean=sum(values) / len(values) if values else None,
        low=min(values, default=None),
        high=max(values, default=None),
        seeds=len(values),
        flagged=verdicts.count("FLAGGED"),
        judged=len(verdicts),
    )


def _parts(condition: str) -> tuple[str, str, str]:
    places = [(condition.index(sign), sign) for sign in "=~" if sign in condition]
    if not places:
        raise ValueError(f"{condition!r}: expected column=value or column~text")
    at, sign = min(places)
    return condition[:at].strip(), sign, condition[at + 1 :].strip()


def _text(value: object) -> str:
    return "" if value is None else str(value)
