"""Trains the models of a population: `gifthorse bench zoo`. Resumable, one directory a model.

Layout::

    population.json          what the zoo holds
    0003/model/              an ordinary model directory: all that a detector is shown
    0003/truth.json          what it is, and what was measured
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from gifthorse.bench.plant import plant
from gifthorse.bench.zoo.honest import honest_data
from gifthorse.bench.zoo.population import Draw, Pictures, Population, draws
from gifthorse.core.errors import GifthorseError, LedgerError
from gifthorse.core.registry import Spec, build
from gifthorse.core.rng import child_rng
from gifthorse.core.types import ImageData, Progress, silent
from gifthorse.data.images import subset, to_arrays
from gifthorse.data.sources import load
from gifthorse.data.splits import stratified_sample
from gifthorse.metrics.rates import agreement
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.passes import predict
from gifthorse.models.saving import save_classifier
from gifthorse.models.trainer import SmallTrainer
from gifthorse.models.training import TrainingPlan
from gifthorse.training.adversarial import AdversarialTraining

_MARK = "population.json"


class Truth(BaseModel):
    """What a specimen is. No detector is shown this.

    Attributes:
        draw: How it was made.
        clean_accuracy: On the test pictures that the trusted ones are not taken from, in [0, 1].
        attack_success_rate: In [0, 1]; None for a clean one.
        target: Name of the class that the attack leads to; None if there is not one alone.
        seconds: Training and measuring.
        failure: Why there is no model; empty if there is one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    draw: Draw
    clean_accuracy: float | None = None
    attack_success_rate: float | None = None
    target: str | None = None
    seconds: float = 0.0
    failure: str = ""


Watch = Callable[[Truth, int, int], None]


def grow(
    population: Population,
    out: Path,
    *,
    pairs: int | None = None,
    watch: Watch | None = None,
    progress: Progress = silent,
) -> list[Truth]:
    """Train what ``out`` does not hold yet. A specimen that cannot be made is recorded as such.

    Args:
        population: What to draw.
        out: A new directory, or a zoo of the same population.
        pairs: How many pairs; as many as the population says if None.
        watch: Called with every finished specimen, how many are done, and of how many.
        progress: Called during the training of one.

    Raises:
        LedgerError: ``out`` holds something else, or a zoo of another population.
        DataError: The pictures are not there.
    """
    _claim(out, population)
    pictures: dict[Pictures, tuple[ImageData, ImageData]] = {}
    found = []
    planned = draws(population, pairs)
    for count, draw in enumerate(planned, 1):
        place = out / draw.name
        if (place / "truth.json").exists():
            truth = read_truth(place)
        else:
            if draw.data not in pictures:
                pictures[draw.data] = training_and_measuring(draw.data)
            truth = _make(draw, population, place, *pictures[draw.data], progress)
        found.append(truth)
        if watch is not None:
            watch(truth, count, len(planned))
    return found


def read_truth(place: Path) -> Truth:
    """The truth about one specimen.

    Raises:
        LedgerError: Missing or broken.
    """
    path = place / "truth.json"
    try:
        return Truth.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, ValidationError) as error:
        raise LedgerError(f"{path} is not the truth about a specimen: {error}") from error


