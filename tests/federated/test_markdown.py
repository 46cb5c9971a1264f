"""The matrix of a study: what stands in a cell is the mean over seeds."""

from pathlib import Path

import pytest

from gifthorse.core.errors import RecordError
from gifthorse.core.rounds_record import TrialRecord, TrialSpec
from gifthorse.federated.markdown import matrices, write_matrices
from gifthorse.federated.tables import in_order


def record(attack: str, defence: str, seed: int, end: float, **changes: object) -> TrialRecord:
    settings = {"clean_accuracy": 0.9, "rejected_malicious": None, "rejected_honest": 0.25}
    tail = {"backdoor": "tail"} if attack == "edge_case" else {}
    return TrialRecord.model_validate(
        {
            "spec": TrialSpec(data="digits", attack=attack, defence=defence, seed=seed, **tail),
            "attack_success_before": 0.0,
            "attack_success_peak": end,
            "attack_success_end": end,
            "attack_success_after": end / 2,
            "fallbacks": 0,
            "rounds": (
                {
                    "round": 0, "clean_accuracy": 0.9, "attack_success": end, "malicious": (),
                    "accepted": (), "rejected": (), "quarantined": (), "missing": (),
                    "fallback": None, "replies": {}, "model": "m",
                },
            ),
            "digest": "sha256:0",
            "aggregation_seconds": 0.002,
            "seconds": 1.0,
            **settings,
            **changes,
        }
    )  # fmt: skip


RECORDS = (
    record("none", "mean", 0, 0.0, clean_accuracy=0.92),
    record("none", "mean", 1, 0.0, clean_accuracy=0.94),
    record("edge_case", "mean", 0, 1.0),
    record("edge_case", "mean", 1, 0.5, clean_accuracy=0.8),
    record("adaptive:against=norm", "deepsight:inputs=9", 0, 0.2, rejected_malicious=1.0),
)


def test_every_cell_is_the_mean_over_seeds() -> None:
    head, _, mean, deepsight = matrices(RECORDS).splitlines()[2:]
    assert head == (
        "| aggregator | CA | lowest CA | edge case | adaptive, norm | highest peak | TPR / FPR "
        "| ms a round |"
    )
    assert mean == "| mean | 93.0 | 85.0 | 75 / 38 | – | 75 | – / 0.25 | 2.0 |"
    assert deepsight == "| deepsight | – | 90.0 | – | 20 / 10 | 20 | 1.00 / 0.25 | 2.0 |"


def test_a_table_a_split_and_no_column_without_trials() -> None:
    iid = record("none", "mean", 0, 0.0)
    iid = iid.model_copy(update={"spec": iid.spec.model_copy(update={"alpha": 0.0})})
    text = matrices([RECORDS[2], iid])
    assert "digits, α = 0.5\n\n| aggregator | lowest CA | edge case |" in text
    assert "digits, IID\n\n| aggregator | CA | ms a round |" in text
    assert matrices([]) == ""


def test_a_ledger_comes_in_an_order_that_people_expect() -> None:
    shuffled = [RECORDS[i] for i in (4, 1, 3, 0, 2)]
    found = [(r.spec.attack, r.spec.seed) for r in in_order(shuffled)]
    assert found == [
        ("none", 0), ("none", 1), ("adaptive:against=norm", 0), ("edge_case", 0), ("edge_case", 1),
    ]  # fmt: skip


def test_it_is_written_or_the_error_says_where(tmp_path: Path) -> None:
    write_matrices(RECORDS, tmp_path / "m.md")
    assert (tmp_path / "m.md").read_text(encoding="utf-8") == matrices(RECORDS)
    with pytest.raises(RecordError, match="cannot write"):
        write_matrices(RECORDS, tmp_path / "nowhere" / "m.md")
