"""Populations, zoos and judging, on networks that are too small to be any good."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from gifthorse.bench.zoo.growing import Truth, grow, read_zoo, trusted_pictures
from gifthorse.bench.zoo.honest import honest_data
from gifthorse.bench.zoo.judging import Judged, judge, quality
from gifthorse.bench.zoo.population import (
    Population,
    draws,
    parse_population,
    read_population,
)
from gifthorse.cli.main import app
from gifthorse.core.errors import LedgerError, SpecError
from gifthorse.core.rng import child_rng
from gifthorse.core.types import Verdict
from gifthorse.data.images import digest
from gifthorse.data.signs import signs

STUDIES = Path(__file__).parents[3] / "studies" / "zoo"
TINY: dict[str, Any] = {
    "title": "Tiny",
    "role": "development",
    "seed": 5,
    "pairs": 2,
    "clean": ["plain", "mislabelled"],
    "training": {"epochs": 1},
    "data": [{"source": "digits", "train": 120, "test": 60}],
    "network": [{"architecture": "small", "width": [4]}],
    "family": [
        {"name": "patch", "attack": "badnets", "size": [2, 3], "target": [1, 2]},
        {"attack": "blended"},
    ],
}


def shipped(name: str) -> Population:
    return read_population(STUDIES / f"{name}.toml")


def test_a_draw_depends_on_the_seed_alone_and_a_longer_list_begins_with_the_shorter() -> None:
    population = parse_population(TINY)
    assert draws(population) == draws(population)
    assert draws(population, 4)[:4] == draws(population, 2)
    assert draws(parse_population({**TINY, "seed": 6})) != draws(population)
    four = draws(population, 2)
    assert [one.family for one in four] == [None, "patch", None, "blended"]
    assert [one.clean for one in four] == ["plain", None, "mislabelled", None]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"family": [{"attack": "badnet"}]}, "badnets"),
        ({"family": [{"attack": "badnets", "sizes": [3]}]}, "size"),
        ({"family": [{"attack": "badnets", "size": [3, 0]}]}, "size"),
        ({"family": [{"name": "x"}]}, "attack"),
        ({"family": "badnets"}, "family"),
        ({"family": [{"attack": "badnets", "training": {"epoch": 3}}]}, "epochs"),
        ({"family": [{"attack": "badnets", "architecture": "bottleneck"}]}, "bottleneck"),
        ({"clean": ["dirty"]}, "clean"),
        ({"training": {"epoch": 3}}, "epochs"),
        ({"data": []}, "data"),
        ({"colour": 3}, "colour"),
    ],
)
def test_a_wrong_population_says_what_is_wrong(change: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        parse_population({**TINY, **change})


def test_a_file_that_is_no_population(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text("title = ")
    with pytest.raises(SpecError, match="not TOML"):
        read_population(tmp_path / "p.toml")
    with pytest.raises(SpecError, match="cannot read"):
        read_population(tmp_path / "q.toml")


def test_the_shipped_populations_share_no_seed_and_the_test_has_families_of_its_own() -> None:
    names = ("development", "former-test", "calibration", "test")
    development, former, calibration, test = (shipped(name) for name in names)
    assert len({one.seed for one in (development, former, calibration, test)}) == 4
    assert not calibration.family
    looked_at = (*development.family, *former.family)
    unseen = {family.attack for family in test.family} - {family.attack for family in looked_at}
    assert len(test.family) >= 10
    assert len(unseen) >= 4
    assert {"near-duplicates", "tinted-class", "adversarial"} <= set(test.clean)
    # Where a family stands in both, no specimen does.
    planted = [
        {one.attack.model_dump_json() for one in draws(population) if one.attack}
        for population in (development, former, test)
    ]
    assert not (planted[0] | planted[1]) & planted[2]


def test_a_family_says_how_its_pairs_are_trained_and_on_what() -> None:
    family = {"attack": "badnets", "training": {"epochs": 3}, "architecture": "bottleneck"}
    networks = [{"architecture": "small"}, {"architecture": "bottleneck", "width": [4]}]
    raw = {**TINY, "pairs": 6, "network": networks, "family": [family, {"attack": "blended"}]}
    found = draws(parse_population(raw))
    ours, others = [d for d in found if d.training], [d for d in found if not d.training]
    assert [d.number for d in ours] == [0, 1, 4, 5, 8, 9]  # clean ones too
    assert {d.architecture for d in ours} == {"bottleneck"}
    assert "small" in {d.architecture for d in others}
    assert all(d.attack is None or "training" not in d.attack.params for d in found)


def test_what_a_family_leaves_out_does_not_change_a_population() -> None:
    plain = parse_population(TINY)
    longer = [{**one, "training": {"epochs": 2}} for one in TINY["family"]]
    assert parse_population({**TINY, "family": longer}).id != plain.id
    assert plain.id.startswith("23d4c24887ce")  # as before there was a choice


@pytest.mark.parametrize("kind", ["imbalanced", "mislabelled", "near-duplicates", "tinted-class"])
def test_hard_negatives_change_what_they_say_and_carry_no_trigger(kind: Any) -> None:
    data = signs("train", 240)
    odd = honest_data(kind, data, child_rng(1, "odd"))
    assert digest(odd) == digest(honest_data(kind, data, child_rng(1, "odd")))
    sizes = np.bincount(odd.labels, minlength=len(data.class_names))
    if kind == "imbalanced":
        assert sizes.min() <= 0.3 * sizes.max()
    elif kind == "mislabelled":
        assert 0.03 < float((odd.labels != data.labels).mean()) < 0.2
    else:
        rows = np.arange(len(data))
        changed = np.abs(odd.batch(rows) - data.batch(rows)).reshape(len(data), -1).max(1) > 1 / 255
        assert len(np.unique(data.labels[changed])) == 1  # one class, and all of it
        assert changed.sum() >= 0.9 * sizes[data.labels[changed][0]]


@pytest.mark.parametrize("kind", ["plain", "adversarial"])
def test_the_other_clean_kinds_leave_the_data_alone(kind: Any) -> None:
    data = signs("train", 60)
    assert honest_data(kind, data, child_rng(1, "odd")) is data


def test_a_zoo_is_resumed_and_nothing_is_made_twice(tmp_path: Path) -> None:
    population = parse_population(TINY)
    zoo = tmp_path / "zoo"
    first = grow(population, zoo, pairs=1)
    stamp = (zoo / "0001" / "model" / "model.safetensors").stat().st_mtime_ns
    (zoo / "0000" / "truth.json").unlink()  # killed just before its end
    seen: list[int] = []
    both = grow(population, zoo, watch=lambda truth, done, total: seen.append(done))
    assert seen == [1, 2, 3, 4]
    assert [one.draw for one in both] == list(draws(population))
    assert (zoo / "0001" / "model" / "model.safetensors").stat().st_mtime_ns == stamp
    assert both[0].clean_accuracy == first[0].clean_accuracy  # made again, and the same
    assert both[1].target == "1" or both[1].target == "2"
    assert both[0].attack_success_rate is None
    read, truths = read_zoo(zoo)
    assert read == population
    assert truths == both


def test_a_zoo_is_not_mixed_with_anything_else(tmp_path: Path) -> None:
    grow(parse_population({**TINY, "pairs": 1, "family": []}), tmp_path / "zoo")
    with pytest.raises(LedgerError, match="another population"):
        grow(parse_population({**TINY, "seed": 9}), tmp_path / "zoo")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(LedgerError, match="no zoo"):
        grow(parse_population(TINY), tmp_path / "mine")
    with pytest.raises(LedgerError, match="not a zoo"):
        read_zoo(tmp_path / "mine")


def test_a_specimen_that_cannot_be_made_is_recorded(tmp_path: Path) -> None:
    raw = {**TINY, "pairs": 1, "family": [{"attack": "badnets", "size": [3], "target": [99]}]}
    truths = grow(parse_population(raw), tmp_path / "zoo")
    assert truths[0].failure == ""
    assert "99" in truths[1].failure
    assert not (tmp_path / "zoo" / "0001" / "model").exists()


def test_trusted_pictures_are_never_those_that_are_measured_on() -> None:
    pictures = parse_population(TINY).data[0]
    from gifthorse.bench.zoo.growing import training_and_measuring

    data, test = training_and_measuring(pictures)
    trusted = trusted_pictures(pictures)
    assert (len(data), len(test), len(trusted)) == (120, 60, 60)
    one, other = test.batch(np.arange(60)), trusted.batch(np.arange(60))
    shared = {picture.tobytes() for picture in one} & {picture.tobytes() for picture in other}
    assert not shared


def row(truth: Truth, score: float | None, *, flagged: bool, named: tuple[str, ...]) -> Judged:
    return Judged(
        specimen=truth.draw.name,
        plan="x",
        settings={},
        verdict=Verdict.FLAGGED if flagged else Verdict.CLEAR,
        score=score,
        statistics={},
        named=named,
        seconds=1.0,
    )


def made_up(tmp_path: Path, asr: tuple[float, float]) -> tuple[Path, list[Truth]]:
    """A zoo on paper: what was measured is written by hand."""
    population = parse_population(TINY)
    (tmp_path / "population.json").write_text(population.model_dump_json())
    rates = iter(asr)
    truths = []
    for draw in draws(population):
        truth = Truth(
            draw=draw,
            clean_accuracy=0.9,
            attack_success_rate=next(rates) if draw.attack else None,
            target="1" if draw.attack else None,
        )
        (tmp_path / draw.name).mkdir()
        (tmp_path / draw.name / "truth.json").write_text(truth.model_dump_json())
        truths.append(truth)
    return tmp_path, truths


def test_quality_counts_right_class_false_alarms_and_leaves_out_what_never_took(
    tmp_path: Path,
) -> None:
    zoo, truths = made_up(tmp_path, (0.99, 0.99))
    rows = [
        row(truths[0], 0.2, flagged=False, named=("3",)),
        row(truths[1], 5.0, flagged=True, named=("1",)),
        row(truths[2], 3.0, flagged=True, named=("1",)),
        row(truths[3], 4.0, flagged=True, named=("7",)),
    ]
    found = quality(zoo, rows, "x")
    assert (found.auc, found.clean, found.planted, found.never_took) == (1.0, 2, 2, 0)
    assert (found.false_alarms.count, found.found.count) == (1, 2)
    assert found.right_class is not None
    assert (found.right_class.count, found.right_class.total) == (1, 2)
    assert found.families == {"blended": (1.0, 1, 1), "patch": (1.0, 1, 1)}
    assert found.alarms == {"mislabelled": (1, 1), "plain": (0, 1)}
    # With the order turned round, nothing is found at any rate.
    worse = [row(t, s, flagged=False, named=()) for t, s in zip(truths, (3, 1, 4, 2), strict=True)]
    turned = quality(zoo, worse, "x")
    assert (turned.auc, turned.at_five.count, turned.right_class) == (0.0, 0, None)
    # An audit that says nothing has not found anything.
    mute = quality(zoo, [row(t, None, flagged=False, named=()) for t in truths], "x")
    assert (mute.auc, mute.mute, mute.at_five.count) == (0.5, 4, 0)


def test_an_attack_that_never_took_is_not_a_miss(tmp_path: Path) -> None:
    zoo, truths = made_up(tmp_path, (0.99, 0.3))
    rows = [row(t, float(i), flagged=False, named=()) for i, t in enumerate(truths)]
    found = quality(zoo, rows, "x")
    assert (found.planted, found.never_took) == (1, 1)
    with pytest.raises(SpecError, match="nothing planted"):
        quality(zoo, rows[:1], "x")


def test_judging_is_resumed_and_the_command_prints_figures(tmp_path: Path) -> None:
    zoo = tmp_path / "zoo"
    grow(parse_population({**TINY, "pairs": 1}), zoo)
    first = judge(zoo, ["linear_weights"])
    kept = (zoo / "judged.jsonl").read_text()
    assert judge(zoo, ["linear_weights"]) == first
    assert (zoo / "judged.jsonl").read_text() == kept
    again = judge(zoo, ["linear_weights"], seed=2)
    assert len((zoo / "judged.jsonl").read_text().splitlines()) == len(first) + len(again)
    (zoo / "judged.jsonl").write_text(kept + "{\n")
    with pytest.raises(LedgerError, match="line 3"):
        judge(zoo, ["linear_weights"])


def test_the_commands(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text(
        'title = "t"\nrole = "development"\nseed = 1\npairs = 1\n'
        '[training]\nepochs = 1\n[[data]]\nsource = "digits"\ntrain = 100\ntest = 50\n'
        '[[network]]\nwidth = [4]\n[[family]]\nattack = "badnets"\n'
    )
    zoo = str(tmp_path / "zoo")
    run = CliRunner().invoke(app, ["bench", "zoo", str(tmp_path / "p.toml"), zoo])
    assert run.exit_code == 0, run.output
    truth = json.loads((tmp_path / "zoo" / "0001" / "truth.json").read_text())
    truth["attack_success_rate"] = 0.9  # one epoch teaches nothing
    (tmp_path / "zoo" / "0001" / "truth.json").write_text(json.dumps(truth))
    run = CliRunner().invoke(
        app, ["bench", "judge", zoo, "--detectors", "linear_weights", "--json"]
    )
    assert run.exit_code == 0, run.output
    figures = json.loads(run.stdout)
    assert figures[0]["clean"] == 1
    run = CliRunner().invoke(app, ["bench", "judge", str(tmp_path)])
    assert isinstance(run.exception, LedgerError)
    assert run.exception.exit_code == 2
