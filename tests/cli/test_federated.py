"""`gifthorse federated`."""

from pathlib import Path

import pytest

from .conftest import Command

STUDY = """
name = "tiny"
defences = ["mean", "multikrum"]
attacks = ["none", "model_replacement"]

[trial]
data = "digits"
rounds = 4
window = [1, 3]
hostile = ["nan", "dropped"]
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "study.toml"
    path.write_text(STUDY)
    return path


def test_run_then_show(study: Path, tmp_path: Path, command: Command) -> None:
    ledger = tmp_path / "ledger"
    first = command("federated", "run", study, "--ledger", ledger, "--json")
    assert first.code == 0
    printed = first.json()
    assert len(printed["rows"]) == 4
    assert printed["trials"][0]["quarantined"] == {
        "hostile-nan: not finite": 4,
        "hostile-dropped: no reply": 4,
    }
    again = command("federated", "run", study, "--ledger", ledger, "--json").json()
    assert again == printed
    shown = command("federated", "show", ledger, "--json").json()
    assert {t["digest"] for t in shown["trials"]} == {t["digest"] for t in printed["trials"]}
    table = command("federated", "show", ledger)
    assert table.code == 0
    assert "kept out 16 ×: hostile-nan: not finite" in table.out


def test_bad_input_ends_with_code_2_and_a_sentence(
    study: Path, tmp_path: Path, command: Command
) -> None:
    missing = command("federated", "run", tmp_path / "no.toml", "--ledger", tmp_path / "l")
    assert (missing.code, "cannot read the study" in missing.err) == (2, True)
    study.write_text(STUDY.replace("multikrum", "multicrumb"))
    unknown = command("federated", "run", study, "--ledger", tmp_path / "l")
    assert (unknown.code, "did you mean 'multikrum'" in unknown.err) == (2, True)
    assert not (tmp_path / "l").exists()
    nothing = command("federated", "show", tmp_path / "l")
    assert (nothing.code, "no such ledger" in nothing.err) == (2, True)
