"""Frequency detector: triggers leave marks in the spectrum that photographs do not have.

Zeng, Park, Mao & Jia 2021, "Rethinking the Backdoor Attacks' Triggers: A Frequency Perspective",
ICCV, arXiv:2104.03413, section 4: a small network learns to tell discrete cosine transforms of
clean pictures from those of the same pictures with made-up triggers (a white block, a coloured
block, noise, another picture blended in, a shadow), and is then asked about every sample. No model
under suspicion and no labels are needed.

Decisions and deviations:

- Our small residual network instead of the authors' six convolutions; the input is the sign-kept
  logarithm of the transform, scaled by the trusted pictures' own deviations at every frequency.
- Two thirds of the trusted pictures train, the others calibrate the threshold (an order statistic
  at ``frr``), so smooth triggers that look like photographs are simply not found.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.fft import dctn

from gifthorse.core.errors import DataError, NotApplicableError
from gifthorse.core.rng import draw_seed
from gifthorse.core.types import (
    Evidence,
    FloatArray,
    ImageData,
    IntArray,
    Need,
    Null,
    Progress,
    ScoreArray,
    Subject,
    Unit,
)
from gifthorse.data.images import to_arrays
from gifthorse.data.splits import split
from gifthorse.detectors.inputs.calibrated import check_trusted, exact_null, judged
from gifthorse.models.networks import small_network
from gifthorse.models.passes import passes_of, predict_logits
from gifthorse.models.training import TrainingPlan, train

_FEWEST = 60
_MOST = 4000
_KINDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Frequency:
    """A network that knows the spectra of made-up triggers.

    Attributes:
        epochs: Over the trusted pictures, each clean and with a trigger, at least 1.
        width: Channels of the network's first stage, at least 1.
        frr: False-rejection rate: share of clean samples beyond the threshold, in (0, 0.5).

    Raises:
        ValueError: An option out of range.
    """

    epochs: int = 40
    width: int = 16
    frr: float = 0.01

    needs: ClassVar[frozenset[Need]] = frozenset({Need.TRUSTED, Need.SUSPECT_DATA})
    unit: ClassVar[Unit] = Unit.SAMPLE
    paper: ClassVar[str] = "Zeng et al. 2021, Frequency Perspective, arXiv:2104.03413"

    def __post_init__(self) -> None:
        if not (1 <= self.epochs < 2**31 and 1 <= self.width <= 1024):
            raise ValueError("epochs must be at least 1 and width in 1 … 1024")
        if not (math.isfinite(self.frr) and 0 < self.frr < 0.5):
            raise ValueError(f"frr must be in (0, 0.5), got {self.frr}")

    def inspect(
        self, subject: Subject, *, rng: np.random.Generator, progress: Progress
    ) -> Evidence:
        """Log odds that a sample carries a trigger, for every sample.

        Raises:
            NotApplicableError: No suspect data, or fewer than 60 trusted pictures.
            DataError: Suspect and trusted pictures differ in shape.
        """
        suspect, trusted = subject.suspect, subject.trusted
        if not isinstance(suspect, ImageData) or trusted is None:
            raise NotApplicableError("needs the inputs to judge and trusted pictures")
        if suspect.image_shape != trusted.image_shape:
            raise DataError(
                f"{suspect.name} has pictures of shape {suspect.image_shape} and {trusted.name} "
                f"of {trusted.image_shape}; expected the same"
            )
        check_trusted(trusted, "the frequency detector")
        if len(trusted) < _FEWEST:
            raise NotApplicableError(
                f"{len(trusted)} trusted pictures; the frequency detector needs at least {_FEWEST}"
            )
        lessons, held = split(trusted, 2 / 3, rng)
        known = to_arrays(lessons).batch(np.arange(min(len(lessons), _MOST), dtype=np.int64))
        scale = _scale(known)
        network = small_network(
            image_shape=suspect.image_shape,
            class_names=("clean", "triggered"),
            seed=draw_seed(rng),
            width=self.width,
            name="the frequency network",
        )
        plan = TrainingPlan(epochs=self.epochs, batch_size=64, learning_rate=0.05)
        data = Spectra.lessons(known, scale, rng)
        judge = train(network, data, plan, rng=rng, progress=progress)

        def log_odds(pictures: ImageData) -> ScoreArray:
            logits = predict_logits(judge, Spectra.of(pictures, scale), progress=progress)
            return np.asarray(logits[:, 1].astype(np.float64) - logits[:, 0])

        found = judged(
            suspect,
            log_odds(suspect),
            log_odds(held),
            frr=self.frr,
            title="Marks in the spectrum",
            value_name="log odds of a trigger",
            caption="What a network that knows made-up triggers says of the spectrum.",
        )
        return dataclasses.replace(found, own=passes_of(judge))

    def null(self, evidence: Evidence) -> Null:  # noqa: ARG002 - the statistic is standardised
        """The statistic is −log10 of an exact p-value."""
        return exact_null()


def spectrum(pixels: FloatArray) -> FloatArray:
    """Sign-kept log(1 + 255·|DCT|) of pictures (n, c, h, w), orthonormal, the same shape."""
    found = dctn(pixels, axes=(2, 3), norm="ortho")
    return np.asarray(np.sign(found) * np.log1p(255 * np.abs(found)), dtype=np.float32)


def _scale(pixels: FloatArray) -> FloatArray:
    """Root mean square of the spectrum at every frequency, shape (1, c, h, w), > 0."""
    return np.asarray(np.sqrt((spectrum(pixels) ** 2).mean(axis=0, keepdims=True)) + 0.05)


def made_up_trigger(x: FloatArray, other: FloatArray, kind: int, rng: np.random.Generator) -> None:
    """Put one of five kinds of trigger on a picture (c, h, w), in place; ``other`` is blended."""
    channels, height, width = x.shape
    side = int(rng.integers(2, max(3, min(height, width) // 4) + 1))
    top, left = rng.integers(0, height - side + 1), rng.integers(0, width - side + 1)
    block = (slice(None), slice(top, top + side), slice(left, left + side))
    if kind == 0:
        x[block] = 1.0
    elif kind == 1:
        x[block] = rng.random((channels, side, side))
    elif kind == 2:
        x += rng.normal(0, rng.uniform(0.02, 0.15), x.shape).astype(np.float32)
    elif kind == 3:
        share = rng.uniform(0.1, 0.3)
        x[:] = (1 - share) * x + share * other
    else:
        x[block] *= rng.uniform(0.2, 0.6)
    np.clip(x, 0, 1, out=x)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spectra:
    """Spectra of pictures, as a data set to train on or to ask about.

    Attributes:
        base: Pictures to ask about, or None for lessons.
        made: Pictures of the lessons (n, c, h, w), or None.
        labels: 0 clean, 1 triggered, shape (n,).
        scale: What every frequency is divided by.
    """

    base: ImageData | None
    made: FloatArray | None
    labels: IntArray
    scale: FloatArray

    @classmethod
    def of(cls, data: ImageData, scale: FloatArray) -> "Spectra":
        """Spectra of a data set, made as they are read."""
        return cls(base=data, made=None, labels=np.zeros(len(data), np.int64), scale=scale)

    @classmethod
    def lessons(cls, clean: FloatArray, scale: FloatArray, rng: np.random.Generator) -> "Spectra":
        """Every picture clean and with a made-up trigger, all kinds equally often."""
        stamped = clean.copy()
        others = rng.permutation(len(clean))
        kinds = rng.permutation(np.arange(len(clean)) % _KINDS)
        for x, other, kind in zip(stamped, clean[others], kinds, strict=True):
            made_up_trigger(x, other, int(kind), rng)
        labels = np.repeat(np.arange(2, dtype=np.int64), len(clean))
        return cls(base=None, made=np.concatenate([clean, stamped]), labels=labels, scale=scale)

    @property
    def name(self) -> str:
        """The name of the pictures."""
        return "spectra" if self.base is None else f"spectra of {self.base.name}"

    @property
    def class_names(self) -> tuple[str, ...]:
        """Clean and triggered."""
        return ("clean", "triggered")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width), as of the pictures."""
        _, channels, height, width = self.scale.shape
        return channels, height, width

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: IntArray) -> FloatArray:
        """Scaled spectra, (len(indices), c, h, w); not in [0, 1]."""
        if self.made is not None:
            pixels = self.made[indices]
        else:
            assert self.base is not None  # noqa: S101 - held by the constructors
            pixels = self.base.batch(indices)
        return np.asarray(spectrum(pixels) / self.scale, dtype=np.float32)
