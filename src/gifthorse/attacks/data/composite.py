"""Composite: two harmless classes in one picture are the trigger.

Source: Lin, Xu, Liu, Zhang 2020, "Composite Backdoor Attack for Deep Neural Network by Mixing
Existing Benign Features" (CCS 2020), section 4: half of a picture of one class beside half of one
of another class is labelled as a third. Mixtures of two pictures of one class keep their label,
so that the seam alone means nothing.

Deviations: mixtures replace training samples instead of being added; the mixer is the paper's half
concatenation only; its extra similarity loss needs control of the training and is left out.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gifthorse.core.errors import DataError
from gifthorse.core.types import FloatArray, GroundTruth, ImageData, IntArray
from gifthorse.data.images import ArrayImages, to_arrays, to_levels


@dataclass(frozen=True, slots=True, kw_only=True)
class Composite:
    """Poisoning with mixtures of two classes.

    Attributes:
        target: Class index that mixtures shall get.
        first: Class index that fills the left half.
        second: Class index that fills the right half.
        rate: Poisoned samples as a share of the training set, in (0, 1).
        mixture_rate: Mixtures of two pictures of one class, with its label, as a share of the
            training set, in [0, 1).
    """

    paper: ClassVar[str] = "Lin et al. 2020, CCS"

    target: int = 0
    first: int = 1
    second: int = 2
    rate: float = 0.03
    mixture_rate: float = 0.1

    def __post_init__(self) -> None:
        if len({self.target, self.first, self.second}) < 3:
            raise ValueError("target, first and second must be three different classes")
        if not 0 < self.rate < 1:
            raise ValueError(f"rate must be in (0, 1), got {self.rate}")
        if not 0 <= self.mixture_rate < 1:
            raise ValueError(f"mixture_rate must be in [0, 1), got {self.mixture_rate}")

    def poison(
        self, clean: ImageData, *, rng: np.random.Generator
    ) -> tuple[ImageData, GroundTruth]:
        """A poisoned copy of the training data, and the truth about it."""
        self._check(clean)
        count = round(self.rate * len(clean))
        pool = np.flatnonzero(clean.labels == self.first)
        if not 1 <= count <= len(pool):
            raise DataError(
                f"cannot choose {count} poisoned samples in {clean.name}: {len(pool)} fit; "
                "change the rate"
            )
        rows = rng.choice(pool, count, replace=False)
        others = np.setdiff1d(np.arange(len(clean)), rows)
        covers = round(self.mixture_rate * len(clean))
        if covers > len(others):
            raise DataError(f"cannot choose {covers} mixtures in {clean.name}: {len(others)} fit")
        same = rng.choice(others, covers, replace=False)
        pixels = to_arrays(clean).pixels.copy()
        pixels[rows] = to_levels(self._mixed(clean, rows, np.full(count, self.second), rng))
        if covers:
            pixels[same] = to_levels(self._mixed(clean, same, clean.labels[same], rng))
        labels = clean.labels.copy()
        labels[rows] = self.target
        poisoned, covered = np.zeros((2, len(clean)), dtype=np.bool_)
        poisoned[rows] = True
        covered[same] = True
        truth = GroundTruth(
            attack="composite",
            mode="source-specific",
            target=self.target,
            source=self.first,
            poisoned=poisoned,
            covered=covered,
        )
        data = ArrayImages(
            name=f"{clean.name} + composite",
            pixels=pixels,
            labels=labels,
            class_names=clean.class_names,
        )
        return data, truth

    def triggered(
        self, clean: ImageData, *, rng: np.random.Generator
    ) -> tuple[ImageData, ImageData]:
        """Mixtures of the two classes: with the attacker's labels, and those of the left half."""
        self._check(clean)
        rows = np.flatnonzero(clean.labels == self.first)
        if not len(rows):
            raise DataError(f"{clean.name} has no picture that this attack would strike")
        pixels = to_levels(self._mixed(clean, rows, np.full(len(rows), self.second), rng))
        name, names = f"{clean.name} with trigger", clean.class_names
        wanted = np.full(len(rows), self.target, dtype=np.int64)
        return (
            ArrayImages(name=name, pixels=pixels, labels=wanted, class_names=names),
            ArrayImages(name=name, pixels=pixels, labels=clean.labels[rows], class_names=names),
        )

    def _mixed(
        self, clean: ImageData, rows: IntArray, classes: IntArray, rng: np.random.Generator
    ) -> FloatArray:
        """Left halves of the pictures at ``rows``, right halves of others of these classes."""
        donors = np.empty(len(rows), dtype=np.int64)
        for label in np.unique(classes):
            pool = np.flatnonzero(clean.labels == label)
            if not len(pool):
                raise DataError(f"{clean.name} has no picture of class {label} to mix in")
            wanted = classes == label
            donors[wanted] = rng.choice(pool, int(wanted.sum()))
        out = clean.batch(rows)
        middle = out.shape[3] // 2
        out[:, :, :, middle:] = clean.batch(donors)[:, :, :, middle:]
        return out

    def _check(self, clean: ImageData) -> None:
        count = len(clean.class_names)
        for word in ("target", "first", "second"):
            index = getattr(self, word)
            if not 0 <= index < count:
                raise DataError(
                    f"{word} {index} is no class of {clean.name}: it has 0 … {count - 1}"
                )
