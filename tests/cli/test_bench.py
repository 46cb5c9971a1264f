"""`gifthorse bench` from the command line."""

from pathlib import Path

from .conftest import Command

STUDY = """
title = "tiny"
seeds = [0]
[data]
source = "signs:160"
test = "signs:192"
trusted = 64
[model]
width = 4
[training]
epochs = 1
batch_size = 32
[[attack]]
name = "badnets"
rate = 0.1
[[repair]]
name = "fine_tuning"
epochs = 1
"""


def test_run_show_export(command: Command, tmp_path: Path) -> None:
    study, ledger = tmp_path / "s.toml", tmp_path / "ledger"
    study.write_text(STUDY, encoding="utf-8")
    first = command("bench", "run", study, "--ledger", ledger)
    assert (first.code, "4 run now" in first.out) == (0, True)
    assert "[4/4" in first.err
    again = command("bench", "run", study, "--ledger", ledger, "--json")
    assert again.json()["present"] == 4
    matrix = command("bench", "show", ledger)
    assert matrix.code == 0
    assert "badnets" in matrix.out
    listed = command("bench", "show", ledger, "--sort=-ca", "--where", "role=repair")
    assert listed.out.count("fine_tuning") == 2
    pivoted = command("bench", "show", ledger, "--down", "role", "--across", "seed")
    assert (pivoted.code, "repair" in pivoted.out) == (0, True)
    tables = tmp_path / "t.md"
    assert command("bench", "export", ledger, "--markdown", tables).code == 0
    assert "| badnets 10 % |" in tables.read_text(encoding="utf-8")
    parquet = tmp_path / "t.parquet"
    assert command("bench", "export", ledger, "--parquet", parquet).code == 0
    assert parquet.read_bytes().startswith(b"PAR1")


def test_bad_input_is_refused(command: Command, tmp_path: Path) -> None:
    missing = command("bench", "run", tmp_path / "none.toml", "--ledger", tmp_path / "l")
    assert (missing.code, "cannot read the study" in missing.err) == (2, True)
    assert not (tmp_path / "l").exists()
    assert command("bench", "show", tmp_path).code == 2
    study, ledger = tmp_path / "s.toml", tmp_path / "ledger"
    study.write_text(STUDY.replace("seeds = [0]", "seeds = []"), encoding="utf-8")
    assert command("bench", "run", study, "--ledger", ledger).code == 2


def test_failed_trials_end_with_exit_code_3(command: Command, tmp_path: Path) -> None:
    study, ledger = tmp_path / "s.toml", tmp_path / "ledger"
    study.write_text(STUDY.replace("rate = 0.1", "rate = 0.9"), encoding="utf-8")
    done = command("bench", "run", study, "--ledger", ledger)
    assert done.code == 0
    study.write_text(STUDY.replace("trusted = 64", "trusted = 5000"), encoding="utf-8")
    failed = command("bench", "run", study, "--ledger", ledger)
    assert failed.code == 3
    assert "none are left to measure on" in failed.out
    assert command("bench", "show", ledger, "--metric", "beauty").code == 2
    assert command("bench", "show", ledger, "--where", "colour=red").code == 2
    assert command("bench", "export", ledger).code == 2
    assert command("bench", "show", ledger, "--down", "colour").code == 2
