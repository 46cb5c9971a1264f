"""Planted models and clean twins, made once and shared by all trials that judge them.

A planted model lives in ``models/DIGEST/`` of the ledger, by the digest of its specification: the
classifier in the Hugging Face layout, the samples that the attack changed, and the test pictures
with the trigger. It is made in a scratch directory under a lock and moved into place whole.
"""

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gifthorse.auditing.examine import cost_record
from gifthorse.bench.plant import plant
from gifthorse.bench.study import DataPlan, Trial
from gifthorse.core.errors import DataError, LedgerError, ModelError
from gifthorse.core.exhibits import PicturesExhibit
from gifthorse.core.record import CostRecord
from gifthorse.core.registry import Spec, build
from gifthorse.core.rng import child_rng
from gifthorse.core.types import GroundTruth, ImageData, IntArray, Progress
from gifthorse.data.images import ArrayImages, to_arrays
from gifthorse.data.sources import Split, load
from gifthorse.data.splits import split, stratified_sample
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.loading import load_classifier
from gifthorse.models.passes import metered
from gifthorse.models.saving import save_classifier
from gifthorse.models.trainer import SmallTrainer
from gifthorse.models.training import TrainingPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """Who gets which pictures; all parts are disjoint but ``probe``, a sample of ``trusted``."""

    training: ArrayImages
    trusted: ImageData
    probe: ImageData
    measured: ImageData


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A planted model or a clean twin, as it lies in the ledger.

    Attributes:
        classifier: The model.
        truth: What was planted; None for a clean twin.
        training: What it was trained on.
        wanted: Test pictures with the trigger and the labels that the attacker wants, or None.
        true: The same pictures with their true labels, or None.
        exhibits: Pictures of the trigger.
        cost: Of the training.
    """

    classifier: ImageClassifier
    truth: GroundTruth | None
    training: ImageData
    wanted: ImageData | None
    true: ImageData | None
    exhibits: tuple[PicturesExhibit, ...]
    cost: CostRecord


def pictures(plan: DataPlan, seed: int) -> Pictures:
    """Divide a data set between trainer, defender and measurement.

    Raises:
        DataError: Missing, or too small for the plan.
    """
    test = _loaded(plan.test or plan.source, "test")
    if plan.trusted >= len(test):
        raise DataError(
            f"{test.name} has {len(test)} test pictures and the defender wants {plan.trusted}: "
            "none are left to measure on"
        )
    trusted, measured = split(test, plan.trusted / len(test), child_rng(seed, "bench", "trusted"))
    if plan.measured:
        measured = stratified_sample(measured, plan.measured, child_rng(seed, "bench", "measured"))
    return Pictures(
        training=_loaded(plan.source, "train"),
        trusted=trusted,
        probe=stratified_sample(trusted, plan.probe, child_rng(seed, "bench", "probe")),
        measured=measured,
    )


@lru_cache(maxsize=2)
def _loaded(source: str, part: Split) -> ArrayImages:
    """Read once a process: neighbouring trials use the same pictures."""
    return to_arrays(load(source, split=part))


def made(trial: Trial, shared: Pictures, models: Path, *, device: str, progress: Progress) -> Made:
    """The planted model (or clean twin) of a trial: from the ledger, or made now.

    Raises:
        LedgerError: It cannot be written, or what lies there is broken and cannot be moved.
    """
    place = models / trial.planted_id
    try:
        if not place.exists():
            with _locked(models / f".lock-{trial.planted_id}"):
                if not place.exists():
                    _make(trial, shared, place, device=device, progress=progress)
        return _read(place, shared, device)
    except OSError as error:
        raise LedgerError(f"cannot keep the planted model {place}: {error.strerror}") from error


def _make(trial: Trial, shared: Pictures, place: Path, *, device: str, progress: Progress) -> None:
    for leftover in place.parent.glob(f".{place.name}-*"):  # of a maker that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    try:
        if trial.attack is None:
            facts, arrays, classifier = _clean(trial, shared, device, progress)
        else:
            facts, arrays, classifier = _planted(trial, shared, device, progress)
        save_classifier(classifier, scratch / "model")
        _save_arrays(arrays, scratch / "arrays.safetensors")
        facts["digest"] = classifier.digest()
        text = json.dumps({**facts, "specification": _specification(trial)}, indent=1)
        (scratch / "made.json").write_text(text + "\n", encoding="utf-8")
        scratch.chmod(0o755)
        scratch.rename(place)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _clean(
    trial: Trial, shared: Pictures, device: str, progress: Progress
) -> tuple[dict[str, Any], dict[str, NDArray[Any]], ImageClassifier]:
    """The clean twin: what ``plant`` does without the poison, from the same seeds."""
    trainer = _trainer(trial, device)
    with metered(trainer) as bill:
        model = trainer.fit(
            shared.training,
            rng=child_rng(trial.seed, "train"),
            progress=progress,
            start=trainer.fresh(shared.training, rng=child_rng(trial.seed, "network")),
        )
    return {"cost": cost_record(bill.cost).model_dump(), "exhibits": []}, {}, model


def _planted(
    trial: Trial, shared: Pictures, device: str, progress: Progress
) -> tuple[dict[str, Any], dict[str, NDArray[Any]], ImageClassifier]:
    assert trial.attack is not None  # noqa: S101 - the caller asked
    attack = build("attacks", Spec(trial.attack.name, trial.attack.params))
    planted = plant(
        attack,
        shared.training,
        shared.measured,
        trainer=_trainer(trial, device),
        seed=trial.seed,
        progress=progress,
    )
    truth = planted.specimen.truth
    assert truth is not None  # noqa: S101 - what was planted has a truth
    wanted, true = planted.strike.triggered(shared.measured, rng=child_rng(trial.seed, "triggered"))
    arrays = {
        **_changes(shared.training, to_arrays(planted.training_data)),
        "poisoned": truth.poisoned,
        "covered": truth.covered,
        "triggered": to_arrays(wanted).pixels,
        "wanted": wanted.labels,
        "true": true.labels,
    }
    facts = {
        "attack": truth.attack,
        "mode": truth.mode,
        "target": truth.target,
        "source": truth.source,
        "exhibits": [e.model_dump(mode="json") for e in planted.record.exhibits],
        "cost": planted.record.cost.model_dump(),
    }
    return facts, arrays, planted.classifier


def _trainer(trial: Trial, device: str) -> SmallTrainer:
    return SmallTrainer(
        plan=TrainingPlan(**trial.training),  # type: ignore[arg-type]
        width=trial.model.width,
        architecture=trial.model.architecture,
        device=device,
    )


def _specification(trial: Trial) -> dict[str, Any]:
    kept = trial.model_dump(mode="json", exclude={"role", "defence", "on", "evidence", "sources"})
    source = None if trial.attack is None else trial.sources.get("attack")
    return kept | ({} if source is None else {"sources": {"attack": source}})


def _changes(clean: ArrayImages, poisoned: ArrayImages) -> dict[str, NDArray[Any]]:
    """The samples that differ from the clean data set; all of them if their number does."""
    if len(clean) != len(poisoned):
        rows = np.arange(len(poisoned), dtype=np.int64)
    else:
        other = (clean.pixels != poisoned.pixels).reshape(len(clean), -1).any(axis=1)
        rows = np.flatnonzero(other | (clean.labels != poisoned.labels))
    return {
        "rows": rows,
        "pixels": poisoned.pixels[rows],
        "labels": poisoned.labels[rows],
        "count": np.array([len(poisoned)], dtype=np.int64),
    }


def _with_changes(clean: ArrayImages, arrays: dict[str, NDArray[Any]]) -> ArrayImages:
    count, rows = int(arrays["count"][0]), arrays["rows"]
    if count == len(clean):
        pixels, labels = clean.pixels.copy(), clean.labels.copy()
        pixels[rows], labels[rows] = arrays["pixels"], arrays["labels"]
    else:
        pixels, labels = arrays["pixels"], arrays["labels"]
    return ArrayImages(
        name=f"{clean.name}, poisoned", pixels=pixels, labels=labels, class_names=clean.class_names
    )


def _save_arrays(arrays: dict[str, NDArray[Any]], path: Path) -> None:
    from safetensors.numpy import save

    path.write_bytes(save({name: np.ascontiguousarray(a) for name, a in arrays.items()}))


def _read(place: Path, shared: Pictures, device: str) -> Made:
    from safetensors import SafetensorError
    from safetensors.numpy import load as load_arrays

    try:
        facts = json.loads((place / "made.json").read_text(encoding="utf-8"))
        arrays = dict(load_arrays((place / "arrays.safetensors").read_bytes()))
        classifier = load_classifier(
            place / "model", device=device, image_size=shared.training.image_shape[1:]
        )
        if classifier.digest() != facts["digest"]:
            raise LedgerError(f"{place}: the model is not the one that was put there; delete it")
        exhibits = tuple(PicturesExhibit.model_validate(e) for e in facts["exhibits"])
        cost = CostRecord.model_validate(facts["cost"])
    except (FileNotFoundError, ValueError, KeyError, SafetensorError, ModelError) as error:
        raise LedgerError(
            f"{place} is broken ({error}); delete that directory, and it is made again"
        ) from error
    if "attack" not in facts:
        return Made(
            classifier=classifier,
            truth=None,
            training=shared.training,
            wanted=None,
            true=None,
            exhibits=exhibits,
            cost=cost,
        )
    names = shared.training.class_names

    def stamped(labels: IntArray) -> ArrayImages:
        return ArrayImages(
            name="with trigger", pixels=arrays["triggered"], labels=labels, class_names=names
        )

    return Made(
        classifier=classifier,
        truth=GroundTruth(
            attack=facts["attack"],
            mode=facts["mode"],
            target=facts["target"],
            source=facts["source"],
            poisoned=arrays["poisoned"],
            covered=arrays["covered"],
        ),
        training=_with_changes(shared.training, arrays),
        wanted=stamped(arrays["wanted"]),
        true=stamped(arrays["true"]),
        exhibits=exhibits,
        cost=cost,
    )


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One maker at a time, over all processes that share the ledger."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
