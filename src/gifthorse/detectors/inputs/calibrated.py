"""What detectors of single inputs share: scores of inputs against those of trusted pictures.

A detector gives every input a score, higher is worse. The per-input threshold is the order
statistic of the trusted pictures' own scores at the stated false-rejection rate; it assumes no
shape. All inputs together are judged by how many pass it (see ``metrics.exact``). Both hold if
clean inputs and trusted pictures come from the same source, and the model was trained on neither.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from gifthorse.core.errors import DataError, ModelError, NotApplicableError
from gifthorse.core.exhibits import Exhibit, HistogramExhibit, PicturesExhibit, picture
from gifthorse.core.types import Evidence, ImageData, IntArray, Progress, ScoreArray, Subject, Unit
from gifthorse.metrics.exact import SurpriseNull, exceedance_p_value, surprise
from gifthorse.models.classifier import ImageClassifier, as_classifier

MIN_TRUSTED = 20
_BATCH = 64
_BINS = 40
_PICTURES = 8

Scorer = Callable[[Tensor], ScoreArray]
"""Scores (n,) of pictures (n, c, h, w) in [0, 1] on the model's device; higher is worse."""


class InputDetector(Protocol):
    """A detector that can also score single inputs, so that a guard can use it."""

    @property
    def frr(self) -> float:
        """False-rejection rate of a single input."""

    def forward_passes(self) -> int:
        """Forward passes for one input, its own included."""

    def scorer(
        self,
        classifier: ImageClassifier,
        trusted: ImageData,
        rng: np.random.Generator,
        progress: Progress,
    ) -> tuple[Scorer, ScoreArray]:
        """How inputs are scored, and the scores of the trusted pictures, shape (m,)."""


