"""Results of an earlier state of a method: kept in the ledger, left out of every table.

When the source of an attack, a detector or a repair changes, its trials have new ids and are run
again. The old records stay where they are. Of two states of one trial a reader wants one.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from gifthorse.bench.sources import source_digest
from gifthorse.bench.study import Trial
from gifthorse.bench.trial_record import TrialRecord
from gifthorse.core.errors import GifthorseError


def current(records: Iterable[TrialRecord]) -> tuple[list[TrialRecord], list[TrialRecord]]:
    """(records to show, records of an earlier state of a method).

    Of each cell the state that is installed, else the newest; and no judgement of a model that was
    planted by another state of the attack than the one shown.
    """
    records = list(records)
    bare = _latest(r for r in records if r.trial.role == "none")
    attack = {r.trial.cell_id: r.trial.sources.get("attack") for r in bare.values()}

    def belongs(record: TrialRecord) -> bool:
        planted = record.trial.model_copy(
            update={"role": "none", "defence": None, "on": None, "evidence": None}
        ).cell_id
        mine = record.trial.sources.get("attack")
        return attack.get(planted, mine) == mine

    kept = {r.id for r in _latest(filter(belongs, records)).values()}
    return [r for r in records if r.id in kept], [r for r in records if r.id not in kept]


def changed(trials: Iterable[Trial], records: Iterable[TrialRecord]) -> dict[str, int]:
    """How many of these trials a ledger holds of another state of a method only, by method."""
    records = list(records)
    known = {record.id for record in records}
    earlier = {record.trial.cell_id: record.trial for record in records}
    counts: Counter[str] = Counter()
    for trial in trials:
        before = earlier.get(trial.cell_id)
        if trial.id not in known and before is not None:
            counts.update(_differing(trial, before))
    return dict(sorted(counts.items()))


def in_words(counts: dict[str, int]) -> str:
    """``clp (12 trials), wanet (3 trials)``."""
    return ", ".join(f"{name} ({n} trial{'s' * (n != 1)})" for name, n in counts.items())


def methods_of(superseded: Sequence[TrialRecord], kept: Sequence[TrialRecord]) -> dict[str, int]:
    """By method, how many records were left out because of it."""
    now = {record.trial.cell_id: record.trial for record in kept}
    counts: Counter[str] = Counter()
    for record in superseded:
        other = now.get(record.trial.cell_id)
        if other is not None:
            counts.update(_differing(other, record.trial))
        elif record.trial.attack is not None:  # judged a model that is no longer shown
            counts.update([record.trial.attack.name])
    return dict(sorted(counts.items()))


def _differing(one: Trial, other: Trial) -> list[str]:
    return [
        name
        for part, (_, name) in one.methods().items()
        if one.sources.get(part) != other.sources.get(part)
    ]


def _latest(records: Iterable[TrialRecord]) -> dict[str, TrialRecord]:
    found: dict[str, TrialRecord] = {}
    for record in records:
        other = found.get(record.trial.cell_id)
        if other is None or _rank(record) > _rank(other):
            found[record.trial.cell_id] = record
    return found


def _rank(record: TrialRecord) -> tuple[bool, str, str]:
    return _installed(record.trial), record.circumstances.created, record.id


def _installed(trial: Trial) -> bool:
    """Whether every method of a trial is the one that is installed here."""
    try:
        return all(
            source_digest(kind, name) == trial.sources.get(part)
            for part, (kind, name) in trial.methods().items()
        )
    except GifthorseError:  # a plugin that is not installed here: a ledger can be read without
        return False
