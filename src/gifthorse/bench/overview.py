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
    table: Iterable[Row], metric: str
) -> tuple[list[str], list[str], dict[tuple[str, str], Cell]]:
    """(attacks, defences, cells); the clean twin is the last attack, ``none`` the first defence."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in table:
        key = str(row["attack_label"]), str(row["defence_label"])
        groups.setdefault(key, []).append(row)
    attacks = sorted({a for a, _ in groups}, key=lambda a: (a == "clean twin", a))
    roles = {str(r["defence_label"]): str(r["role"]) for rows in groups.values() for r in rows}
    order = {"none": 0, "repair": 1, "detector": 2}
    defences = sorted(roles, key=lambda d: (order[roles[d]], d))
    return attacks, defences, {key: _cell(rows, metric) for key, rows in groups.items()}


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