BASIS = (
    "the number of inputs beyond an order statistic of the trusted ones is beta-binomial; assumes "
    "that clean inputs are distributed like the trusted ones"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """A model, the inputs to judge, and trusted pictures, which fit each other."""

    classifier: ImageClassifier
    suspect: ImageData
    trusted: ImageData


def inputs_of(subject: Subject, method: str) -> Inputs:
    """What a detector of inputs works on.

    Raises:
        NotApplicableError: No classifier, no inputs, too few trusted pictures, or pictures that
            the model does not take.
        DataError: Inputs and trusted pictures differ in shape.
    """
    classifier = as_classifier(subject.model)
    suspect, trusted = subject.suspect, subject.trusted
    if not isinstance(suspect, ImageData) or trusted is None:
        raise NotApplicableError(f"{method} needs the inputs to judge and trusted pictures")
    if suspect.image_shape != trusted.image_shape:
        raise DataError(
            f"{suspect.name} has pictures of shape {suspect.image_shape} and {trusted.name} of "
            f"{trusted.image_shape}; expected the same"
        )
    misfit = classifier.accepts(suspect.image_shape)
    if misfit:
        raise NotApplicableError(misfit)
    check_trusted(trusted, method)
    return Inputs(classifier=classifier, suspect=suspect, trusted=trusted)


def check_trusted(trusted: ImageData, method: str) -> None:
    """Refuse too few trusted pictures.

    Raises:
        NotApplicableError: Fewer than twenty.
    """
    if len(trusted) < MIN_TRUSTED:
        raise NotApplicableError(
            f"{len(trusted)} trusted pictures; {method} needs at least {MIN_TRUSTED} to know what "
            "is normal"
        )


def scores_of(
    classifier: ImageClassifier, data: ImageData, score: Scorer, progress: Progress
) -> ScoreArray:
    """The score of every picture, shape (n,).

    Raises:
        ModelError: A score is not finite.
    """
    found = np.empty(len(data))
    for rows in _chunks(len(data)):
        x = torch.from_numpy(data.batch(rows)).to(classifier.device)
        found[rows] = score(x)
        progress(int(rows[-1]) + 1, len(data), "scoring inputs")
    if not np.isfinite(found).all():
        raise ModelError(f"{classifier.name} gives NaN or infinite logits on changed pictures")
    return found


def _chunks(total: int) -> Iterator[IntArray]:
    order = np.arange(total, dtype=np.int64)
    for start in range(0, total, _BATCH):
        yield order[start : start + _BATCH]


def rank_of(false_alarm_rate: float, calibration: int) -> int:
    """Which of the largest trusted scores is the threshold: 1 is the largest."""
    return max(1, math.floor(false_alarm_rate * (calibration + 1)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Beyond:
    """The inputs beyond the threshold, and how surprising it is that they are so many.

    Attributes:
        cut: The threshold: an order statistic of the trusted scores.
        suspects: Rows of the inputs above it, highest score first.
        p_value: Of at least so many; exact.
        notes: The same in words.
    """

    cut: float
    suspects: IntArray
    p_value: float
    notes: tuple[str, ...]


def beyond_threshold(scores: ScoreArray, normal: ScoreArray, *, frr: float, trusted: str) -> Beyond:
    """Judge the scores (n,) of inputs by those (m,) of trusted samples.

    Args:
        scores: Of the inputs.
        normal: Of trusted samples.
        frr: False-rejection rate of a single input.
        trusted: What trusted samples are called ("trusted pictures").
    """
    rank = rank_of(frr, len(normal))
    cut = float(np.sort(normal)[-rank])
    rows = np.flatnonzero(scores > cut)
    notes = [
        f"{len(rows)} of {len(scores)} inputs score above {cut:.4g}; "
        f"{rank / (len(normal) + 1):.2%} of clean ones would"
    ]
    if frr * (len(normal) + 1) < 1:
        notes.append(
            f"{len(normal)} {trusted} cannot show a rate of {frr:.2%}; the largest of their "
            "scores is the threshold"
        )
    return Beyond(
        cut=cut,
        suspects=rows[np.argsort(-scores[rows], kind="stable")].astype(np.int64),
        p_value=exceedance_p_value(len(rows), len(scores), rank=rank, calibration=len(normal)),
        notes=tuple(notes),
    )


def judged(
    suspect: ImageData,
    scores: ScoreArray,
    normal: ScoreArray,
    *,
    frr: float,
    title: str,
    value_name: str,
    caption: str,
) -> Evidence:
    """The evidence: scores, how surprising the number beyond the threshold is, and pictures.

    Args:
        suspect: What was examined.
        scores: Of the inputs, shape (n,).
        normal: Of trusted pictures, shape (m,).
        frr: False-rejection rate of a single input.
        title: Of the histogram.
        value_name: Of the score.
        caption: Says what a high score means.
    """
    found = beyond_threshold(scores, normal, frr=frr, trusted="trusted pictures")
    return Evidence(
        unit=Unit.SAMPLE,
        scores=scores,
        statistic=surprise(found.p_value),
        suspects=found.suspects,
        exhibits=(
            histogram(scores, normal, found.cut, title, value_name, caption),
            *_pictures(suspect, found.suspects),
        ),
        notes=found.notes,
    )


def exact_null() -> SurpriseNull:
    """The statistic of ``judged`` is −log10 of an exact p-value."""
    return SurpriseNull(BASIS)


def histogram(
    scores: ScoreArray, normal: ScoreArray, cut: float, title: str, value_name: str, caption: str
) -> HistogramExhibit:
    """The scores of inputs and of trusted samples, with the threshold."""
    both = np.concatenate([scores, normal])
    edges = np.linspace(both.min(), max(both.max(), both.min() + 1e-9), _BINS + 1)
    return HistogramExhibit(
        title=title,
        caption=f"{caption} Inputs to the right of the line are pointed to.",
        value_name=value_name,
        edges=tuple(float(e) for e in edges),
        counts={
            "trusted": tuple(int(c) for c in np.histogram(normal, edges)[0]),
            "inputs": tuple(int(c) for c in np.histogram(scores, edges)[0]),
        },
        threshold=cut,
    )


def _pictures(data: ImageData, suspects: IntArray) -> tuple[Exhibit, ...]:
    worst = suspects[:_PICTURES]
    if not len(worst) or data.image_shape[0] not in (1, 3):
        return ()
    shown = zip(worst, data.batch(worst), strict=True)
    return (
        PicturesExhibit(
            title="The most suspect inputs",
            caption="Highest scores first.",
            pictures=tuple(picture(pixels, f"#{i}") for i, pixels in shown),
        ),
    )
