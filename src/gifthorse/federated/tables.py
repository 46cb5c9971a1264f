"""Trials of several seeds as one row: for the command line and the results page."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gifthorse.core.rounds_record import TrialRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Means over the seeds of one cell; shares in [0, 1], seconds a round, None for not applicable.

    Attributes:
        data: Name of the data set.
        attack: Spec, with ``@tail`` for inputs from the tail.
        defence: Spec.
        alpha: Of the split.
        trials: Seeds.
        clean_accuracy: At the end.
        peak: Attack success rate at its highest.
        end: After the last round of the window.
        after: 15 rounds later.
        found: Share of malicious replies rejected.
        wronged: Share of honest replies rejected.
        aggregation: Seconds a round in the aggregator.
        quarantined: Replies that the gate kept out, a trial.
        fallbacks: Rounds in which the method could not work, a trial.
    """

    data: str
    attack: str
    defence: str
    alpha: float
    trials: int
    clean_accuracy: float
    peak: float
    end: float
    after: float
    found: float | None
    wronged: float | None
    aggregation: float
    quarantined: float
    fallbacks: float


def in_order(records: Iterable[TrialRecord]) -> tuple[TrialRecord, ...]:
    """Trials of a ledger by data, split, attack (none first), defence and seed."""

    def place(record: TrialRecord) -> tuple[object, ...]:
        spec = record.spec
        attack = (spec.attack != "none", spec.attack, spec.backdoor)
        return (spec.data, -(spec.alpha or math.inf), attack, spec.defence, spec.seed)

    return tuple(sorted(records, key=place))


def rows(records: Iterable[TrialRecord]) -> tuple[Row, ...]:
    """One row a cell, in the order in which cells first appear."""
    cells: dict[tuple[str, float, str, str], list[TrialRecord]] = {}
    for record in records:
        spec = record.spec
        attack = spec.attack + ("@tail" if spec.backdoor == "tail" else "")
        cells.setdefault((spec.data, spec.alpha, attack, spec.defence), []).append(record)
    return tuple(_row(key, found) for key, found in cells.items())


def _row(key: tuple[str, float, str, str], found: list[TrialRecord]) -> Row:
    data, alpha, attack, defence = key

    def mean(of: Callable[[TrialRecord], float]) -> float:
        return sum(of(record) for record in found) / len(found)

    return Row(
        data=data,
        attack=attack,
        defence=defence,
        alpha=alpha,
        trials=len(found),
        clean_accuracy=mean(lambda r: r.clean_accuracy),
        peak=mean(lambda r: r.attack_success_peak),
        end=mean(lambda r: r.attack_success_end),
        after=mean(lambda r: r.attack_success_after),
        found=_mean_known([r.rejected_malicious for r in found]),
        wronged=_mean_known([r.rejected_honest for r in found]),
        aggregation=mean(lambda r: r.aggregation_seconds / len(r.rounds)),
        quarantined=mean(lambda r: sum(len(entry.quarantined) for entry in r.rounds)),
        fallbacks=mean(lambda r: r.fallbacks),
    )


def _mean_known(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
