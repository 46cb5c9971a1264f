"""The tables of a ledger as Markdown: what `docs/results.md` shows.

Figures are means over seeds. An interval runs from the lowest lower to the highest upper end of the
seeds' own 95 % intervals, so it covers chance in the test pictures and the spread of the seeds.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Literal

import numpy as np

from gifthorse.bench.ledger import Ledger
from gifthorse.bench.review import review
from gifthorse.bench.study import On
from gifthorse.bench.totals import DETECTOR_HEAD, REPAIR_HEAD, detector_rows, repair_rows
from gifthorse.bench.trial_record import Quality, TrialRecord
from gifthorse.core.errors import LedgerError
from gifthorse.core.protocols import attacker_needs
from gifthorse.core.record import Rate
from gifthorse.core.registry import plugin_class
from gifthorse.core.types import Verdict
from gifthorse.metrics.curves import found_at
from gifthorse.metrics.rates import rate

MARKS = {
    "collapsed": "‡",
    "costly": "†",
    "not restored": "◌",
    "no attack": "∅",
    "weak attack": "↓",
    "seeds disagree": "~",
}
"""Remarks that a cell carries, if any of its seeds deserves one."""

TWIN = "clean twin"
_RATES = (0.01, 0.05)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cell:
    """Trials of one attack and one defence, one a seed."""

    records: tuple[TrialRecord, ...]
    marks: str = ""


_Matrix = dict[tuple[str, str], _Cell]
_Rated = Callable[[Quality], Rate | None]


def write_tables(ledger: Ledger, records: Sequence[TrialRecord], path: Path) -> None:
    """``ledger_tables`` as a file.

    Raises:
        LedgerError: The file cannot be written, or one of the ledger is broken.
    """
    text = ledger_tables(ledger, records)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise LedgerError(f"cannot write {path}: {error.strerror}") from error


def ledger_tables(ledger: Ledger, records: Sequence[TrialRecord]) -> str:
    """Every table that these trials of a ledger can fill, as Markdown with headings.

    Raises:
        LedgerError: A file of the ledger is broken.
    """
    records = sorted(records, key=lambda r: (r.label, r.trial.seed, r.id))
    parts = [
        _section("What these tables rest on", checks(records)),
        _section("Repairs, over all attacks that stand", total_table(records, "repair")),
        _section("Detectors, over all attacks that stand", total_table(records, "detector")),
        _section("Attack × repair", repair_table(records)),
        *(
            _section(f"Attack × repair: {name} with intervals, in %", interval_table(records, pick))
            for name, pick in _PICKS.items()
        ),
        _section("Attack × detector of training data", sample_table(ledger, records, "data")),
        _section("Attack × detector of inputs", sample_table(ledger, records, "inputs")),
        _section("Verdicts: subjects flagged of those judged", verdict_table(records)),
        _section("Clean data: false alarms", alarm_table(ledger, records)),
        _section("What every method needs and costs", cost_table(records)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def checks(records: Sequence[TrialRecord]) -> str:
    """How many trials of which seeds, how they ended, and how many deserve which remark."""
    if not records:
        return ""
    seeds = sorted({record.trial.seed for record in records})
    ends = Counter(record.status for record in records)
    said = Counter(remark.kind for remark in review(records))
    kinds = [*MARKS, *sorted(said.keys() - MARKS.keys())]
    counted = [
        f"{said[kind]} {kind}" + f" ({MARKS.get(kind, '')})" * (kind in MARKS) for kind in kinds
    ]
    lines = [
        f"- {len(records)} trials, seeds {', '.join(map(str, seeds))}: {ends['done']} with a "
        f"result, {ends['no_result']} without one, {ends['failed']} failed.",
        f"- Trials that deserve a remark: {', '.join(counted)}. Cells that hold one carry its "
        "mark; (n): only n seeds have a result; –: none has.",
    ]
    return "\n".join(lines)


def total_table(records: Sequence[TrialRecord], kind: Literal["repair", "detector"]) -> str:
    """A line a method, over all planted models whose attack success is certainly one half."""
    if kind == "repair":
        return _lines(REPAIR_HEAD, repair_rows(records))
    return _lines(DETECTOR_HEAD, detector_rows(records))


def repair_table(records: Sequence[TrialRecord]) -> str:
    """CA / ASR / RA in %, attack × {none, each repair}; clean twins have CA alone."""
    cells = _matrix(records, ("none", "repair"))
    return _table(cells, _qualities)


def interval_table(records: Sequence[TrialRecord], pick: _Rated) -> str:
    """One rate of ``repair_table``, mean [low, high], in %."""

    def shown(cell: _Cell) -> str:
        rates = [r for q in _measured(cell) if (r := pick(q)) is not None]
        if not rates:
            return "–"
        low, high = min(r.low for r in rates), max(r.high for r in rates)
        return f"{_per_cent(fmean(r.value for r in rates))} [{100 * low:.0f}, {100 * high:.0f}]"

    return _table(_matrix(records, ("none", "repair")), shown)


def sample_table(ledger: Ledger, records: Sequence[TrialRecord], on: On) -> str:
    """ROC-AUC · TPR at 1 % · TPR at 5 % FPR over samples, attack × detector; planted subjects."""
    chosen = [r for r in records if r.trial.on == on and r.trial.attack is not None]

    def shown(cell: _Cell) -> str:
        figures = [f for r in cell.records if (f := _sample_figures(ledger, r)) is not None]
        if not figures:
            return "–"
        return " · ".join(_short(fmean(column)) for column in zip(*figures, strict=True))

    return _table(_matrix(chosen, ("detector",)), shown)


def verdict_table(records: Sequence[TrialRecord]) -> str:
    """How many subjects each detector flagged, at the false-alarm rate of the study."""

    def shown(cell: _Cell) -> str:
        verdicts = [r.detection.verdict for r in cell.records if r.detection is not None]
        if not verdicts:
            return "–"
        return f"{verdicts.count(Verdict.FLAGGED)}/{len(verdicts)}"

    return _table(_matrix(records, ("detector",)), shown)


def alarm_table(ledger: Ledger, records: Sequence[TrialRecord]) -> str:
    """Clean twins: subjects flagged, and the share of clean samples that are accused by that.

    Suspects of a subject that is not flagged accuse nobody; the last column counts them, too.
    """
    cells = _matrix([r for r in records if r.trial.attack is None], ("detector",))
    rows = []
    for (_, name), cell in cells.items():
        judged = [r for r in cell.records if r.detection is not None]
        if not judged:
            continue
        flagged = sum(map(_flagged, judged))
        share = rate(flagged, len(judged))
        named = [(r, pair) for r in judged if (pair := _suspects(ledger, r)) is not None]
        accused = [(count if _flagged(r) else 0, total) for r, (count, total) in named]
        rows.append(
            [
                name,
                judged[0].trial.on or "",
                f"{flagged} of {len(judged)} [{100 * share.low:.0f}, {100 * share.high:.0f}] %",
                _pooled(accused),
                _pooled([pair for _, pair in named]),
            ]
        )
    head = ["detector", "judges", "clean subjects flagged", "clean samples accused", "suspects"]
    return _lines(head, rows)


def cost_table(records: Sequence[TrialRecord]) -> str:
    """Medians over trials: passes in pictures, seconds of the processor and clock.

    A detector that did its work and found no reference bank to be judged by is counted. Attacks and
    the clean twin are billed for everything up to the model, training included.
    """
    groups: dict[tuple[str, str], list[TrialRecord]] = {}
    for record in records:
        worked = record.circumstances.cost.forward_passes > 0
        if record.status == "failed" or not (record.status == "done" or worked):
            continue
        trial = record.trial
        if trial.role != "none" and trial.defence is not None:
            groups.setdefault((trial.role, trial.defence.name), []).append(record)
        elif trial.role == "none":
            name = trial.attack.name if trial.attack else TWIN
            groups.setdefault(("attack", name), []).append(record)
    rows = [_cost_row(*key, group) for key, group in sorted(groups.items())]
    head = ["kind", "method", "needs", "forward", "backward", "processor s", "clock s", "trials"]
    return _lines(head, rows)


def _cost_row(kind: str, name: str, group: Sequence[TrialRecord]) -> list[str]:
    costs = [record.circumstances.cost for record in group]
    passes = [
        f"{median(values):,.0f}"
        for values in ([c.forward_passes for c in costs], [c.backward_passes for c in costs])
    ]
    kept = [c.processor_seconds for c in costs if c.processor_seconds]  # 0: not kept at the time
    seconds = [kept or [0.0], [c.seconds for c in costs]]
    return [
        kind,
        f"`{name}`" if name != TWIN else name,
        _needs(kind, name),
        *passes,
        *(f"{median(values):.2f}" for values in seconds),
        str(len(group)),
    ]


def _needs(kind: str, name: str) -> str:
    if name == TWIN:
        return ""
    cls = plugin_class(f"{kind}s", name)
    if kind == "attack":
        return ", ".join(attacker_needs(cls))
    return ", ".join(sorted(need.value for need in cls.needs))


def _matrix(records: Sequence[TrialRecord], roles: tuple[str, ...]) -> _Matrix:
    """Cells in the order of the table: attacks by name, clean twins last; ``none`` first."""
    said: dict[str, set[str]] = {}
    for remark in review(records):
        said.setdefault(remark.trial, set()).add(remark.kind)
    kept = [record for record in records if record.trial.role in roles]
    groups: dict[tuple[str, str], list[TrialRecord]] = {}
    for record, key in zip(kept, _keys(kept), strict=True):
        groups.setdefault(key, []).append(record)

    def place(key: tuple[str, str]) -> tuple[bool, str, bool, str]:
        return key[0] == TWIN, key[0], key[1] != "none", key[1]

    cells = {}
    for key in sorted(groups, key=place):
        kinds = set().union(*(said.get(record.id, set()) for record in groups[key]))
        marks = "".join(mark for kind, mark in MARKS.items() if kind in kinds)
        cells[key] = _Cell(records=tuple(groups[key]), marks=marks)
    return cells


def _keys(records: Sequence[TrialRecord]) -> list[tuple[str, str]]:
    """Short names of attack (with its poison rate) and defence, or labels where those clash."""
    short = [
        (_attack_name(r), r.trial.defence.name if r.trial.defence else "none") for r in records
    ]
    labels: dict[str, set[str]] = {}
    for record, names in zip(records, short, strict=True):
        for name, label in zip(names, record.label, strict=True):
            labels.setdefault(name, set()).add(label)
    return [
        (
            attack if len(labels[attack]) == 1 else record.label[0],
            defence if len(labels[defence]) == 1 else record.label[1],
        )
        for record, (attack, defence) in zip(records, short, strict=True)
    ]


def _attack_name(record: TrialRecord) -> str:
    attack = record.trial.attack
    if attack is None:
        return TWIN
    share = attack.params.get("rate")
    return f"{attack.name} {100 * share:g} %" if isinstance(share, float) else attack.name


def _table(cells: _Matrix, shown: Callable[[_Cell], str]) -> str:
    attacks = list(dict.fromkeys(attack for attack, _ in cells))
    defences = sorted({d for _, d in cells}, key=lambda d: (d != "none", d))
    most = max((len(cell.records) for cell in cells.values()), default=0)
    rows = []
    for attack in attacks:
        row = [attack]
        for defence in defences:
            cell = cells.get((attack, defence))
            if cell is None:
                row.append("")
                continue
            done = sum(record.status == "done" for record in cell.records)
            few = f" ({done})" if 0 < done < most else ""
            row.append(f"{shown(cell)}{few}{' ' + cell.marks if cell.marks else ''}")
        if any(text not in ("", "–") for text in row[1:]):
            rows.append(row)
    return _lines(["attack", *defences], rows)


def _lines(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    body = [f"| {' | '.join(row)} |" for row in rows]
    if not body:
        return ""
    return "\n".join([f"| {' | '.join(head)} |", "|" + "---|" * len(head), *body])


def _section(title: str, table: str) -> str:
    return f"### {title}\n\n{table}" if table else ""


def _measured(cell: _Cell) -> list[Quality]:
    return [record.quality for record in cell.records if record.quality is not None]


def _qualities(cell: _Cell) -> str:
    found = []
    for pick in _PICKS.values():
        rates = [r.value for q in _measured(cell) if (r := pick(q)) is not None]
        if rates:
            found.append(_per_cent(fmean(rates)))
    return " / ".join(found) or "–"


def _sample_figures(ledger: Ledger, record: TrialRecord) -> tuple[float, ...] | None:
    found = record.detection
    if found is None or found.sample_auc is None or record.arrays is None:
        return None
    arrays = ledger.arrays(record.arrays)
    scores, positive = arrays["scores"], arrays["positive"].astype(np.bool_)
    shares = [found_at(scores, positive, at) / int(positive.sum()) for at in _RATES]
    return (found.sample_auc.value, *shares)


def _flagged(record: TrialRecord) -> bool:
    return record.detection is not None and record.detection.verdict is Verdict.FLAGGED


def _suspects(ledger: Ledger, record: TrialRecord) -> tuple[int, int] | None:
    """Suspects and samples of a trial without poison, if its units are samples."""
    if record.trial.on == "model" or record.arrays is None:
        return None
    arrays = ledger.arrays(record.arrays)
    return len(arrays["suspects"]), len(arrays["scores"])


def _pooled(pairs: Sequence[tuple[int, int]]) -> str:
    if not pairs:
        return ""
    found = rate(sum(count for count, _ in pairs), sum(total for _, total in pairs))
    return f"{100 * found.value:.2f} % [{100 * found.low:.2f}, {100 * found.high:.2f}]"


def _per_cent(value: float) -> str:
    return f"{100 * value:.1f}"


def _short(value: float) -> str:
    return f"{value:.2f}".removeprefix("0") if value < 0.995 else "1"


def _ca(quality: Quality) -> Rate | None:
    return quality.clean_accuracy


def _asr(quality: Quality) -> Rate | None:
    return quality.attack_success_rate


def _ra(quality: Quality) -> Rate | None:
    return quality.robust_accuracy


_PICKS: dict[str, _Rated] = {"CA": _ca, "ASR": _asr, "RA": _ra}
