"""The tables of a ledger: figures by hand, marks, and what is not there."""

from pathlib import Path

import numpy as np
import pytest

from gifthorse.bench.ledger import Ledger
from gifthorse.bench.markdown import cost_table, ledger_tables
from gifthorse.bench.overview import pivot
from gifthorse.bench.runner import run_study
from gifthorse.bench.study import Trial, parse_study
from gifthorse.bench.table import rows
from gifthorse.bench.trial_record import (
    Circumstances,
    Detection,
    Interval,
    Quality,
    Repaired,
    TrialRecord,
)
from gifthorse.bench.trials import Outcome, Place, label
from gifthorse.core.record import CostRecord
from gifthorse.core.types import Progress, Unit, Verdict
from gifthorse.metrics.rates import rate


def quality(ca: int, asr: int | None, background: int = 0) -> Quality:
    if asr is None:
        return Quality(clean_accuracy=rate(ca, 100))
    return Quality(
        clean_accuracy=rate(ca, 100),
        attack_success_rate=rate(asr, 100),
        robust_accuracy=rate(100 - asr, 100),
        background=rate(background, 100),
    )


def scripted(trial: Trial, place: Place, progress: Progress) -> Outcome:
    """CA 90 and 92, ASR 98 and 100 for seeds 0 and 1; the repair ruins the second model."""
    planted = trial.attack is not None
    ca, asr = 90 + 2 * trial.seed, (98 + 2 * trial.seed) if planted else None
    record = TrialRecord(
        id=trial.id,
        trial=trial,
        label=label(trial),
        status="done",
        classes=10,
        circumstances=Circumstances(engine=place.engine),
    )
    arrays = {}
    if trial.role == "none":
        record = record.model_copy(update={"quality": quality(ca, asr)})
    elif trial.role == "repair":
        after = quality(10 if trial.seed else 88, 0 if planted else None)
        repaired = Repaired(
            accepted=True,
            reason="",
            before=quality(ca, asr),
            defence_effectiveness=Interval(value=0.5, low=0.4, high=0.6),
        )
        record = record.model_copy(update={"quality": after, "repaired": repaired})
    else:
        scores = np.arange(100, dtype=np.float64)
        positive = scores >= 90 if planted else np.zeros(0, dtype=np.bool_)
        suspects = np.arange(90, 100) if planted else np.arange(3)
        arrays = {"scores": scores, "positive": positive, "suspects": suspects}
        seen = Detection(
            unit=Unit.SAMPLE,
            verdict=Verdict.FLAGGED if planted or trial.seed else Verdict.CLEAR,
            reason="",
            statistic=1.0,
            p_value=0.5,
            threshold=2.0,
            false_alarm_rate=0.05,
            sample_auc=Interval(value=1.0, low=0.9, high=1.0) if planted else None,
        )
        record = record.model_copy(update={"detection": seen})
    return Outcome(record=record, arrays=arrays)


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    study = parse_study(
        {
            "title": "scripted",
            "seeds": [0, 1],
            "attack": [{"name": "badnets", "rate": [0.1, 0.01]}],
            "detector": [{"name": "strip"}],
            "repair": [{"name": "anp"}],
        }
    )
    root = tmp_path_factory.mktemp("tables") / "ledger"
    assert run_study(study, root, work=scripted).failed == ()
    return Ledger.open(root)


def line_of(text: str, heading: str, start: str) -> str:
    section = text.split(f"### {heading}\n", 1)[1].split("\n### ", 1)[0]
    return next(line for line in section.splitlines() if line.startswith(f"| {start} |"))


def test_means_intervals_and_marks(ledger: Ledger) -> None:
    text = ledger_tables(ledger, ledger.records())
    both = line_of(text, "Attack × repair", "badnets 10 %")
    assert both == "| badnets 10 % | 91.0 / 99.0 / 1.0 | 49.0 / 0.0 / 100.0 ‡† |"
    assert line_of(text, "Attack × repair", "clean twin").startswith("| clean twin | 91.0 | 49.0")
    bare = line_of(text, "Attack × repair: ASR with intervals, in %", "badnets 1 %")
    low, high = 100 * rate(98, 100).low, 100 * rate(100, 100).high
    assert bare == f"| badnets 1 % | 99.0 [{low:.0f}, {high:.0f}] | 0.0 [0, 4] ‡† |"


