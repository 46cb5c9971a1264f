"""SCALE-UP: an input with a trigger keeps its class when its pixels are multiplied.

Guo, Li, Chen, Guo, Sun & Liu 2023, "SCALE-UP: An Efficient Black-box Input-level Backdoor Detection
via Analyzing Scaled Prediction Consistency", ICLR, arXiv:2302.03251, section 4: the scaled
prediction consistency (SPC) of an input is the share of its copies, multiplied by 2 … n and cut at
white, that get the class of the input itself. Labels and probabilities are not needed.

Decisions and deviations:

- ``data_limited=True`` (the paper's second setting): SPC is standardised by mean and deviation of
  the trusted pictures that the model puts in the same class; classes with fewer than five take
  those of all.
- The threshold is an order statistic of the trusted scores at ``frr``; the paper sets one by hand.
- Ties are frequent (SPC takes few values); only scores *above* the threshold are pointed to, so a
  threshold at the highest possible score points to nothing.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from gifthorse.core.types import (
    Evidence,
    ImageData,
    IntArray,
    Need,
    Null,
    Progress,
    ScoreArray,
    Subject,
    Unit,
)
from gifthorse.detectors.inputs.calibrated import Scorer, exact_null, inputs_of, judged, scores_of
from gifthorse.models.classifier import ImageClassifier

_FEWEST = 5
_LEAST_SPREAD = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleUp:
    """Scaled prediction consistency.

    Attributes:
        scales: n, the largest factor; factors are 2 … n. Costs n forward passes an input.
        data_limited: Standardise by the trusted pictures of the same class.
        frr: False-rejection rate: share of clean inputs beyond the threshold, in (0, 0.5).

    Raises:
        ValueError: An option out of range.
    """

    scales: int = 11
    data_limited: bool = True
    frr: float = 0.01

    needs: ClassVar[frozenset[Need]] = frozenset({Need.LOGITS, Need.TRUSTED, Need.SUSPECT_DATA})
    unit: ClassVar[Unit] = Unit.SAMPLE
    paper: ClassVar[str] = "Guo et al. 2023, SCALE-UP, arXiv:2302.03251"

    def __post_init__(self) -> None:
        if not 2 <= self.scales <= 100:
            raise ValueError(f"scales must be in 2 … 100, got {self.scales}")
        if not (math.isfinite(self.frr) and 0 < self.frr < 0.5):
            raise ValueError(f"frr must be in (0, 0.5), got {self.frr}")

    def forward_passes(self) -> int:
        """Forward passes for one input, its own included."""
        return self.scales

    def inspect(
        self,
        subject: Subject,
        *,
        rng: np.random.Generator,
        progress: Progress,
    ) -> Evidence:
        """Score every input of ``subject.suspect``.

        Raises:
            NotApplicableError, DataError: See ``inputs_of``.
            ModelError: The model gives NaN or infinite logits.
        """
        inputs = inputs_of(subject, "SCALE-UP")
        score, normal = self.scorer(inputs.classifier, inputs.trusted, rng, progress)
        scores = scores_of(inputs.classifier, inputs.suspect, score, progress)
        return judged(
            inputs.suspect,
            scores,
            normal,
            frr=self.frr,
            title="Steadiness under scaling",
            value_name="scaled prediction consistency",
            caption="How often the class survives multiplied pixels.",
        )

    def null(self, evidence: Evidence) -> Null:  # noqa: ARG002 - the statistic is standardised
        """The statistic is −log10 of an exact p-value."""
        return exact_null()

    def scorer(
        self,
        classifier: ImageClassifier,
        trusted: ImageData,
        rng: np.random.Generator,  # noqa: ARG002 - nothing is drawn
        progress: Progress,
    ) -> tuple[Scorer, ScoreArray]:
        """How inputs are scored, and the scores of the trusted pictures, shape (m,)."""
        seen: list[tuple[ScoreArray, IntArray]] = []

        def collect(x: Tensor) -> ScoreArray:
            seen.append(self.consistency(classifier, x))
            return seen[-1][0]

        raw = scores_of(classifier, trusted, collect, progress)
        if not self.data_limited:
            return (lambda x: self.consistency(classifier, x)[0]), raw
        classes = np.concatenate([labels for _, labels in seen])
        mean, spread = _by_class(raw, classes, classifier.n_classes)

        def standardised(x: Tensor) -> ScoreArray:
            values, labels = self.consistency(classifier, x)
            return np.asarray((values - mean[labels]) / spread[labels])

        return standardised, np.asarray((raw - mean[classes]) / spread[classes])

    def consistency(self, classifier: ImageClassifier, x: Tensor) -> tuple[ScoreArray, IntArray]:
        """SPC of every picture, in [0, 1], and its class, both (n,)."""
        with torch.inference_mode():
            own = classifier.logits(x).argmax(1)
            kept = torch.zeros(len(x), device=x.device)
            for factor in range(2, self.scales + 1):
                kept += classifier.logits((factor * x).clamp(0, 1)).argmax(1) == own
        share = (kept / (self.scales - 1)).double().cpu().numpy()
        return np.asarray(share, dtype=np.float64), np.asarray(own.cpu().numpy(), dtype=np.int64)


def _by_class(
    values: ScoreArray, classes: IntArray, n_classes: int
) -> tuple[ScoreArray, ScoreArray]:
    """Mean and standard deviation of the values of every class, both (classes,)."""
    mean = np.full(n_classes, values.mean())
    spread = np.full(n_classes, values.std())
    for label in range(n_classes):
        mine = values[classes == label]
        if len(mine) >= _FEWEST:
            mean[label], spread[label] = mine.mean(), mine.std()
    return mean, np.maximum(spread, _LEAST_SPREAD)
