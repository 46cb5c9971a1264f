"""A mended method is run again: its source is part of the identity of a trial."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gifthorse.bench import sources, study, superseded
from gifthorse.bench.ledger import Ledger
from gifthorse.bench.runner import Standing, run_study
from gifthorse.bench.study import Trial, grid
from gifthorse.bench.superseded import current, methods_of
from gifthorse.cli.main import app

from . import tiny

Change = Callable[[str], None]


@pytest.fixture
def change(monkeypatch: pytest.MonkeyPatch) -> Change:
    """Pretend that somebody edits a method, any number of times."""
    edits: list[str] = []

    def digest(kind: str, name: str) -> str:
        return f"{sources.source_digest(kind, name)}{edits.count(name) or ''}"

    monkeypatch.setattr(study, "source_digest", digest)
    monkeypatch.setattr(superseded, "source_digest", digest)
    return edits.append


def _package(root: Path, helper: str = "SIZE = 3\n") -> None:
    (root / "some_methods" / "deep").mkdir(parents=True, exist_ok=True)
    for name, text in {
        "__init__.py": "",
        "helper.py": helper,
        "unused.py": "",
        "deep/__init__.py": "",
        "deep/method.py": "import json, numpy\nfrom ..helper import SIZE\nfrom . import more\n",
        "deep/more.py": "from some_methods.helper import SIZE\n",
    }.items():
        (root / "some_methods" / name).write_text(text)


def test_a_method_is_its_module_and_what_that_imports_from_its_own_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _package(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    modules = sources.method_modules("some_methods.deep.method")
    assert set(modules) - {"some_methods", "some_methods.deep"} == {
        "some_methods.deep.method",
        "some_methods.deep.more",
        "some_methods.helper",
    }
    before = sources.digest_of_modules(modules)
    _package(tmp_path, helper="SIZE = 3\r\n")
    assert sources.digest_of_modules(modules) == before
    _package(tmp_path, helper="SIZE = 4\n")
    assert sources.digest_of_modules(modules) != before


def test_built_in_methods_hold_the_helpers_of_methods_and_nothing_else() -> None:
    modules = set(sources.method_modules("gifthorse.attacks.data.wanet"))
    assert {"gifthorse.triggers.warp", "gifthorse.attacks.data.poisoning"} <= modules
    assert not any("gifthorse.core" in name or "gifthorse.models" in name for name in modules)
    assert sources.source_digest("repairs", "clp") != sources.source_digest("repairs", "bnp")


def test_a_changed_method_changes_the_trials_that_use_it_and_no_others(change: Change) -> None:
    before = {trial.id: trial for trial in grid(tiny.study(1))}
    change("strip")
    after = {trial.id: trial for trial in grid(tiny.study(1))}
    new = [trial for ident, trial in after.items() if ident not in before]
    assert len(new) == 2
    assert all(trial.defence and trial.defence.name == "strip" for trial in new)


def test_a_changed_attack_is_planted_anew_and_the_clean_twin_stays(change: Change) -> None:
    before = {trial.planted_id for trial in grid(tiny.study(1))}
    change("badnets")
    after = [trial for trial in grid(tiny.study(1)) if trial.planted_id not in before]
    assert len(after) == 4
    assert all(trial.attack for trial in after)


def test_a_repair_follows_the_detector_that_it_acts_on(change: Change) -> None:
    before = {trial.id for trial in grid(tiny.study(1))}
    change("universality")
    new = [trial for trial in grid(tiny.study(1)) if trial.id not in before]
    assert {trial.role for trial in new} == {"detector", "repair"}
    ids = {trial.id for trial in grid(tiny.study(1))}
    assert {needed.id for trial in new for needed in trial.after()} <= ids


def test_a_changed_method_is_run_again_and_the_run_says_so(tmp_path: Path, change: Change) -> None:
    run_study(tiny.study(2), tmp_path / "l", work=tiny.empty)
    change("strip")
    seen: list[Standing] = []
    again = run_study(tiny.study(2), tmp_path / "l", work=tiny.empty, watch=seen.append)
    assert (again.present, again.ran, again.changed) == (12, 4, {"strip": 4})
    assert seen[0].what == "run again, because the method changed: strip (4 trials)"
    last = run_study(tiny.study(2), tmp_path / "l", work=tiny.empty)
    assert (last.present, last.ran, last.changed) == (16, 0, {})


def test_tables_show_one_state_of_a_method(tmp_path: Path, change: Change) -> None:
    run_study(tiny.study(2), tmp_path / "l", work=tiny.empty)
    change("strip")
    run_study(tiny.study(2), tmp_path / "l", work=tiny.empty)
    records = Ledger.open(tmp_path / "l").records()
    kept, earlier = current(records)
    assert (len(records), len(kept), len(earlier)) == (20, 16, 4)
    assert {record.id for record in kept} == {trial.id for trial in grid(tiny.study(2))}
    assert methods_of(earlier, kept) == {"strip": 4}
    result = CliRunner().invoke(app, ["bench", "show", str(tmp_path / "l"), "--json"])
    assert len(json.loads(result.stdout)) == 16
    assert "left out, because the method changed since: strip (4 trials)" in result.stderr


def test_judgements_of_a_model_that_is_replanted_are_not_shown(
    tmp_path: Path, change: Change
) -> None:
    run_study(tiny.study(1), tmp_path / "l", work=tiny.empty)
    change("badnets")
    replanted = next(t for t in grid(tiny.study(1)) if t.attack and t.role == "none")
    _record(tmp_path / "l", replanted)
    kept, earlier = current(Ledger.open(tmp_path / "l").records())
    assert {r.id for r in kept if r.trial.attack} == {replanted.id}
    assert methods_of(earlier, kept) == {"badnets": 4}


def test_a_ledger_of_an_earlier_release_is_still_read(tmp_path: Path) -> None:
    old = [trial.model_copy(update={"sources": {}}) for trial in grid(tiny.study(1))]
    Ledger.create(tmp_path / "l")
    for trial in old:
        _record(tmp_path / "l", trial)
        assert "sources" not in json.dumps(trial._without_empty_sources(trial.model_dump()))
    kept, earlier = current(Ledger.open(tmp_path / "l").records())
    assert (len(kept), earlier) == (8, [])
    new = run_study(tiny.study(1), tmp_path / "l", work=tiny.empty)
    assert (new.present, new.ran) == (1, 7)  # the clean twin has no method


def _record(root: Path, trial: Trial) -> None:
    from gifthorse.bench.trials import Place

    Ledger.open(root).write(tiny.outcome(trial, Place(root=root)).record)
