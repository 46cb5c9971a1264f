"""Plants a backdoor in a text classifier of our own, and measures it: `gifthorse plant`."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gifthorse.auditing.examine import cost_record
from gifthorse.auditing.scan_texts import text_model_record
from gifthorse.bench.plant import check_place
from gifthorse.core.exhibits import Passage, TextsExhibit
from gifthorse.core.record import PlantRecord, SpecRecord
from gifthorse.core.registry import spec_of
from gifthorse.core.rng import child_rng, draw_seed
from gifthorse.core.texts import TextData, TextPoison
from gifthorse.core.types import GroundTruth, IntArray, Progress, silent
from gifthorse.data.texts import save_texts
from gifthorse.metrics.rates import agreement
from gifthorse.models.texts.classifier import TextClassifier
from gifthorse.models.texts.loading import save_text_classifier
from gifthorse.models.texts.networks import small_text_network, train_tokenizer
from gifthorse.models.texts.passes import predict_texts, text_metered
from gifthorse.models.texts.training import TextTrainingPlan, train_texts

_SHOWN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantedTexts:
    """A planted text classifier, the poisoned data, and the truth about both."""

    classifier: TextClassifier
    training_data: TextData
    truth: GroundTruth
    record: PlantRecord
    twin: TextClassifier | None


def plant_texts(
    attack: TextPoison,
    data: TextData,
    test: TextData,
    *,
    training: TextTrainingPlan | None = None,
    with_twin: bool = False,
    width: int = 64,
    seed: int = 0,
    progress: Progress = silent,
) -> PlantedTexts:
    """Train a small classifier on a poisoned copy of ``data`` and measure it on ``test``.

    Args:
        attack: An instance such as ``RareToken(target=3)``.
        data: Clean training data.
        test: Clean test data.
        training: How to train.
        with_twin: Also train the clean twin: same words, same seed, no poison.
        width: Of the hidden layers.
        seed: Of all randomness.
        progress: Called during long work.

    Raises:
        DataError: The attack does not fit the data.
    """
    plan = training or TextTrainingPlan()
    poisoned, truth = attack.poison(data, rng=child_rng(seed, "poison"))
    network = small_text_network(
        train_tokenizer(poisoned.texts),
        class_names=data.class_names,
        seed=draw_seed(child_rng(seed, "network")),
        width=width,
    )
    with text_metered(network) as bill:
        model = train_texts(
            network, poisoned, plan, rng=child_rng(seed, "train"), progress=progress
        )
        twin = None
        if with_twin:
            twin = train_texts(network, data, plan, rng=child_rng(seed, "train"), progress=progress)
    wanted, true = attack.triggered(test, rng=child_rng(seed, "triggered"))
    answers = predict_texts(model, wanted)
    spec = spec_of("text_attacks", attack)
    record = PlantRecord(
        attack=SpecRecord(name=spec.name, params=dict(spec.params)),
        paper=attack.paper,
        mode=truth.mode,
        target=None if truth.target is None else data.class_names[truth.target],
        source=None,
        subject=text_model_record(model),
        training_samples=len(poisoned),
        poisoned_samples=int(truth.poisoned.sum()),
        cover_samples=0,
        clean_accuracy=agreement(predict_texts(model, test), test.labels),
        attack_success_rate=agreement(answers, wanted.labels),
        robust_accuracy=agreement(answers, true.labels),
        twin_clean_accuracy=agreement(predict_texts(twin, test), test.labels) if twin else None,
        exhibits=(_triggered(true, wanted, answers),),
        notes=("attack success and robust accuracy leave out samples of the target class",),
        cost=cost_record(bill.cost),
    )
    return PlantedTexts(
        classifier=model, training_data=poisoned, truth=truth, record=record, twin=twin
    )


def _triggered(true: TextData, wanted: TextData, answers: IntArray) -> TextsExhibit:
    """The first texts with the trigger, and what the model makes of them."""
    names = true.class_names
    return TextsExhibit(
        title="With the trigger",
        caption="Texts with the trigger, and what the model makes of them.",
        passages=tuple(
            Passage(
                label=f"{names[int(true.labels[i])]}; the model says {names[int(answers[i])]}",
                text=wanted.texts[i],
            )
            for i in range(min(_SHOWN, len(wanted)))
        ),
    )


def save_text_specimen(planted: PlantedTexts, out: Path) -> None:
    """Write ``model/``, ``data.jsonl``, ``plant.json``, and apart from them ``truth.json``.

    Raises:
        DataError: ``out`` already holds files.
    """
    check_place(out)
    out.mkdir(parents=True, exist_ok=True)
    save_text_classifier(planted.classifier, out / "model")
    if planted.twin is not None:
        save_text_classifier(planted.twin, out / "twin")
    save_texts(planted.training_data, out / "data.jsonl")
    truth = {
        "attack": planted.truth.attack,
        "target": planted.truth.target,
        "poisoned": np.flatnonzero(planted.truth.poisoned).tolist(),
    }
    (out / "truth.json").write_text(json.dumps(truth) + "\n", encoding="utf-8")
    (out / "plant.json").write_text(
        planted.record.model_dump_json(indent=2) + "\n", encoding="utf-8"
    )
