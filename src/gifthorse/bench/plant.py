"""Plants a backdoor in a model of our own, and measures it: `gifthorse plant`."""

import base64
import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gifthorse.auditing.examine import cost_record, spec_record
from gifthorse.auditing.subjects import model_record
from gifthorse.core.errors import DataError
from gifthorse.core.exhibits import PicturesExhibit, picture
from gifthorse.core.protocols import Attack, CraftedPoison, Poison, TrainingAttack, reach_of
from gifthorse.core.record import PlantRecord
from gifthorse.core.rng import child_rng
from gifthorse.core.types import (
    Cost,
    ImageData,
    Planting,
    Progress,
    Specimen,
    Strike,
    Subject,
    silent,
)
from gifthorse.data.npz import save_npz
from gifthorse.data.splits import stratified_sample
from gifthorse.metrics.rates import agreement
from gifthorse.models.classifier import ImageClassifier, as_classifier
from gifthorse.models.passes import metered, predict
from gifthorse.models.saving import save_classifier
from gifthorse.models.trainer import SmallTrainer
from gifthorse.models.training import TrainingPlan
from gifthorse.triggers.trigger import Trigger, chart


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """A specimen, what it was measured to do, and its clean twin if one was trained.

    Attributes:
        specimen: The model, the training data that others see, and the truth about both.
        classifier: The model.
        training_data: As in the specimen; clean where the attack touches no data.
        record: Clean accuracy, attack success and robust accuracy.
        twin: Same recipe without attack; None unless asked for.
        strike: The backdoor in use, with its learned trigger, to measure other models on.
    """

    specimen: Specimen
    classifier: ImageClassifier
    training_data: ImageData
    record: PlantRecord
    twin: ImageClassifier | None
    strike: Strike


def plant(
    attack: Attack,
    data: ImageData,
    test: ImageData,
    *,
    training: TrainingPlan | None = None,
    with_twin: bool = False,
    width: int = 32,
    trainer: SmallTrainer | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Planted:
    """Plant a backdoor in a small classifier and measure it on ``test``.

    Args:
        attack: An instance such as ``BadNets(target=3)``: of any of the four kinds of attack.
        data: Clean training data.
        test: Clean test data; clean accuracy and attack success rate are measured on it.
        training: How to train.
        with_twin: Also train the clean twin: same recipe without attack, same seed.
        width: Channels of the network's first stage.
        trainer: Another network or device; replaces ``training`` and ``width``.
        seed: Of all randomness.
        progress: Called during long work.

    Raises:
        DataError: The attack does not fit the data.
        NotApplicableError: The attack does not fit the network.
    """
    trainer = trainer or SmallTrainer(plan=training or TrainingPlan(), width=width)

    def fitted(on: ImageData) -> ImageClassifier:
        start = trainer.fresh(on, rng=child_rng(seed, "network"))
        return trainer.fit(on, rng=child_rng(seed, "train"), progress=progress, start=start)

    with metered(trainer) as bill:
        planting, twin = _planting(attack, data, trainer, fitted, seed, progress)
        suspect = data if planting.data is None else planting.data
        model = fitted(suspect) if planting.model is None else as_classifier(planting.model)
        if twin is None and with_twin:
            twin = fitted(data)
    twin = twin if with_twin else None
    record = measure(attack, planting, model, suspect, test, twin=twin, cost=bill.cost, seed=seed)
    specimen = Specimen(subject=Subject(model=model, suspect=suspect), truth=planting.truth)
    return Planted(
        specimen=specimen,
        classifier=model,
        training_data=suspect,
        record=record,
        twin=twin,
        strike=planting.strike,
    )


def _planting(
    attack: Attack,
    data: ImageData,
    trainer: SmallTrainer,
    fitted: Callable[[ImageData], ImageClassifier],
    seed: int,
    progress: Progress,
) -> tuple[Planting, ImageClassifier | None]:
    """What the attack leaves behind, and the clean model if one was trained for it.

    Every attack gets what it declares, and no more.
    """
    if isinstance(attack, Poison):
        poisoned, truth = attack.poison(data, rng=child_rng(seed, "poison"))
        return Planting(truth=truth, strike=attack, data=poisoned), None
    rng = child_rng(seed, "attack")
    if isinstance(attack, CraftedPoison):
        return attack.craft(data, trainer=trainer, rng=rng, progress=progress), None
    if isinstance(attack, TrainingAttack):
        return attack.subvert(data, trainer=trainer, rng=rng, progress=progress), None
    victim = fitted(data)
    samples = None
    if attack.samples:
        samples = stratified_sample(data, attack.samples, child_rng(seed, "samples"))
    planting = attack.tamper(victim, samples, rng=rng, progress=progress)
    empty = np.zeros(len(data), dtype=np.bool_)
    truth = dataclasses.replace(planting.truth, poisoned=empty, covered=empty.copy())
    return dataclasses.replace(planting, truth=truth), victim


def measure(
    attack: Attack,
    planting: Planting,
    model: ImageClassifier,
    training_data: ImageData,
    test: ImageData,
    *,
    twin: ImageClassifier | None,
    cost: Cost,
    seed: int,
) -> PlantRecord:
    """Clean accuracy, attack success rate and robust accuracy of a planted model."""
    truth = planting.truth
    wanted, true = planting.strike.triggered(test, rng=child_rng(seed, "triggered"))
    answers = predict(model, wanted)
    names = test.class_names
    reach = reach_of(type(attack))
    exhibits = [_stamped(test, true, wanted, model)]
    trigger = getattr(planting.strike, "test_trigger", None)
    if isinstance(trigger, Trigger):
        exhibits.append(_portrait(trigger, test.image_shape))
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
        twin_attack_success_rate=agreement(predict(twin, wanted), wanted.labels) if twin else None,
        exhibits=tuple(exhibits),
        notes=(
            "attack success and robust accuracy leave out samples of the target class",
            f"the attacker controls the {reach.value if reach else 'model'}",
            *planting.notes,
        ),
        cost=cost_record(cost),
    )


def attack_success(strike: Strike, model: ImageClassifier, test: ImageData, *, seed: int) -> float:
    """Attack success rate in [0, 1] of any model: for the bench and the demo, never a defence."""
    wanted, _ = strike.triggered(test, rng=child_rng(seed, "triggered"))
    return agreement(predict(model, wanted), wanted.labels).value


def save_specimen(planted: Planted, out: Path) -> None:
    """Write ``model/``, ``data.npz``, ``plant.json``, pictures, and apart from them ``truth.json``.

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
    _save_pictures(planted.record, out)


def _save_pictures(record: PlantRecord, out: Path) -> None:
    """Write ``triggered.png``, and ``trigger.png`` where the trigger can draw itself."""
    names = ("triggered.png", "trigger.png")
    for name, exhibit in zip(names, record.exhibits, strict=False):
        if isinstance(exhibit, PicturesExhibit) and exhibit.pictures:
            (out / name).write_bytes(base64.b64decode(exhibit.pictures[-1].png))


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


def _portrait(trigger: Trigger, image_shape: tuple[int, int, int]) -> PicturesExhibit:
    """The trigger as it renders itself, beside what it is drawn on."""
    return PicturesExhibit(
        title="The trigger",
        caption="A test chart, and the trigger's picture of itself.",
        pictures=(
            picture(chart(image_shape), "test chart"),
            picture(trigger.picture(image_shape), type(trigger).__name__.lower()),
        ),
    )


def _one_a_class(data: ImageData, most: int) -> Sequence[int]:
    labels, first = np.unique(data.labels, return_index=True)
    return [int(i) for i in first[: min(most, len(labels))]]
