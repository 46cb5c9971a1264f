"""Plants a backdoor in a model of our own, and measures it: `gifthorse plant`."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gifthorse.auditing.examine import cost_record, spec_record
from gifthorse.auditing.subjects import model_record
from gifthorse.core.errors import DataError
from gifthorse.core.exhibits import PicturesExhibit, picture
from gifthorse.core.protocols import Poison
from gifthorse.core.record import PlantRecord
from gifthorse.core.rng import child_rng, draw_seed
from gifthorse.core.types import Cost, GroundTruth, ImageData, Progress, Specimen, Subject, silent
from gifthorse.data.npz import save_npz
from gifthorse.metrics.rates import agreement
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.networks import small_network
from gifthorse.models.passes import metered, predict
from gifthorse.models.saving import save_classifier
from gifthorse.models.training import TrainingPlan, train


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """A specimen, what it was measured to do, and its clean twin if one was trained."""

    specimen: Specimen
    classifier: ImageClassifier
    training_data: ImageData
    record: PlantRecord
    twin: ImageClassifier | None


def plant(
    attack: Poison,
    data: ImageData,
    test: ImageData,
    *,
    training: TrainingPlan | None = None,
    with_twin: bool = False,
    width: int = 32,
    seed: int = 0,
    progress: Progress = silent,
) -> Planted:
    """Train a small classifier on a poisoned copy of ``data`` and measure it on ``test``.

    Args:
        attack: An instance such as ``BadNets(target=3)``.
        data: Clean training data.
        test: Clean test data; clean accuracy and attack success rate are measured on it.
        training: How to train.
        with_twin: Also train the clean twin: same data without poison, same seed.
        width: Channels of the network's first stage.
        seed: Of all randomness.
        progress: Called during long work.

    Raises:
        DataError: The attack does not fit the data.
    """
    plan = training or TrainingPlan()
    poisoned, truth = attack.poison(data, rng=child_rng(seed, "poison"))
    network = small_network(
        image_shape=data.image_shape,
        class_names=data.class_names,
        seed=draw_seed(child_rng(seed, "network")),
        width=width,
    )
    with metered() as bill:
        model = train(network, poisoned, plan, rng=child_rng(seed, "train"), progress=progress)
        twin = None
        if with_twin:
            twin = train(network, data, plan, rng=child_rng(seed, "train"), progress=progress)
    record = measure(attack, truth, model, poisoned, test, twin=twin, cost=bill.cost, seed=seed)
    specimen = Specimen(subject=Subject(model=model, suspect=poisoned), truth=truth)
    return Planted(
        specimen=specimen, classifier=model, training_data=poisoned, record=record, twin=twin
    )


def measure(
    attack: Poison,
    truth: GroundTruth,
    model: ImageClassifier,
    training_data: ImageData,
    test: ImageData,
    *,
    twin: ImageClassifier | None,
    cost: Cost,
    seed: int,
) -> PlantRecord:
    """Clean accuracy, attack success rate and robust accuracy of a planted model."""
    wanted, true = attack.triggered(test, rng=child_rng(seed, "triggered"))
    answers = predict(model, wanted)
    names = test.class_names
    return PlantRecord(
        attack=spec_record("attacks", attack),
        paper=attack.paper,
        mode=truth.mode,
        target=None if truth.target is None else names[truth.target],
        source=None if truth.source is None else names[truth.source],
        subject=model_record(model),
        training_samples=len(training_data),
        poisoned_samples=int(truth.poisoned.sum()),
        cover_samples=int(truth.covered.sum()),
        clean_accuracy=agreement(predict(model, test), test.labels),
        attack_success_rate=agreement(answers, wanted.labels),
        robust_accuracy=agreement(answers, true.labels),
        twin_clean_accuracy=agreement(predict(twin, test), test.labels) if twin else None,
        exhibits=(_stamped(test, true, wanted, model),),
        notes=("attack success and robust accuracy leave out samples of the target class",),
        cost=cost_record(cost),
    )


def attack_success(attack: Poison, model: ImageClassifier, test: ImageData, *, seed: int) -> float:
    """Attack success rate in [0, 1] of any model: for the bench and the demo, never a defence."""
    wanted, _ = attack.triggered(test, rng=child_rng(seed, "triggered"))
    return agreement(predict(model, wanted), wanted.labels).value


def save_specimen(planted: Planted, out: Path) -> None:
    """Write ``model/``, ``data.npz``, ``plant.json``, and apart from them ``truth.json``.

    Raises:
        DataError: ``out`` already holds files.
    """
    check_place(out)
    out.mkdir(parents=True, exist_ok=True)
    save_classifier(planted.classifier, out / "model")
    if planted.twin is not None:
        save_classifier(planted.twin, out / "twin")
    save_npz(planted.training_data, out / "data.npz")
    truth = planted.specimen.truth
    assert truth is not None  # noqa: S101 - what was planted has a truth
    _write(
        out / "truth.json",
        json.dumps(
            {
                "attack": truth.attack,
                "mode": truth.mode,
                "target": truth.target,
                "source": truth.source,
                "poisoned": np.flatnonzero(truth.poisoned).tolist(),
                "covered": np.flatnonzero(truth.covered).tolist(),
            }
        ),
    )
    _write(out / "plant.json", planted.record.model_dump_json(indent=2))


def check_place(out: Path) -> None:
    """Complain before the work, not after it.

    Raises:
        DataError: ``out`` is a file, or a directory that already holds files.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} exists and is not an empty directory; choose another place")


def _write(path: Path, text: str) -> None:
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_text(text + "\n", encoding="utf-8")
    scratch.replace(path)


def _stamped(
    test: ImageData, true: ImageData, wanted: ImageData, model: ImageClassifier
) -> PicturesExhibit:
    """Four clean pictures, and the first stamped ones of four classes with the model's answer."""
    rows = _one_a_class(true, 4)
    answers = predict(model, true)
    pictures = []
    for row in rows:
        clean_row = int(np.flatnonzero(test.labels == true.labels[row])[0])
        clean = test.batch(np.array([clean_row]))[0]
        pictures.append(picture(clean, f"clean: {test.class_names[int(true.labels[row])]}"))
    for row in rows:
        stamped = wanted.batch(np.array([row]))[0]
        pictures.append(picture(stamped, f"model says: {test.class_names[int(answers[row])]}"))
    return PicturesExhibit(
        title="With the trigger",
        caption="Clean pictures, and pictures with the trigger with what the model makes of them.",
        pictures=tuple(pictures),
    )


def _one_a_class(data: ImageData, most: int) -> Sequence[int]:
    labels, first = np.unique(data.labels, return_index=True)
    return [int(i) for i in first[: min(most, len(labels))]]
