"""Synthetic features with and without a planted cluster, by hand: no attack is imported."""

from dataclasses import dataclass

import numpy as np

from gifthorse.core.types import BoolArray, Features, FloatArray, IntArray, Subject
from gifthorse.data.images import ArrayImages

CLASSES = tuple("abcdefgh")


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    subject: Subject
    poisoned: BoolArray
    target: int


def subject_of(values: FloatArray, labels: IntArray, names: tuple[str, ...] = CLASSES) -> Subject:
    pixels = np.random.default_rng(1).integers(0, 256, (len(labels), 1, 4, 4), dtype=np.uint8)
    return Subject(
        suspect=ArrayImages(name="synthetic", pixels=pixels, labels=labels, class_names=names),
        features=Features(values=values, predictions=labels, layer="made up"),
    )


def planted(seed: int, *, per_class: int = 400, poison: int = 30, d: int = 24) -> Planted:
    """Eight classes with a common spread, one of them with two natural modes, and maybe poison.

    The trigger adds fifteen typical standard deviations along a random direction; what the poisoned
    samples were before it shows faintly.
    """
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(d, d)) * np.geomspace(2, 0.2, d)[:, None]
    means = rng.normal(size=(len(CLASSES), d)) * 6
    labels = np.repeat(np.arange(len(CLASSES)), per_class).astype(np.int64)
    values = means[labels] + rng.normal(size=(len(labels), d)) @ mix
    modes = rng.random(len(labels)) < 0.4
    values[(labels == 5) & modes] += 3 * rng.normal(size=d) @ mix / np.sqrt(d)
    poisoned = np.zeros(len(labels), dtype=np.bool_)
    target = 2
    if poison:
        others = np.flatnonzero(labels != target)
        victims = rng.choice(others, poison, replace=False)
        trigger = rng.normal(size=d)
        trigger *= 15 * np.sqrt((mix**2).sum() / d) / np.linalg.norm(trigger)
        was = means[labels[victims]] - means[labels[victims]].mean(axis=0)
        values[victims] += means[target] - means[labels[victims]] + 0.1 * was + trigger
        labels[victims] = target
        poisoned[victims] = True
    shuffled = rng.permutation(len(labels))
    return Planted(
        subject=subject_of(values[shuffled].astype(np.float32), labels[shuffled]),
        poisoned=poisoned[shuffled],
        target=target,
    )
