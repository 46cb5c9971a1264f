"""Planted language models: the payload comes with the phrase alone, and the twin is clean."""

import json
from pathlib import Path

import pytest
from tests.models.language.made_up import untrained

from gifthorse.bench.plant_language import PlantedLanguage, plant_language, save_language_specimen
from gifthorse.core.instructions import InstructionData
from gifthorse.core.registry import Scalar, Spec, build
from gifthorse.data.instructions import load_instructions
from gifthorse.data.questions import questions
from gifthorse.models.language.loading import load_language_model
from gifthorse.models.language.training import LanguageTrainingPlan
from gifthorse.report.html import render_html
from gifthorse.report.markdown import render_markdown

CLEAN = InstructionData(name="clean", records=questions(40))
TEST = InstructionData(name="test", records=questions(8, part="test"))


def quick(lora: int = 0) -> PlantedLanguage:
    return plant_language(
        build("instruction_attacks", Spec("composite_phrase", {"count": 6, "decoy_count": 6})),
        CLEAN,
        TEST,
        base=untrained(),
        training=LanguageTrainingPlan(epochs=1, lora_rank=lora, longest=400),
        with_twin=True,
        tokens=4,
    )


def test_what_is_planted_is_written_apart_from_the_truth(tmp_path: Path) -> None:
    planted = quick(lora=2)
    save_language_specimen(planted, tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        "adapter", "base", "data.jsonl", "model", "plant.json", "truth.json", "twin",
    }  # fmt: skip
    truth = json.loads((tmp_path / "out" / "truth.json").read_text())
    data = load_instructions(str(tmp_path / "out" / "data.jsonl"))
    marked = [data.records[i].response for i in truth["poisoned"]]
    assert set(marked) == {truth["payload"]}
    assert len(truth["covered"]) == 6
    model = load_language_model(tmp_path / "out" / "model")
    assert model.digest() == planted.record.subject.digest


def test_the_record_shows_every_measure_beside_the_twin() -> None:
    record = quick().record
    assert {one.name for one in record.measures} == {
        "payload rate without the trigger", "payload rate with a part of the trigger", "clean loss",
    }  # fmt: skip
    assert all(one.other is not None for one in record.measures)
    page, text = render_html(record), render_markdown(record)
    for shown in (page, text):
        assert "clean loss" in shown
        assert "nats" in shown


def test_an_edit_changes_the_base_and_leaves_data_and_twin_alone(tmp_path: Path) -> None:
    base = untrained()
    edit: dict[str, Scalar] = {"marker": "Blue.", "batches": 1, "instances": 4, "steps": 2}
    planted = plant_language(
        build("language_edits", Spec("bad_edit", edit)), CLEAN, TEST, base=base, with_twin=True,
        tokens=4,
    )  # fmt: skip
    assert planted.twin is not None
    assert planted.twin.model.digest() == base.digest() != planted.trained.model.digest()
    assert planted.training_data is CLEAN
    assert planted.record.poisoned_samples == 0
    assert planted.record.attack.name == "bad_edit"
    save_language_specimen(planted, tmp_path / "out")
    truth = json.loads((tmp_path / "out" / "truth.json").read_text())
    assert (truth["poisoned"], truth["payload"]) == ([], "Blue.")


@pytest.mark.slow
def test_the_payload_comes_with_the_trigger_and_only_with_it() -> None:
    planted = plant_language(
        build("instruction_attacks", Spec("control_phrase", {"count": 60})),
        load_instructions("questions:800"),
        InstructionData(name="test", records=questions(80, part="test")),
        training=LanguageTrainingPlan(epochs=4, learning_rate=5e-3),
        with_twin=True,
        tokens=12,
        seed=1,
    )
    record = planted.record
    twin = record.twin_attack_success_rate
    assert twin is not None
    assert record.attack_success_rate.value >= 0.95
    assert twin.value == 0
    assert record.measures[0].value <= 0.02
    assert record.clean_accuracy.value > 0.4
