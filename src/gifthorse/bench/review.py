"""Looks at results with suspicion: collapsed runs, attacks that never took, seeds that disagree.

Nothing is removed. A remark says why a figure should not be believed, or not yet.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gifthorse.bench.trial_record import Quality, TrialRecord
from gifthorse.core.types import Verdict

COLLAPSE = 0.5
"""A model that keeps less than this share of the clean twin's accuracy has collapsed."""

SPREAD = 0.3
"""Rates of two seeds that differ by more than this disagree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """What is wrong with a trial. ``kind`` is one word for filters and marks."""

    trial: str
    kind: str
    text: str


def review(records: Sequence[TrialRecord]) -> list[Remark]:
    """Remarks on every record that deserves one, in the order of the records."""
    twins = {_world(r): r.quality for r in records if r.trial.attack is None and _bare(r)}
    remarks: list[Remark] = []
    for record in records:
        if record.status == "failed":
            remarks.append(_remark(record, "failed", record.reason))
        if record.quality is not None:
            remarks += _collapsed(record, record.quality, twins.get(_world(record)))
        if record.quality is not None and _bare(record) and record.trial.attack is not None:
            remarks += _never_took(record, record.quality)
        if record.repaired is not None:
            remarks += _repaired(record)
        found = record.detection
        if found is not None and record.trial.attack is None and found.verdict is Verdict.FLAGGED:
            remarks.append(_remark(record, "false alarm", "the clean twin is flagged"))
    return remarks + _disagreeing(records)


def _collapsed(record: TrialRecord, quality: Quality, twin: Quality | None) -> list[Remark]:
    ca, classes = quality.clean_accuracy, _classes(record)
    if classes and ca.low <= 1 / classes:
        return [
            _remark(
                record,
                "collapsed",
                f"clean accuracy {ca.value:.1%} cannot be told from guessing among {classes} "
                "classes",
            )
        ]
    if twin is not None and ca.high < COLLAPSE * twin.clean_accuracy.value:
        return [
            _remark(
                record,
                "collapsed",
                f"clean accuracy {ca.value:.1%} where the clean twin has "
                f"{twin.clean_accuracy.value:.1%}",
            )
        ]
    return []


def _never_took(record: TrialRecord, quality: Quality) -> list[Remark]:
    asr, background = quality.attack_success_rate, quality.background
    if asr is None:
        return []
    if background is not None and asr.low <= background.high:
        return [
            _remark(
                record,
                "no attack",
                f"attack success {asr.value:.1%} cannot be told from the {background.value:.1%} "
                "that the same triggers reach on the clean twin; defences have nothing to defend",
            )
        ]
    if asr.high < 0.5:
        return [
            _remark(
                record,
                "weak attack",
                f"attack success {asr.value:.1%} without any defence",
            )
        ]
    return []


def _repaired(record: TrialRecord) -> list[Remark]:
    assert record.repaired is not None  # noqa: S101 - the caller looked
    before, after = record.repaired.before, record.quality
    remarks = []
    if after is not None and after.clean_accuracy.high < before.clean_accuracy.low - 0.1:
        remarks.append(
            _remark(
                record,
                "costly",
                f"clean accuracy fell from {before.clean_accuracy.value:.1%} to "
                f"{after.clean_accuracy.value:.1%}; a low attack success rate proves nothing",
            )
        )
    if (
        after is not None
        and after.attack_success_rate is not None
        and after.robust_accuracy is not None
        and after.attack_success_rate.high < 0.2
        and after.robust_accuracy.high < 0.5 * after.clean_accuracy.value
    ):
        remarks.append(
            _remark(
                record,
                "not restored",
                f"the attack fails, but only {after.robust_accuracy.value:.1%} of triggered "
                "pictures are named right",
            )
        )
    return remarks


def _disagreeing(records: Iterable[TrialRecord]) -> list[Remark]:
    groups: dict[tuple[str, ...], list[TrialRecord]] = {}
    for record in records:
        if record.quality is not None and record.quality.attack_success_rate is not None:
            key = (_world(record, seed=False), *record.label, record.trial.role)
            groups.setdefault(key, []).append(record)
    remarks = []
    for members in groups.values():
        rates = [
            r.quality.attack_success_rate.value
            for r in members
            if r.quality is not None and r.quality.attack_success_rate is not None
        ]
        if max(rates) - min(rates) > SPREAD:
            text = (
                f"attack success ranges from {min(rates):.1%} to {max(rates):.1%} over "
                f"{len(rates)} seeds; a mean hides that"
            )
            remarks += [_remark(record, "seeds disagree", text) for record in members]
    return remarks


def _bare(record: TrialRecord) -> bool:
    return record.trial.role == "none"


def _world(record: TrialRecord, *, seed: bool = True) -> str:
    """Everything that a trial shares with its clean twin."""
    kept = {"data", "model", "training", "versions"} | ({"seed"} if seed else set())
    return record.trial.model_dump_json(include=kept)


def _classes(record: TrialRecord) -> int:
    return record.classes or 0


def _remark(record: TrialRecord, kind: str, text: str) -> Remark:
    return Remark(trial=record.id, kind=kind, text=text)
