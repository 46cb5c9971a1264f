"""Study files: what they resolve to, and what they refuse."""

from pathlib import Path
from typing import Any

import pytest

from gifthorse.bench.study import grid, parse_study, read_study, shown
from gifthorse.core.errors import SpecError
from gifthorse.core.record import SpecRecord

from . import tiny

STUDIES = Path(__file__).parents[2] / "studies"
BARE: dict[str, Any] = {"title": "t", "seeds": [0], "attack": [{"name": "badnets"}]}


def test_the_grid_is_the_product() -> None:
    trials = grid(tiny.study(3))
    assert len(trials) == 3 * 2 * 4
    assert len({trial.id for trial in trials}) == len(trials)


def test_what_a_trial_builds_on_comes_before_it() -> None:
    seen: set[str] = set()
    for trial in grid(tiny.study(2)):
        assert {before.id for before in trial.after()} <= seen
        seen.add(trial.id)


def test_defaults_are_part_of_the_specification_and_a_listed_default_changes_nothing() -> None:
    (trial,) = [t for t in grid(parse_study(BARE)) if t.attack]
    assert trial.attack is not None
    assert trial.attack.params["rate"] == 0.05
    told = {**BARE, "attack": [{"name": "badnets", "rate": 0.05}]}
    assert {t.id for t in grid(parse_study(told))} == {t.id for t in grid(parse_study(BARE))}


def test_every_part_of_the_specification_changes_the_id() -> None:
    ids = {t.id for t in grid(parse_study(BARE)) if t.attack}
    for change in (
        {"seeds": [1]},
        {"data": {"source": "signs:99"}},
        {"model": {"width": 8}},
        {"training": {"epochs": 3}},
        {"attack": [{"name": "badnets", "rate": 0.06}]},
    ):
        ids |= {t.id for t in grid(parse_study({**BARE, **change})) if t.attack}
    assert len(ids) == 6
    versions = {"torch": "0.0"}
    assert grid(parse_study(BARE))[0].model_copy(update={"versions": versions}).id not in ids


def test_a_list_of_values_is_a_sweep() -> None:
    raw = {**BARE, "attack": [{"name": "badnets", "rate": [0.01, 0.1], "size": [2, 3]}]}
    assert len(parse_study(raw).attacks) == 4


def test_more_seeds_leave_the_other_trials_alone() -> None:
    assert {t.id for t in grid(tiny.study(2))} < {t.id for t in grid(tiny.study(3))}


def test_resources_and_title_are_not_part_of_a_trial() -> None:
    other = {**BARE, "title": "u", "resources": {"cpus": 2}}
    assert grid(parse_study(other)) == grid(parse_study(BARE))


def test_what_a_detector_is_shown_follows_from_its_needs() -> None:
    def on(name: str) -> str:
        return shown(SpecRecord(name=name, params={}))

    assert on("universality") == "model"
    assert on("activation_clustering") == "data"
    assert on("strip") == "inputs"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"sedes": [1]}, "did you mean 'seeds'"),
        ({"seeds": []}, "seeds"),
        ({"seeds": [-1]}, "seeds"),
        ({"attack": [{"name": "badnet"}]}, "did you mean 'badnets'"),
        ({"attack": [{"name": "badnets", "rat": 1}]}, "did you mean 'rate'"),
        ({"attack": [{"name": "badnets", "rate": 2.0}]}, "rate must be in"),
        ({"attack": [{"rate": 0.1}]}, "needs a name"),
        ({"attack": "badnets"}, r"\[\[attack\]\]"),
        ({"training": {"epochs": 1.5}}, "epochs must be of type int"),
        ({"training": {"epoch": 1}}, "did you mean 'epochs'"),
        ({"training": {"epochs": 0}}, "positive"),
        ({"model": {"architecture": "huge"}}, "architecture"),
        ({"detector": [{"name": "strip", "on": "fire"}]}, "on must be"),
        ({"repair": [{"name": "unlearning", "evidence": "strip"}]}, "no .*detector"),
        ({"data": {"trusted": 1}}, "trusted"),
    ],
)
def test_a_wrong_study_is_refused_with_a_reason(change: dict[str, Any], text: str) -> None:
    with pytest.raises(SpecError, match=text):
        parse_study({**BARE, **change})


def test_a_broken_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    with pytest.raises(SpecError, match="cannot read"):
        read_study(path)
    path.write_text("title = ", encoding="utf-8")
    with pytest.raises(SpecError, match="not TOML"):
        read_study(path)


@pytest.mark.parametrize(
    "path",
    sorted(p for p in STUDIES.glob("*.toml") if "federated" not in p.name),
    ids=lambda path: path.stem,
)
def test_our_own_studies_are_understood(path: Path) -> None:
    assert len(grid(read_study(path))) >= 20