def read_zoo(zoo: Path) -> tuple[Population, list[Truth]]:
    """A population and the truth about its finished specimens, in order.

    Raises:
        LedgerError: No zoo, or a broken one.
    """
    try:
        population = Population.model_validate_json((zoo / _MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError, ValidationError) as error:
        raise LedgerError(f"{zoo} is not a zoo: {error}") from error
    return population, [read_truth(path.parent) for path in sorted(zoo.glob("*/truth.json"))]


def is_zoo(place: Path) -> bool:
    """Whether a directory holds a zoo."""
    return (place / _MARK).is_file()


def clean_models(zoo: Path) -> Iterator[tuple[Path, ImageData]]:
    """Directories of the clean models of a zoo, with the trusted pictures of each.

    Raises:
        LedgerError: No zoo, or a broken one.
    """
    _, truths = read_zoo(zoo)
    trusted: dict[Pictures, ImageData] = {}
    for truth in truths:
        if truth.draw.clean is not None and not truth.failure:
            if truth.draw.data not in trusted:
                trusted[truth.draw.data] = trusted_pictures(truth.draw.data)
            yield zoo / truth.draw.name / "model", trusted[truth.draw.data]


def training_and_measuring(pictures: Pictures) -> tuple[ImageData, ImageData]:
    """Pictures to train on, and the half of the test split to measure on."""
    data = _at_most(load(pictures.source, split="train"), pictures.train, "train")
    return to_arrays(data), _test_halves(pictures)[0]


def trusted_pictures(pictures: Pictures) -> ImageData:
    """The other half of the test split: what a defender holds. Never measured on."""
    return _test_halves(pictures)[1]


def _test_halves(pictures: Pictures) -> tuple[ImageData, ImageData]:
    data = _at_most(load(pictures.source, split="test"), 2 * pictures.test, "test")
    rows = child_rng(0, "zoo", "halves").permutation(len(data)).astype(np.int64)
    middle = len(rows) // 2
    return to_arrays(subset(data, np.sort(rows[:middle]))), to_arrays(
        subset(data, np.sort(rows[middle:]))
    )


def _at_most(data: ImageData, count: int, part: str) -> ImageData:
    if len(data) <= count:
        return data
    return stratified_sample(data, count, child_rng(0, "zoo", part))


def _make(
    draw: Draw,
    population: Population,
    place: Path,
    data: ImageData,
    test: ImageData,
    progress: Progress,
) -> Truth:
    start = time.perf_counter()
    shutil.rmtree(place, ignore_errors=True)  # what a killed run left of it
    trainer = SmallTrainer(
        plan=TrainingPlan(**{**population.training, **draw.training}),  # type: ignore[arg-type]
        width=draw.width,
        architecture=draw.architecture,
    )
    truth = Truth(draw=draw)
    try:
        if draw.attack is None:
            model = _honest(draw, trainer, data, progress)
        else:
            attack = build("attacks", Spec(draw.attack.name, dict(draw.attack.params)))
            made = plant(attack, data, test, trainer=trainer, seed=draw.seed, progress=progress)
            model = made.classifier
            planted = made.specimen.truth
            target = planted.target if planted is not None else None
            truth = truth.model_copy(
                update={
                    "attack_success_rate": made.record.attack_success_rate.value,
                    "target": None if target is None else data.class_names[target],
                }
            )
    except GifthorseError as error:
        return _write(place, truth.model_copy(update={"failure": str(error)}))
    save_classifier(model, place / "model")
    measured = {
        "clean_accuracy": agreement(predict(model, test), test.labels).value,
        "seconds": round(time.perf_counter() - start, 2),
    }
    return _write(place, truth.model_copy(update=measured))


def _honest(
    draw: Draw, trainer: SmallTrainer, data: ImageData, progress: Progress
) -> ImageClassifier:
    assert draw.clean is not None  # noqa: S101 - a specimen without attack is a clean one
    odd = honest_data(draw.clean, data, child_rng(draw.seed, "honest"))
    start = trainer.fresh(odd, rng=child_rng(draw.seed, "network"))
    rng = child_rng(draw.seed, "train")
    if draw.clean == "adversarial":
        hard = AdversarialTraining(steps=2)
        return hard.train(start, odd, trainer.plan, rng=rng, progress=progress)
    return trainer.fit(odd, rng=rng, progress=progress, start=start)


def _claim(out: Path, population: Population) -> None:
    mark = out / _MARK
    try:
        if mark.exists():
            held, _ = read_zoo(out)
            if held.id != population.id:
                raise LedgerError(f"{out} is a zoo of another population ({held.title})")
            return
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise LedgerError(f"{out} is not empty and no zoo; choose another place")
        out.mkdir(parents=True, exist_ok=True)
        _place(mark, population.model_dump_json(indent=1))
    except OSError as error:
        raise LedgerError(f"cannot write the zoo {out}: {error.strerror}") from error


def _write(place: Path, truth: Truth) -> Truth:
    """Last of all: a specimen without its truth is made again."""
    place.mkdir(parents=True, exist_ok=True)
    _place(place / "truth.json", json.dumps(truth.model_dump(mode="json"), indent=1))
    return truth


def _place(path: Path, text: str) -> None:
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_text(text + "\n", encoding="utf-8")
    scratch.replace(path)
