"""Turns what a user names into a subject, and says early what does not fit."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from gifthorse.core.errors import DataError, ModelError
from gifthorse.core.record import SubjectRecord
from gifthorse.core.rng import child_rng
from gifthorse.core.types import FloatArray, ImageData, IntArray
from gifthorse.data.images import ArrayImages, digest
from gifthorse.data.relabelled import Relabelled
from gifthorse.data.sources import Split, load
from gifthorse.data.splits import stratified_sample
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.loading import load_classifier, resize_goal
from gifthorse.models.texts.loading import is_text_classifier

Pictures = ImageData | str | Path | tuple[FloatArray, IntArray]
"""A data set, its name or path, or arrays: pictures (n, c, h, w) in [0, 1] and labels (n,)."""

Classifiers = ImageClassifier | str | Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A model with trusted pictures that fit it (or none), and what a reader should know."""

    classifier: ImageClassifier
    trusted: ImageData | None
    notes: tuple[str, ...]


def open_pictures(
    source: Pictures, *, split: Split = "test", photo_size: tuple[int, int] | None = None
) -> ImageData:
    """The data set that a user named.

    Args:
        source: See ``Pictures``.
        split: Where the source has both.
        photo_size: (height, width) to resize photographs to. Arrays keep their size: there, another
            size than the model's is more likely a mistake than a photograph.
    """
    if isinstance(source, tuple):
        pixels, labels = source
        count = int(np.max(labels)) + 1 if len(labels) else 0
        names = tuple(str(i) for i in range(count))
        return ArrayImages.from_floats(
            name="arrays", pixels=pixels, labels=labels, class_names=names
        )
    if not isinstance(source, str | Path):
        return source
    data = load(str(source), split=split)
    if photo_size is not None and not isinstance(data, ArrayImages):
        return load(str(source), split=split, size=photo_size)
    return data


def hold(
    model: Classifiers,
    trusted: Pictures | None,
    *,
    samples: int | None,
    seed: int,
) -> Held:
    """Open a model and the trusted pictures, and check that they go together.

    Args:
        model: The adapter, a model directory, or ``hub:OWNER/NAME``.
        trusted: Pictures that the user vouches for.
        samples: Use at most so many, drawn evenly over classes; None for all.
        seed: For that draw.

    Raises:
        DataError: Wrong number of channels, wrong size, labels that the model does not have, one
            class only, NaN.
        ModelError: The model cannot be opened.
    """
    if isinstance(model, nn.Module):
        raise ModelError(
            "wrap a torch module first: ImageClassifier(module, class_names=…, preprocessing=…)"
        )
    if isinstance(model, str | Path) and is_text_classifier(model):
        raise ModelError(
            f"{model} is a text classifier, and those cannot be audited or repaired yet: no method "
            "that was tried tells a planted one from a clean one; scan its training data "
            "(gifthorse scan), or look at its files alone (gifthorse audit --files-only)"
        )
    if trusted is None:
        held = model if isinstance(model, ImageClassifier) else load_classifier(model)
        return Held(classifier=held, trusted=None, notes=())
    if isinstance(model, ImageClassifier):
        classifier = model
        goal = classifier.input_shape[1:] if classifier.preprocessing.resize else None
        data = open_pictures(trusted, photo_size=goal)
    else:
        data = open_pictures(trusted, photo_size=resize_goal(model))
        # A directory that states no picture size takes that of the pictures it is judged with.
        classifier = load_classifier(model, image_size=data.image_shape[1:])
    misfit = classifier.accepts(data.image_shape)
    if misfit:
        raise DataError(f"{data.name} does not fit {classifier.name}: {misfit}")
    data, notes = _same_labels(classifier, data)
    if samples is not None and len(data) > samples:
        data = stratified_sample(data, samples, child_rng(seed, "trusted"))
    present = np.unique(data.labels)
    if len(present) < 2:
        raise DataError(
            f"{data.name}: all {len(data)} trusted pictures are of class "
            f"{data.class_names[int(present[0])]!r}; give some of every class"
        )
    if classifier.preprocessing.resize and data.image_shape[1:] != classifier.input_shape[1:]:
        notes.append(
            f"pictures of {data.image_shape[1]}×{data.image_shape[2]} pixels are resized to "
            f"{classifier.input_shape[1]}×{classifier.input_shape[2]} by the model's preprocessor"
        )
    return Held(classifier=classifier, trusted=data, notes=tuple(notes))


def _same_labels(classifier: ImageClassifier, data: ImageData) -> tuple[ImageData, list[str]]:
    """Give the data the model's class order if both use the same names; else check the range."""
    ours, theirs = data.class_names, classifier.class_names
    if ours == theirs:
        return data, []
    if len(set(theirs)) == len(theirs) and set(ours) <= set(theirs):
        order = np.array([theirs.index(name) for name in ours], dtype=np.int64)
        return Relabelled(data=data, labels=order[data.labels], class_names=theirs), []
    highest = int(data.labels.max())
    if highest >= len(theirs):
        raise DataError(
            f"{data.name} has label {highest} ({ours[highest]!r}) and {classifier.name} knows "
            f"only {len(theirs)} classes (0 … {len(theirs) - 1})"
        )
    notes = []
    if len(ours) != len(theirs):
        notes.append(f"{data.name} names {len(ours)} classes and the model {len(theirs)}")
    return Relabelled(data=data, labels=data.labels, class_names=theirs), notes


def model_record(classifier: ImageClassifier) -> SubjectRecord:
    """A model as records name it."""
    weights = sum(p.numel() for p in classifier.module.parameters())
    channels, height, width = classifier.input_shape
    return SubjectRecord(
        kind="image classifier",
        name=classifier.name,
        digest=classifier.digest(),
        class_names=classifier.class_names,
        facts={
            "architecture": type(classifier.module).__name__,
            "parameters": weights,
            "classes": classifier.n_classes,
            "input": f"{channels}×{height}×{width}",
        },
    )


def data_record(data: ImageData) -> SubjectRecord:
    """A data set as records name it."""
    channels, height, width = data.image_shape
    return SubjectRecord(
        kind="image data",
        name=data.name,
        digest=digest(data),
        class_names=data.class_names,
        facts={
            "pictures": len(data),
            "classes": len(data.class_names),
            "shape": f"{channels}×{height}×{width}",
        },
    )


def named_classes(names: Sequence[str], wanted: str | int) -> int:
    """The index of a class given by name or index.

    Raises:
        DataError: There is none.
    """
    text = str(wanted)
    if text in names:
        return list(names).index(text)
    if text.isdigit() and int(text) < len(names):
        return int(text)
    raise DataError(f"no class {text!r}; known: {', '.join(names)}")
