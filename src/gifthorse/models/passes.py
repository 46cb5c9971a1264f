"""Whole-data-set passes through a model: predictions, accuracy, features; streamed in batches."""

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from gifthorse.core.deadline import Deadline
from gifthorse.core.errors import ModelError
from gifthorse.core.types import (
    Cost,
    Features,
    FloatArray,
    ImageData,
    IntArray,
    Progress,
    silent,
)
from gifthorse.models.classifier import ImageClassifier, PassMeter


def to_tensor(classifier: ImageClassifier, pixels: FloatArray) -> torch.Tensor:
    """Pictures (n, c, h, w) in [0, 1] as a tensor on the model's device."""
    return torch.from_numpy(pixels).to(classifier.device)


def predict_logits(
    classifier: ImageClassifier,
    data: ImageData,
    *,
    batch_size: int = 256,
    progress: Progress = silent,
) -> FloatArray:
    """Logits of every picture, shape (n, classes).

    Raises:
        ModelError: The model gives NaN or infinite logits.
    """
    parts = []
    for _, x in _batches(classifier, data, batch_size, progress):
        parts.append(classifier.logits(x).float().cpu().numpy())
    return _finite(np.concatenate(parts), classifier)


def predict(
    classifier: ImageClassifier, data: ImageData, *, progress: Progress = silent
) -> IntArray:
    """The most likely class of every picture, shape (n,)."""
    logits = predict_logits(classifier, data, progress=progress)
    return np.asarray(logits.argmax(axis=1), dtype=np.int64)


def extract_features(
    classifier: ImageClassifier,
    data: ImageData,
    *,
    batch_size: int = 256,
    progress: Progress = silent,
) -> Features:
    """Penultimate activations and predictions in one forward pass over the data."""
    values: FloatArray | None = None
    predictions = np.empty(len(data), dtype=np.int64)
    for indices, x in _batches(classifier, data, batch_size, progress):
        logits, features = classifier.logits_and_features(x)
        if values is None:
            values = np.empty((len(data), features.shape[1]), dtype=np.float32)
        values[indices] = features.float().cpu().numpy()
        predictions[indices] = _finite(logits.float().cpu().numpy(), classifier).argmax(axis=1)
    assert values is not None  # noqa: S101 - data sets are never empty
    return Features(values=values, predictions=predictions, layer=classifier.feature_layer)


def _batches(
    classifier: ImageClassifier, data: ImageData, batch_size: int, progress: Progress
) -> Iterator[tuple[IntArray, torch.Tensor]]:
    order = np.arange(len(data), dtype=np.int64)
    with torch.inference_mode():
        for start in range(0, len(data), batch_size):
            indices = order[start : start + batch_size]
            yield indices, to_tensor(classifier, data.batch(indices))
            progress(min(start + batch_size, len(data)), len(data), "forward pass")


def _finite(logits: FloatArray, classifier: ImageClassifier) -> FloatArray:
    if not np.isfinite(logits).all():
        raise ModelError(f"{classifier.name} gives NaN or infinite logits; the model is broken")
    return logits


@dataclass(slots=True)
class Bill:
    """Filled in when the metered block ends."""

    cost: Cost


@runtime_checkable
class Metered(Protocol):
    """A model that counts its passes."""

    @property
    def meter(self) -> PassMeter:
        """The count."""


@contextmanager
def metered(*classifiers: Metered, deadline: Deadline | None = None) -> Iterator[Bill]:
    """Measure what a block of work costs on these models, which stop at the deadline."""
    bill = Bill(Cost())
    former = [c.meter.deadline for c in classifiers]
    for classifier in classifiers:
        classifier.meter.deadline = deadline or classifier.meter.deadline
    before = [(c.meter.forward, c.meter.backward) for c in classifiers]
    start, busy = time.perf_counter(), time.process_time()
    try:
        yield bill
    finally:
        for classifier, earlier in zip(classifiers, former, strict=True):
            classifier.meter.deadline = earlier
        bill.cost = Cost(
            seconds=time.perf_counter() - start,
            forward_passes=sum(
                c.meter.forward - f for c, (f, _) in zip(classifiers, before, strict=True)
            ),
            backward_passes=sum(
                c.meter.backward - b for c, (_, b) in zip(classifiers, before, strict=True)
            ),
            peak_memory_mib=_peak_memory_mib(),
            processor_seconds=time.process_time() - busy,
        )


def passes_of(*classifiers: Metered) -> Cost:
    """All passes of networks since they were made: what a method trained for itself has cost."""
    return Cost(
        forward_passes=sum(c.meter.forward for c in classifiers),
        backward_passes=sum(c.meter.backward for c in classifiers),
    )


def _peak_memory_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)