def test_detectors_by_samples_verdicts_and_false_alarms(ledger: Ledger) -> None:
    text = ledger_tables(ledger, ledger.records())
    assert line_of(text, "Attack × detector of inputs", "badnets 1 %").endswith("| 1 · 1 · 1 |")
    assert "detector of training data" not in text  # no trial of that kind
    verdicts = "Verdicts: subjects flagged of those judged"
    assert line_of(text, verdicts, "badnets 1 %").endswith("| 2/2 |")
    alarms = line_of(text, "Clean data: false alarms", "strip")
    assert "1 of 2" in alarms
    assert [cell.split(" [")[0].strip() for cell in alarms.split("|")[-3:-1]] == [
        "1.50 %",
        "3.00 %",
    ]


def test_a_seed_that_is_missing_is_said(ledger: Ledger) -> None:
    some = [r for r in ledger.records() if r.trial.seed == 0 or r.trial.role != "repair"]
    line = line_of(ledger_tables(ledger, some), "Attack × repair", "badnets 10 %")
    assert line == "| badnets 10 % | 91.0 / 99.0 / 1.0 | 88.0 / 0.0 / 100.0 (1) |"


def test_a_repair_without_a_result_is_not_counted(ledger: Ledger) -> None:
    first = [r for r in ledger.records() if r.trial.role == "repair" and r.trial.seed == 0]
    changed = {
        r.id: r.model_copy(update={"status": "no_result", "quality": None, "repaired": None})
        for r in first
    }
    some = [changed.get(r.id, r) for r in ledger.records()]
    text = ledger_tables(ledger, some)
    line = line_of(text, "Attack × repair", "badnets 10 %")
    assert line == "| badnets 10 % | 91.0 / 99.0 / 1.0 | 10.0 / 0.0 / 100.0 (1) ‡† |"
    assert f"{len(first)} without one, 0 failed." in text


def test_the_collapsed_are_counted_first(ledger: Ledger) -> None:
    text = ledger_tables(ledger, ledger.records())
    assert text.startswith("### What these tables rest on\n\n- 18 trials, seeds 0, 1: 18 with")
    assert "remark: 3 collapsed (‡), 3 costly (†), 0 not restored (◌)" in text


def test_totals_count_only_attacks_that_stand(ledger: Ledger) -> None:
    records = ledger.records()
    text = ledger_tables(ledger, records)
    repairs = line_of(text, "Repairs, over all attacks that stand", "anp")
    assert repairs == "| anp | 4 of 4 | −42.0 | −99.0 | 4 | 4 |"
    detectors = line_of(text, "Detectors, over all attacks that stand", "strip")
    assert detectors.startswith("| strip | inputs | 4 of 4 [")
    assert "| 1 of 2 [" in detectors

    weak = [
        r.model_copy(update={"quality": quality(90, 40)})
        if r.trial.role == "none" and r.trial.attack is not None and r.trial.seed == 0
        else r
        for r in records
    ]
    text = ledger_tables(ledger, weak)
    repairs = line_of(text, "Repairs, over all attacks that stand", "anp")
    assert repairs == "| anp | 2 of 2 | −82.0 | −100.0 | 2 | 2 |"


def test_costs_name_what_a_method_needs(ledger: Ledger) -> None:
    text = ledger_tables(ledger, ledger.records())
    assert "| repair | `anp` | gradients, trusted samples, weights |" in text
    assert "| attack | `badnets` | training data | 0 | 0 | 0.00 |" in text


def test_a_detector_that_worked_and_could_not_be_judged_has_its_cost(ledger: Ledger) -> None:
    spent = CostRecord(seconds=3, forward_passes=700, backward_passes=0, peak_memory_mib=0)
    unjudged = {"status": "no_result", "detection": None}
    records = [
        r.model_copy(update={**unjudged, "circumstances": Circumstances(cost=cost)})
        for r in ledger.records()
        if r.trial.role == "detector"
        for cost in (spent if r.trial.attack else Circumstances().cost,)
    ]
    text = cost_table(records)
    assert "| detector | `strip` | logits, suspect data, trusted samples | 700 | 0 |" in text
    assert text.rstrip().endswith("| 3.00 | 4 |")  # not the clean twins', which did nothing


def test_any_two_columns_can_be_pivoted(ledger: Ledger) -> None:
    table = [row for row in rows(ledger.records()) if row["role"] == "none"]
    down, across, cells = pivot(table, "asr", down="poison_rate", across="seed")
    assert (down, across) == (["", "0.01", "0.1"], ["0", "1"])
    assert cells["0.1", "1"].mean == 1.0
    assert cells["", "0"].mean is None
    with pytest.raises(ValueError, match="no column 'colour'"):
        pivot(table, "asr", down="colour")


def test_an_empty_ledger_has_no_tables(tmp_path: Path) -> None:
    assert ledger_tables(Ledger.create(tmp_path / "l"), []).strip() == ""
