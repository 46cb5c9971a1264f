"""What a detector is shown in a trial, and how what it says compares with the truth."""

from typing import Any

import numpy as np

from gifthorse.bench.study import Trial
from gifthorse.bench.trial_record import Interval
from gifthorse.bench.workshop import Made, Pictures
from gifthorse.core.rng import child_rng
from gifthorse.core.types import BoolArray, Evidence, ImageData, Progress, Subject, Unit
from gifthorse.data.images import ArrayImages, subset, to_arrays
from gifthorse.metrics.rates import roc_auc, roc_auc_interval, true_and_false_positive_rates
from gifthorse.models.passes import extract_features

_RESAMPLES = 500


def subject_of(
    trial: Trial, shared: Pictures, held: Made, progress: Progress
) -> tuple[Subject, BoolArray]:
    """What the detector is shown, and which of its samples carry the attack, (n,) or (0,)."""
    none: BoolArray = np.zeros(0, dtype=np.bool_)
    if trial.on == "model":
        return Subject(model=held.classifier, trusted=shared.probe), none
    if trial.on == "data":
        suspect: ImageData = held.training
        positive = held.truth.poisoned if held.truth is not None else none
    else:
        suspect, positive = _inputs(trial, shared, held)
    features = extract_features(held.classifier, suspect, progress=progress)
    subject = Subject(
        model=held.classifier, suspect=suspect, trusted=shared.probe, features=features
    )
    return subject, positive


def _inputs(trial: Trial, shared: Pictures, held: Made) -> tuple[ImageData, BoolArray]:
    """Pictures as they come in: a tenth with the trigger, if there is one. Labels are answers."""
    rng = child_rng(trial.seed, "bench", "inputs")
    stamped = 0 if held.wanted is None else min(trial.data.inputs // 10, len(held.wanted))
    clean = min(trial.data.inputs - stamped, len(shared.measured))
    rows = np.sort(rng.choice(len(shared.measured), clean, replace=False))
    part = to_arrays(subset(shared.measured, rows))
    pixels, labels = part.pixels, part.labels
    if held.wanted is not None:
        struck = np.sort(rng.choice(len(held.wanted), stamped, replace=False))
        more = to_arrays(subset(held.wanted, struck))
        pixels = np.concatenate([pixels, more.pixels])
        labels = np.concatenate([labels, more.labels])
    order = rng.permutation(len(pixels))
    positive: BoolArray = order >= clean
    inputs = ArrayImages(
        name="inputs", pixels=pixels[order], labels=labels[order], class_names=part.class_names
    )
    return inputs, positive


def target_rank(seen: Evidence, held: Made) -> int | None:
    """Place of the planted class among the scores, 1 for the highest; None if there is none."""
    if seen.unit is not Unit.CLASS or held.truth is None or held.truth.target is None:
        return None
    if held.truth.target >= len(seen.scores):
        return None
    return int((seen.scores > seen.scores[held.truth.target]).sum()) + 1


def sample_figures(seen: Evidence, positive: BoolArray, seed: int) -> dict[str, Any]:
    """Fields of a ``Detection`` that compare scores of samples with the truth, shape (n,)."""
    if seen.unit is not Unit.SAMPLE or len(positive) != len(seen.scores):
        return {}
    if not positive.any() or positive.all():
        return {}
    rng = child_rng(seed, "bench", "auc")
    low, high = roc_auc_interval(seen.scores, positive, rng=rng, resamples=_RESAMPLES)
    flagged: BoolArray = np.zeros(len(positive), dtype=np.bool_)
    flagged[seen.suspects] = True
    right, wrong = true_and_false_positive_rates(flagged, positive)
    return {
        "sample_auc": Interval(value=roc_auc(seen.scores, positive), low=low, high=high),
        "true_positive_rate": right,
        "false_positive_rate": wrong,
    }
