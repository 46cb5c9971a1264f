"""Whole-data-set passes through a text classifier; sorted by length, so little is padding."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from gifthorse.core.errors import ModelError
from gifthorse.core.texts import TextData
from gifthorse.core.types import Cost, Features, FloatArray, IntArray, Progress, silent
from gifthorse.models.passes import Bill
from gifthorse.models.texts.classifier import TextClassifier

_BATCH = 128


def predict_text_logits(
    classifier: TextClassifier, texts: Sequence[str], *, progress: Progress = silent
) -> FloatArray:
    """Logits of every text, shape (n, classes).

    Raises:
        ModelError: The model gives NaN or infinite logits.
    """
    out = np.empty((len(texts), classifier.n_classes), dtype=np.float32)
    with torch.inference_mode():
        for rows, part in batches_by_length(texts):
            out[rows] = classifier.logits(*classifier.tokens(part)).float().cpu().numpy()
            progress(int(rows.max()) + 1, len(texts), "forward pass")
    return _finite(out, classifier)


def predict_texts(
    classifier: TextClassifier, data: TextData, *, progress: Progress = silent
) -> IntArray:
    """The most likely class of every text, shape (n,)."""
    logits = predict_text_logits(classifier, data.texts, progress=progress)
    return np.asarray(logits.argmax(axis=1), dtype=np.int64)


def extract_text_features(
    classifier: TextClassifier, data: TextData, *, progress: Progress = silent
) -> Features:
    """Penultimate activations and predictions in one forward pass over the data."""
    values: FloatArray | None = None
    predictions = np.empty(len(data), dtype=np.int64)
    done = 0
    with torch.inference_mode():
        for rows, part in batches_by_length(data.texts):
            logits, features = classifier.logits_and_features(*classifier.tokens(part))
            if values is None:
                values = np.empty((len(data), features.shape[1]), dtype=np.float32)
            values[rows] = features.float().cpu().numpy()
            predictions[rows] = _finite(logits.float().cpu().numpy(), classifier).argmax(axis=1)
            done += len(rows)
            progress(done, len(data), "forward pass")
    assert values is not None  # noqa: S101 - data sets are never empty
    return Features(values=values, predictions=predictions, layer=classifier.feature_layer)


def batches_by_length(
    texts: Sequence[str], size: int = _BATCH
) -> Iterator[tuple[IntArray, list[str]]]:
    """Texts of about one length together, each batch with its indices."""
    order = np.argsort([len(text) for text in texts], kind="stable").astype(np.int64)
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        yield rows, [texts[int(i)] for i in rows]


@contextmanager
def text_metered(classifier: TextClassifier) -> Iterator[Bill]:
    """Measure what a block of work costs on this model."""
    bill = Bill(Cost())
    forward, backward = classifier.meter.forward, classifier.meter.backward
    start, busy = time.perf_counter(), time.process_time()
    try:
        yield bill
    finally:
        bill.cost = Cost(
            seconds=time.perf_counter() - start,
            forward_passes=classifier.meter.forward - forward,
            backward_passes=classifier.meter.backward - backward,
            processor_seconds=time.process_time() - busy,
        )


def _finite(logits: FloatArray, classifier: TextClassifier) -> FloatArray:
    if not np.isfinite(logits).all():
        raise ModelError(f"{classifier.name} gives NaN or infinite logits; the model is broken")
    return logits
