"""A problem that a small network learns in seconds, with a backdoor in it, to try plugins on.

The pictures: which quarter of a noisy 12×12 picture is bright. The backdoor: a white corner sends
a picture to the first class. It is planted by hand, not by an attack (our own; no method).
"""

import dataclasses
from functools import cached_property
from typing import Any

import numpy as np

from gifthorse.core.registry import Spec, build, plugin_class
from gifthorse.core.types import (
    BoolArray,
    Evidence,
    Features,
    FloatArray,
    RecoveredTrigger,
    Subject,
    Unit,
)
from gifthorse.data.images import ArrayImages
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.networks import small_network
from gifthorse.models.passes import extract_features
from gifthorse.models.trainer import SmallTrainer
from gifthorse.models.training import TrainingPlan, train

CLASSES = ("north-west", "north-east", "south-west", "south-east")
SHORT = {
    "steps": 4,
    "passes": 2,
    "epochs": 1,
    "min_steps": 4,
    "teacher_steps": 4,
    "unlearning_steps": 4,
    "recovering_steps": 4,
    "inner_steps": 2,
    "warmup": 1,
    "restarts": 1,
    "mask_steps": 4,
    "confusion_steps": 30,
    "retrainings": 0,
}
"""Options that make a method short: the contract is about form, not about effect."""

_CORNER = 4


class Workbench:
    """Data and models for the battery, made when first asked for and kept.

    Attributes:
        short: Options and the values that make a method quick; added to those of ``SHORT``.
    """

    def __init__(self, short: dict[str, int] | None = None) -> None:
        self.short = {**SHORT, **(short or {})}

    @cached_property
    def clean(self) -> ArrayImages:
        """400 clean pictures."""
        return quarters(400, seed=0)

    @cached_property
    def trusted(self) -> ArrayImages:
        """80 others."""
        return quarters(80, seed=1)

    @cached_property
    def poisoned(self) -> BoolArray:
        """Which pictures of ``suspect`` carry the trigger, shape (400,)."""
        chosen = np.zeros(len(self.clean), dtype=np.bool_)
        others = np.flatnonzero(self.clean.labels != 0)
        chosen[np.random.default_rng(2).choice(others, 30, replace=False)] = True
        return chosen

    @cached_property
    def suspect(self) -> ArrayImages:
        """The clean pictures, thirty of them poisoned."""
        labels = self.clean.labels.copy()
        labels[self.poisoned] = 0
        pixels = self.clean.pixels.copy()
        pixels[self.poisoned, :, -_CORNER:, -_CORNER:] = 255
        return ArrayImages(name="quarters", pixels=pixels, labels=labels, class_names=CLASSES)

    @cached_property
    def model(self) -> ImageClassifier:
        """A small network trained on ``suspect``."""
        untrained = small_network(image_shape=(1, 12, 12), class_names=CLASSES, seed=0, width=4)
        plan = TrainingPlan(epochs=8, batch_size=32, learning_rate=0.1)
        return train(untrained, self.suspect, plan, rng=np.random.default_rng(0))

    @cached_property
    def features(self) -> Features:
        """Activations of ``suspect`` in ``model``."""
        return extract_features(self.model, self.suspect)

    @cached_property
    def evidence(self) -> Evidence:
        """What a detector of models may have said: the trigger, for the first class."""
        mask = np.zeros((12, 12), dtype=np.float32)
        mask[-_CORNER:, -_CORNER:] = 1
        trigger = RecoveredTrigger(target=0, mask=mask, pattern=np.ones((1, 12, 12), np.float32))
        scores = np.array([3.0, 0, 0, 0])
        return Evidence(unit=Unit.CLASS, scores=scores, statistic=3.0, triggers=(trigger,))

    @cached_property
    def trainer(self) -> SmallTrainer:
        """How attackers train here."""
        return SmallTrainer(plan=TrainingPlan(epochs=1, batch_size=32), width=8)

    @cached_property
    def photographs(self) -> ArrayImages:
        """240 smooth pictures of 16×16 pixels in colour, for attacks."""
        rng = np.random.default_rng(5)
        labels = np.arange(240, dtype=np.int64) % len(CLASSES)
        pixels = np.kron(rng.uniform(30, 130, (240, 3, 4, 4)), np.ones((1, 1, 4, 4)))
        pixels += rng.uniform(-15, 15, pixels.shape)
        for i, label in enumerate(labels):
            top, left = 8 * (label // 2), 8 * (label % 2)
            pixels[i, :, top : top + 8, left : left + 8] += 90
        return ArrayImages(
            name="quarters",
            pixels=pixels.clip(1, 254).astype(np.uint8),
            labels=labels,
            class_names=CLASSES,
        )

    @property
    def subject(self) -> Subject:
        """Everything that an auditor can hold."""
        return Subject(
            model=self.model, suspect=self.suspect, trusted=self.trusted, features=self.features
        )

    def plugin(self, kind: str, name: str, **options: Any) -> Any:
        """An instance with its long options made short."""
        known = {field.name for field in dataclasses.fields(plugin_class(kind, name))}
        quick = {key: value for key, value in self.short.items() if key in known}
        return build(kind, Spec(name, {**quick, **options}))

    def snapshot(self) -> tuple[str, bytes, bytes, bytes]:
        """A fingerprint of everything that a method is given and must not change."""
        return (
            self.model.digest(),
            self.suspect.pixels.tobytes() + self.suspect.labels.tobytes(),
            self.trusted.pixels.tobytes() + self.trusted.labels.tobytes(),
            self.features.values.tobytes(),
        )


def quarters(count: int, seed: int) -> ArrayImages:
    """Noisy 12×12 pictures with one bright quarter."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int64) % len(CLASSES)
    pixels = rng.random((count, 1, 12, 12)) * 0.5
    for i, label in enumerate(labels):
        row, column = 6 * (label // 2), 6 * (label % 2)
        pixels[i, 0, row : row + 6, column : column + 6] += 0.3
    return ArrayImages.from_floats(pixels, labels, name="quarters", class_names=CLASSES)


def all_of(data: ArrayImages) -> FloatArray:
    """All pictures of a small data set."""
    return data.batch(np.arange(len(data)))
