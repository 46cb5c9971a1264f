"""Scans training data for poisoned samples: `gifthorse scan`."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gifthorse.auditing.examine import Plan, cost_record, examine, plugins
from gifthorse.auditing.subjects import Classifiers, Pictures, data_record, hold, open_pictures
from gifthorse.core.errors import DataError
from gifthorse.core.record import AuditRecord
from gifthorse.core.rng import child_rng, draw_seed
from gifthorse.core.types import Features, ImageData, IntArray, Progress, Subject, Verdict, silent
from gifthorse.data.sources import Split
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.networks import small_network
from gifthorse.models.passes import extract_features, metered
from gifthorse.models.training import TrainingPlan, train

DEFAULT_DETECTORS = ("activation_clustering", "spectral_signatures")
DEFAULT_FALSE_ALARM_RATE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Activations:
    """The features of a data set and the model they came from."""

    classifier: ImageClassifier
    features: Features


def scan(
    data: Pictures,
    *,
    model: Classifiers | None = None,
    trusted: Pictures | None = None,
    detectors: Sequence[str] = DEFAULT_DETECTORS,
    false_alarm_rate: float = DEFAULT_FALSE_ALARM_RATE,
    training: TrainingPlan | None = None,
    split: Split = "train",
    seed: int = 0,
    progress: Progress = silent,
) -> AuditRecord:
    """Ask whether training data is poisoned, and which samples.

    Args:
        data: The suspect data set: name, path, ``ImageData`` or arrays.
        model: A classifier that was trained *on this data*; without one, a small network is
            trained first, which takes most of the time.
        trusted: Pictures that the user vouches for, for detectors that compare with them (STRIP).
        detectors: Plugin names, with options as ``name:option=value,…``.
        false_alarm_rate: How often a clean data set may be flagged, in (0, 1).
        training: How to train that network.
        split: Which part of the source to scan, ``train`` or ``test``.
        seed: Of all randomness.
        progress: Called during long work.

    Returns:
        The record; each finding's ``suspects`` are indices into the data set.

    Raises:
        ModelError, DataError, SpecError: The input does not fit; nothing was examined.
    """
    plan = Plan(
        detectors=plugins("detectors", detectors), false_alarm_rate=false_alarm_rate, seed=seed
    )
    suspect = open_pictures(data, split=split)
    if len(np.unique(suspect.labels)) < 2:
        raise DataError(f"{suspect.name}: all {len(suspect)} pictures have the same label")
    notes = []
    if model is None:
        classifier = _train_own(suspect, training or TrainingPlan(), seed, progress)
        notes.append("no model was given: a small network was trained on the suspect data")
    else:
        held = hold(model, suspect, samples=None, seed=seed)
        classifier = held.classifier
        suspect = held.trusted if held.trusted is not None else suspect
        notes += held.notes
    compared = None
    if trusted is not None:
        compared = hold(classifier, trusted, samples=None, seed=seed).trusted
    return scan_with(classifier, suspect, plan, trusted=compared, notes=notes, progress=progress)


def scan_with(
    classifier: ImageClassifier,
    suspect: ImageData,
    plan: Plan,
    *,
    trusted: ImageData | None = None,
    notes: Sequence[str] = (),
    progress: Progress = silent,
) -> AuditRecord:
    """The scan with a model that is already open: one forward pass, shared by all detectors."""
    with metered(classifier) as bill:
        features = extract_features(classifier, suspect, progress=progress)
    subject = Subject(model=classifier, suspect=suspect, trusted=trusted, features=features)
    result = examine(subject, plan, progress=progress)
    return AuditRecord(
        kind="scan",
        verdict=result.verdict,
        score=result.score,
        reason=result.reason,
        subject=data_record(suspect),
        trusted=data_record(trusted) if trusted is not None else None,
        plan=plan.record(),
        findings=result.findings,
        notes=(*notes, f"activations: {features.layer}, one forward pass shared by all"),
        cost=cost_record(bill.cost + result.cost),
    )


def suspects_of(record: AuditRecord) -> IntArray:
    """Indices of all samples that a flagged finding of a scan points to, sorted, shape (k,)."""
    chosen: set[int] = set()
    for finding in record.findings:
        if finding.verdict is Verdict.FLAGGED and finding.evidence is not None:
            chosen.update(finding.evidence.suspects)
    return np.array(sorted(chosen), dtype=np.int64)


def _train_own(
    suspect: ImageData, plan: TrainingPlan, seed: int, progress: Progress
) -> ImageClassifier:
    rng = child_rng(seed, "scan", "training")
    network = small_network(
        image_shape=suspect.image_shape,
        class_names=suspect.class_names,
        seed=draw_seed(rng),
        name="a small network of our own",
    )
    return train(network, suspect, plan, rng=rng, progress=progress)
