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
    matrix = tmp_path / "matrix.md"
    table = command("federated", "show", ledger, "--markdown", matrix)
    assert matrix.read_text().count("\n| mean | ") == 1
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


def test_a_trial_is_drawn_played_again_and_traced(
    study: Path, tmp_path: Path, command: Command
) -> None:
    ledger, out, page = tmp_path / "ledger", tmp_path / "after", tmp_path / "page.html"
    printed = command("federated", "run", study, "--ledger", ledger, "--report", page, "--json")
    assert "attackers present" in page.read_text()
    key = next(
        t["trial"] for t in printed.json()["trials"]
        if (t["spec"]["attack"], t["spec"]["defence"]) == ("model_replacement", "mean")
    )  # fmt: skip
    one = command("federated", "show", ledger, "--trial", key[:6], "--json").json()
    assert [t["trial"] for t in one["trials"]] == [key]
    done = command(
        "federated", "replay", ledger, key[:6], "--out", out, "--without", "client-000",
        "--heal", "1", "--json",
    )  # fmt: skip
    assert done.code == 0
    assert done.json()["heal"] == 1
    traced = command("trace", out / "model", "--store", out / "lineage.db", "--json").json()
    assert {c["name"]: c["traced"] for c in traced["contributors"]}["client-003"] == 4
    again = command("federated", "replay", ledger, key[:6], "--out", out)
    assert (again.code, "not empty" in again.err) == (2, True)
    wrong = command("federated", "show", ledger, "--report", tmp_path / "page.pdf")
    assert (wrong.code, "must end in .html" in wrong.err) == (2, True)
    engine = command("federated", "run", study, "--ledger", ledger, "--engine", "steam")
    assert (engine.code, "known: local, ray" in engine.err) == (2, True)
