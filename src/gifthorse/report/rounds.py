"""Trials of federated learning as one page: accuracy and ASR over rounds, who was rejected when."""

from collections.abc import Sequence
from dataclasses import dataclass

from gifthorse.core.rounds_record import RoundRecord, TrialRecord, TrialSpec
from gifthorse.report.html import environment
from gifthorse.report.scale import Tick, axis, place
from gifthorse.report.words import plural

MOST_TRIALS = 40
MOST_CLIENTS = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Rounds in a row in which one client fared alike, in per cent of the width."""

    left: float
    width: float
    what: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One client: its cells, and whether it ever attacked."""

    name: str
    malicious: bool
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """One trial, laid out.

    ``accuracy`` and ``success`` are points of a polyline in per cent; ``window`` is the left edge
    and the width of the attacked rounds, None without an attack.
    """

    record: TrialRecord
    title: str
    accuracy: str
    success: str
    window: tuple[float, float] | None
    ticks: tuple[Tick, ...]
    lanes: tuple[Lane, ...]
    left_out: int
    quarantined: tuple[tuple[str, str, int], ...]
    summary: str


def render_rounds(records: Sequence[TrialRecord], *, name: str) -> str:
    """One HTML file, without network or script, of some trials in the order given."""
    return (
        environment()
        .get_template("rounds.html.j2")
        .render(
            name=name,
            records=records,
            courses=[course(record) for record in records[:MOST_TRIALS]],
            left_out=max(0, len(records) - MOST_TRIALS),
            admitted=admitted,
            absent=absent,
        )
    )


def admitted(entry: RoundRecord) -> tuple[str, ...]:
    """Attackers whose update entered the model."""
    return tuple(name for name in entry.malicious if name in entry.accepted)


def absent(entry: RoundRecord) -> tuple[str, ...]:
    """Whom the gate kept out, and who sent nothing."""
    return tuple(sorted({*(one.client for one in entry.quarantined), *entry.missing}))


def title(spec: TrialSpec) -> str:
    """A trial in one line."""
    attack = "no attack" if spec.attack == "none" else f"{spec.attack} ({spec.backdoor})"
    split = f"α = {spec.alpha:g}" if spec.alpha else "IID"
    return f"{spec.defence} against {attack}, {split}, seed {spec.seed}"


def course(record: TrialRecord) -> Course:
    """Lay a trial out."""
    spec, rounds = record.spec, record.rounds
    count = len(rounds)
    attacked = spec.attack != "none"
    start, stop = (min(one, count) for one in spec.window)
    names = _names(rounds)
    peak = max((entry.attack_success for entry in rounds[start:]), default=0.0)
    return Course(
        record=record,
        title=title(spec),
        accuracy=_points([entry.clean_accuracy for entry in rounds]),
        success=_points([entry.attack_success for entry in rounds]),
        window=(_edge(start, count), _edge(stop, count) - _edge(start, count))
        if attacked
        else None,
        ticks=axis(0, count),
        lanes=tuple(_lane(name, rounds) for name in names[:MOST_CLIENTS]),
        left_out=max(0, len(names) - MOST_CLIENTS),
        quarantined=_quarantined(rounds),
        summary=(
            f"{plural(count, 'round')}: clean accuracy {100 * record.clean_accuracy:.1f} % at the "
            f"end, attack success rate up to {100 * peak:.1f} %"
            + (f", attackers present in rounds {start} to {stop - 1}" if attacked else "")
        ),
    )


def _edge(round_: int, count: int) -> float:
    return place(round_, 0, max(count, 1))


def _points(values: Sequence[float]) -> str:
    """``x,y`` pairs; a value stands in the middle of its round, one is at the top."""
    count = max(len(values), 1)
    return " ".join(
        f"{place(i + 0.5, 0, count):g},{100 - place(value, 0, 1):g}"
        for i, value in enumerate(values)
    )


def _names(rounds: Sequence[RoundRecord]) -> list[str]:
    """Attackers first, then whoever was ever kept out or rejected, then the others."""
    bad = {name for entry in rounds for name in entry.malicious}
    out = {one.client for entry in rounds for one in entry.quarantined}
    out |= {name for entry in rounds for name in (*entry.rejected, *entry.missing)}
    good = {name for entry in rounds for name in entry.accepted}
    return [*sorted(bad), *sorted(out - bad), *sorted(good - bad - out)]


def _lane(name: str, rounds: Sequence[RoundRecord]) -> Lane:
    cells: list[Cell] = []
    states = [_state(name, entry) for entry in rounds]
    start = 0
    for end in range(1, len(states) + 1):
        if end < len(states) and states[end] == states[start]:
            continue
        if states[start] not in ("absent", "accepted"):
            left = _edge(start, len(states))
            span = f"round {start}" if end - start == 1 else f"rounds {start} to {end - 1}"
            cells.append(
                Cell(
                    left=left,
                    width=round(_edge(end, len(states)) - left, 2),
                    what=states[start],
                    title=f"{name}: {states[start].replace('-', ' ')} in {span}",
                )
            )
        start = end
    return Lane(
        name=name, malicious=any(name in entry.malicious for entry in rounds), cells=tuple(cells)
    )


def _state(name: str, entry: RoundRecord) -> str:
    if any(one.client == name for one in entry.quarantined):
        return "quarantined"
    if name in entry.missing:
        return "missing"
    if name in entry.rejected:
        return "rejected"
    if name in entry.malicious:
        return "admitted-attack"
    return "accepted" if name in entry.accepted else "absent"


def _quarantined(rounds: Sequence[RoundRecord]) -> tuple[tuple[str, str, int], ...]:
    counts: dict[tuple[str, str], int] = {}
    for entry in rounds:
        for one in entry.quarantined:
            counts[one.client, one.reason] = counts.get((one.client, one.reason), 0) + 1
        for name in entry.missing:
            counts[name, "no reply"] = counts.get((name, "no reply"), 0) + 1
    return tuple((name, reason, count) for (name, reason), count in sorted(counts.items()))
