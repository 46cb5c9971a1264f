"""Suspicion: collapsed runs and failed attacks are named, sound ones are left alone."""

from pathlib import Path

import pytest

from gifthorse.bench.published import CLEAN_PICTURES, compare, published
from gifthorse.bench.review import review
from gifthorse.bench.study import Trial, grid, parse_study, read_study
from gifthorse.bench.trial_record import Circumstances, Interval, Quality, Repaired, TrialRecord
from gifthorse.bench.trials import label
from gifthorse.metrics.rates import rate


def quality(ca: float, asr: float, ra: float, background: float = 0.01) -> Quality:
    rates = [rate(round(1000 * value), 1000) for value in (ca, asr, ra, background)]
    return Quality(
        clean_accuracy=rates[0],
        attack_success_rate=rates[1],
        robust_accuracy=rates[2],
        background=rates[3],
    )


def trials(seeds: tuple[int, ...] = (0,)) -> list[Trial]:
    return list(
        grid(
            parse_study(
                {
                    "title": "t",
                    "seeds": list(seeds),
                    "attack": [{"name": "badnets"}],
                    "repair": [{"name": "fine_tuning"}],
                }
            )
        )
    )


def record(trial: Trial, found: Quality, before: Quality | None = None) -> TrialRecord:
    repaired = None
    if before is not None:
        repaired = Repaired(
            accepted=True,
            reason="",
            before=before,
            defence_effectiveness=Interval(value=0.5, low=0.4, high=0.6),
        )
    return TrialRecord(
        id=trial.id,
        trial=trial,
        label=label(trial),
        status="done",
        quality=found,
        repaired=repaired,
        classes=10,
        circumstances=Circumstances(),
    )


def kinds(bare: Quality, repaired: Quality | None = None, twin: float = 0.9) -> list[str]:
    clean, _, planted, mended = trials()
    records = [
        record(clean, Quality(clean_accuracy=rate(round(1000 * twin), 1000))),
        record(planted, bare),
    ]
    if repaired is not None:
        records.append(record(mended, repaired, bare))
    return [remark.kind for remark in review(records)]


SOUND = quality(0.9, 0.99, 0.01)


@pytest.mark.parametrize(
    ("bare", "repaired", "expected"),
    [
        (SOUND, None, []),
        (SOUND, quality(0.89, 0.02, 0.85), []),
        (quality(0.11, 0.99, 0.01), None, ["collapsed"]),
        (quality(0.3, 0.99, 0.01), None, ["collapsed"]),
        (quality(0.9, 0.02, 0.8), None, ["no attack"]),
        (quality(0.9, 0.3, 0.6), None, ["weak attack"]),
        (SOUND, quality(0.6, 0.01, 0.55), ["costly"]),
        (SOUND, quality(0.1, 0.0, 0.1), ["collapsed", "costly"]),
        (SOUND, quality(0.88, 0.01, 0.2), ["not restored"]),
    ],
)
def test_remarks(bare: Quality, repaired: Quality | None, expected: list[str]) -> None:
    assert kinds(bare, repaired) == expected


def test_seeds_that_disagree_are_named() -> None:
    first, second = [t for t in trials((0, 1)) if t.attack and t.role == "none"]
    found = review([record(first, SOUND), record(second, quality(0.9, 0.6, 0.3))])
    assert [remark.kind for remark in found] == ["seeds disagree", "seeds disagree"]


def test_the_published_table_is_the_one_in_the_paper() -> None:
    table = published()
    assert len(table) == 10 * 8 - 1
    pair = table["badnets", "none"]
    assert (pair.ca.count, pair.ca.total) == (9132, CLEAN_PICTURES)
    assert pair.asr.value == pytest.approx(0.9503, abs=1e-4)
    assert table["trojan_nn", "abl"].ca.value == pytest.approx(0.1107)
    # Means over the eight attacks of the table's own summary, n = 8 and 10 % poison.
    rates = [table[attack, "fine_tuning"].ca.value for attack, d in table if d == "none"]
    assert 0.90 < sum(rates) / len(rates) < 0.94


def test_our_repetition_holds_every_published_row_that_we_can_fill() -> None:
    study = read_study(Path(__file__).parents[2] / "studies" / "backdoorbench-cifar10.toml")
    attacks = {attack for attack, _ in published()}
    defences = {defence for _, defence in published()}
    assert {spec.name for spec in study.attacks} == attacks
    assert {spec.name for spec, _ in study.repairs} == defences - {"none", "abl"}


def cifar() -> list[Trial]:
    raw = {
        "title": "t",
        "seeds": [0],
        "data": {"source": "cifar10"},
        "model": {"architecture": "preact-resnet18"},
        "attack": [{"name": "badnets", "rate": 0.1}, {"name": "blended", "rate": 0.1}],
        "repair": [{"name": "fine_tuning"}, {"name": "fine_pruning"}],
    }
    return [trial for trial in grid(parse_study(raw)) if trial.attack]


def test_comparison_by_intervals_and_orderings() -> None:
    table = published()
    records = []
    for trial in cifar():
        assert trial.attack is not None
        defence = trial.defence.name if trial.defence else "none"
        pair = table[trial.attack.name, defence]
        records.append(record(trial, quality(pair.ca.value, pair.asr.value, 0.1)))
    same = compare(records)
    assert same.same_protocol
    assert len(same.cells) == 12
    assert {cell.relation for cell in same.cells} == {"overlaps"}
    assert sum(order.same for order in same.orderings) >= 5
    assert sum(order.opposite for order in same.orderings) == 0
    # Fine-tuning and fine-pruning exchanged: BadNets' two orders are now against the table.
    swapped = []
    for item in records:
        other = {"fine_tuning": "fine_pruning", "fine_pruning": "fine_tuning"}
        if item.trial.attack is not None and item.trial.attack.name == "badnets":
            defence = item.trial.defence.name if item.trial.defence else "none"
            pair = table["badnets", other.get(defence, defence)]
            found = quality(pair.ca.value, pair.asr.value, 0.1)
            swapped.append(item.model_copy(update={"quality": found}))
    worse = compare(swapped)
    assert sum(order.opposite for order in worse.orderings) >= 1
    assert {cell.relation for cell in worse.cells if cell.metric == "asr"} >= {"higher", "lower"}


def test_another_protocol_is_not_compared(tmp_path: Path) -> None:
    planted = next(t for t in trials() if t.attack)
    assert compare([record(planted, SOUND)]).cells == ()
    loose = compare([record(planted, SOUND)], any_protocol=True)
    assert not loose.same_protocol
    assert len(loose.cells) == 2
