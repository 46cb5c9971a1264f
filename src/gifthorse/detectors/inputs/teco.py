"""TeCo: a triggered input resists some corruptions far longer than others.

Liu, Li, Wang, Li, Zhu & Ma 2023, "Detecting Backdoors During the Inference Stage Based on
Corruption Robustness Consistency", CVPR, arXiv:2303.18191, section 4: for every kind of corruption,
the lowest severity (1 … 5) at which the predicted class changes, 6 if it never does; the standard
deviation over the kinds is the score. Hard labels are enough.

Decisions and deviations: eight kinds of corruption instead of fifteen (see ``corruptions``), with
strengths for small pictures; the threshold is an order statistic of trusted scores at ``frr`` (the
paper reports ROC curves only, and needs no clean data).
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from gifthorse.core.rng import draw_seed
from gifthorse.core.types import (
    Evidence,
    ImageData,
    Need,
    Null,
    Progress,
    ScoreArray,
    Subject,
    Unit,
)
from gifthorse.detectors.inputs.calibrated import Scorer, exact_null, inputs_of, judged, scores_of
from gifthorse.detectors.inputs.corruptions import CORRUPTIONS, SEVERITIES, corrupted
from gifthorse.models.classifier import ImageClassifier


@dataclass(frozen=True, slots=True, kw_only=True)
class TeCo:
    """Corruption robustness consistency; 41 forward passes an input.

    Attributes:
        frr: False-rejection rate: share of clean inputs beyond the threshold, in (0, 0.5).

    Raises:
        ValueError: An option out of range.
    """

    frr: float = 0.01

    needs: ClassVar[frozenset[Need]] = frozenset({Need.LOGITS, Need.TRUSTED, Need.SUSPECT_DATA})
    unit: ClassVar[Unit] = Unit.SAMPLE
    paper: ClassVar[str] = "Liu et al. 2023, TeCo, arXiv:2303.18191"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.frr) and 0 < self.frr < 0.5):
            raise ValueError(f"frr must be in (0, 0.5), got {self.frr}")

    def forward_passes(self) -> int:
        """Forward passes for one input, its own included."""
        return 1 + len(CORRUPTIONS) * SEVERITIES

    def inspect(
        self, subject: Subject, *, rng: np.random.Generator, progress: Progress
    ) -> Evidence:
        """Score every input of ``subject.suspect``.

        Raises:
            NotApplicableError, DataError: See ``inputs_of``.
            ModelError: The model gives NaN or infinite logits.
        """
        inputs = inputs_of(subject, "TeCo")
        score, normal = self.scorer(inputs.classifier, inputs.trusted, rng, progress)
        scores = scores_of(inputs.classifier, inputs.suspect, score, progress)
        return judged(
            inputs.suspect,
            scores,
            normal,
            frr=self.frr,
            title="Unevenness under corruptions",
            value_name="deviation of the breaking severity",
            caption="How differently the kinds of corruption change the class.",
        )

    def null(self, evidence: Evidence) -> Null:  # noqa: ARG002 - the statistic is standardised
        """The statistic is −log10 of an exact p-value."""
        return exact_null()

    def scorer(
        self,
        classifier: ImageClassifier,
        trusted: ImageData,
        rng: np.random.Generator,
        progress: Progress,
    ) -> tuple[Scorer, ScoreArray]:
        """How inputs are scored, and the scores of the trusted pictures, shape (m,)."""
        generator = torch.Generator().manual_seed(draw_seed(rng))

        def score(x: Tensor) -> ScoreArray:
            return np.asarray(breaking_severities(classifier, x, generator).std(axis=1))

        return score, scores_of(classifier, trusted, score, progress)


def breaking_severities(
    classifier: ImageClassifier, x: Tensor, generator: torch.Generator
) -> ScoreArray:
    """The lowest severity that changes the class, 6 for none, shape (n, kinds)."""
    broke = np.full((len(x), len(CORRUPTIONS)), float(SEVERITIES + 1))
    with torch.inference_mode():
        own = classifier.logits(x).argmax(1)
        for column, kind in enumerate(CORRUPTIONS):
            for severity in range(SEVERITIES, 0, -1):
                now = classifier.logits(corrupted(x, kind, severity, generator)).argmax(1)
                broke[(now != own).cpu().numpy(), column] = severity
    return broke
