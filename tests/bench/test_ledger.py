"""The ledger: whole records or none, never edited, other people's files set aside."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gifthorse.bench.ledger import Ledger
from gifthorse.bench.study import grid
from gifthorse.bench.trials import Outcome, Place
from gifthorse.core.errors import LedgerError, RecordError

from . import tiny


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.create(tmp_path / "ledger")


def outcomes(ledger: Ledger) -> list[Outcome]:
    return [tiny.outcome(trial, Place(root=ledger.root)) for trial in grid(tiny.study(1))]


def test_what_is_written_is_read_back(ledger: Ledger) -> None:
    record = outcomes(ledger)[0].record
    assert ledger.write(record)
    assert ledger.read(record.id) == record
    assert Ledger.open(ledger.root).records() == [record]


def test_a_record_is_never_replaced(ledger: Ledger) -> None:
    record = outcomes(ledger)[0].record
    ledger.write(record)
    assert not ledger.write(record.model_copy(update={"reason": "later"}))
    assert ledger.read(record.id) == record


def test_failures_are_kept_and_a_success_supersedes_them(ledger: Ledger) -> None:
    record = outcomes(ledger)[0].record
    failed = record.model_copy(update={"status": "failed", "reason": "one"})
    ledger.write(failed)
    ledger.write(failed.model_copy(update={"reason": "two"}))
    found = ledger.read(record.id)
    assert found is not None
    assert found.reason == "two"
    ledger.write(record)
    assert ledger.read(record.id) == record
    assert ledger.records() == [record]
    assert len(list((ledger.root / "failures").iterdir())) == 2


def test_truncated_and_foreign_files_are_set_aside(ledger: Ledger) -> None:
    records = [outcome.record for outcome in outcomes(ledger)]
    for record in records:
        ledger.write(record)
    trials = ledger.root / "trials"
    truncated = trials / f"{records[0].id}.json"
    truncated.write_bytes(truncated.read_bytes()[:100])
    (trials / "notes.txt").write_text("hello", encoding="utf-8")
    (trials / f"{'0' * 64}.json").write_bytes((trials / f"{records[1].id}.json").read_bytes())
    edited = json.loads((trials / f"{records[2].id}.json").read_text("utf-8"))
    edited["trial"]["seed"] = 77
    (trials / f"{records[2].id}.json").write_text(json.dumps(edited), encoding="utf-8")
    with pytest.raises(RecordError, match="not JSON"):
        ledger.read(records[0].id)
    assert len(ledger.records()) == len(records) - 2
    notes = ledger.set_aside()
    assert len(notes) == 4
    assert len(list((ledger.root / "aside").iterdir())) == 4
    assert ledger.set_aside() == []
    assert {r.id for r in ledger.records()} == {r.id for r in records} - {
        records[0].id,
        records[2].id,
    }


def test_arrays_are_found_by_their_content(ledger: Ledger) -> None:
    digest = ledger.write_arrays({"a": np.arange(3)})
    assert ledger.write_arrays({"a": np.arange(3)}) == digest
    assert ledger.arrays(digest)["a"].tolist() == [0, 1, 2]
    path = ledger.root / "arrays" / f"{digest}.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(LedgerError, match="not what its name says"):
        ledger.arrays(digest)
    with pytest.raises(LedgerError, match="cannot read"):
        ledger.arrays("0" * 64)


def test_a_claim_is_exclusive_and_ends_with_its_process(ledger: Ledger) -> None:
    claim = ledger.claim("x")
    assert claim is not None
    assert ledger.claim("x") is None
    claim.release()
    child = os.fork()
    if child == 0:  # it dies with the claim in its hands
        found = ledger.claim("x")
        os._exit(0 if found is not None else 1)
    assert os.waitpid(child, 0)[1] == 0
    again = ledger.claim("x")
    assert again is not None
    again.release()


def test_a_directory_with_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious", encoding="utf-8")
    with pytest.raises(LedgerError, match="not empty and no ledger"):
        Ledger.create(tmp_path)
    with pytest.raises(LedgerError, match="is no ledger"):
        Ledger.open(tmp_path)
    with pytest.raises(LedgerError, match="is no ledger"):
        Ledger.open(tmp_path / "nowhere")


def test_another_version_is_refused(ledger: Ledger) -> None:
    (ledger.root / "ledger.json").write_text('{"schema_version": 99}', encoding="utf-8")
    with pytest.raises(LedgerError, match="99"):
        Ledger.create(ledger.root)


@pytest.mark.parametrize("call", ["fsync", "link"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_full_disk_is_said_and_changes_nothing(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    first, second = (outcome.record for outcome in outcomes(ledger)[:2])
    ledger.write(first)

    def fails(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fails)
        with pytest.raises(LedgerError, match=os.strerror(number)):
            ledger.write(second)
    assert ledger.records() == [first]
    assert [path.name for path in (ledger.root / "trials").iterdir()] == [f"{first.id}.json"]
    assert ledger.write(second)
