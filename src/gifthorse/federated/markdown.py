"""The matrix of a study as Markdown: what ``docs/results.md`` shows."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from gifthorse.core.errors import RecordError
from gifthorse.core.rounds_record import TrialRecord
from gifthorse.federated.tables import Row, rows

NONE = "none"


def write_matrices(records: Iterable[TrialRecord], place: Path) -> None:
    """``matrices`` as a file.

    Raises:
        RecordError: It cannot be written.
    """
    text = matrices(records)
    try:
        place.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RecordError(f"cannot write {place}: {error.strerror}") from error


def matrices(records: Iterable[TrialRecord]) -> str:
    """One table for every data set and split: a row an aggregator, a column an attack.

    Means over seeds, in %. A cell is the attack success rate at the end of the attack / 15 rounds
    later. ``CA`` is without attack, ``lowest CA`` the lowest under any attack; TPR and FPR are
    means over attacks.
    """
    found = rows(records)
    parts = []
    for data, alpha in dict.fromkeys((row.data, row.alpha) for row in found):
        mine = [row for row in found if (row.data, row.alpha) == (data, alpha)]
        parts.append(f"{data}, {f'α = {alpha:g}' if alpha else 'IID'}\n\n{_matrix(mine)}")
    return "\n".join(parts)


def _matrix(found: Sequence[Row]) -> str:
    attacks = [a for a in dict.fromkeys(row.attack for row in found) if a != NONE]
    cells = {(row.defence, row.attack): row for row in found}
    quiet = any(row.attack == NONE for row in found)
    head = [
        "aggregator",
        *(["CA"] if quiet else []),
        *(["lowest CA", *map(_title, attacks), "highest peak", "TPR / FPR"] if attacks else []),
        "ms a round",
    ]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for defence in dict.fromkeys(row.defence for row in found):
        mine = {a: cells.get((defence, a)) for a in (NONE, *attacks)}
        line = _line(defence, mine, quiet=quiet, attacks=attacks)
        lines.append("| " + " | ".join(line) + " |")
    return "\n".join(lines) + "\n"


def _line(
    defence: str, mine: dict[str, Row | None], *, quiet: bool, attacks: Sequence[str]
) -> list[str]:
    under = [row for attack in attacks if (row := mine[attack]) is not None]
    base = mine[NONE]
    cells = [defence.partition(":")[0]]
    if quiet:
        cells.append("–" if base is None else f"{100 * base.clean_accuracy:.1f}")
    if attacks:
        cells.append(_of(under, lambda row: row.clean_accuracy, min, "{:.1f}"))
        for attack in attacks:
            row = mine[attack]
            cells.append("–" if row is None else f"{100 * row.end:.0f} / {100 * row.after:.0f}")
        cells.append(_of(under, lambda row: row.peak, max, "{:.0f}"))
        cells.append(f"{_share(under, lambda r: r.found)} / {_share(under, lambda r: r.wronged)}")
    every = [*under, *([base] if base is not None else [])]
    cells.append(f"{1000 * sum(row.aggregation for row in every) / len(every):.1f}")
    return cells


def _of(
    found: Sequence[Row],
    value: Callable[[Row], float],
    choose: Callable[[Iterable[float]], float],
    shape: str,
) -> str:
    return shape.format(100 * choose(map(value, found))) if found else "–"


def _share(found: Sequence[Row], value: Callable[[Row], float | None]) -> str:
    known = [share for row in found if (share := value(row)) is not None]
    return f"{sum(known) / len(known):.2f}" if known else "–"


def _title(attack: str) -> str:
    """``adaptive:against=norm`` → ``adaptive, norm``; ``edge_case@tail`` → ``edge case``."""
    name, _, options = attack.partition("@")[0].partition(":")
    words = name.replace("_", " ")
    return f"{words}, {options.replace('against=', '')}" if options else words
