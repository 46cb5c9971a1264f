"""Beatrix: a triggered input has the right class and the wrong correlations between channels.

Ma, Wang, Sun, Gong, Xue & Zhang 2023, "The 'Beatrix' Resurrections: Robust Backdoor Detection via
Gram Matrices", NDSS, arXiv:2209.11715, section IV: Gram matrices of the powers 1 … p of a feature
map, their p-th roots, and, for every class, how far each entry lies outside of median ± k median
absolute deviations of trusted samples of that class, in units of those.

Decisions and deviations:

- The feature map is the last one of more than one pixel; trusted pictures count for the class that
  the model gives them; classes of fewer than five take the statistics of all.
- Half of the trusted pictures are measured, the others calibrate the threshold (an order statistic
  at ``frr``); the paper's test of whole classes by kernel mean discrepancy is left out.
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
from gifthorse.data.images import batches
from gifthorse.detectors.inputs.calibrated import (
    Scorer,
    exact_null,
    inputs_of,
    judged,
    scores_of,
)
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.layers import logits_and_maps, stages_of
from gifthorse.models.passes import to_tensor

_FEWEST = 5
_MOST_CHANNELS = 64
_TO_SIGMA = 1.4826


@dataclass(frozen=True, slots=True, kw_only=True)
class Beatrix:
    """Deviation of Gram matrices; one forward pass an input.

    Attributes:
        powers: Highest power of the features, 1 to 16.
        width: Median absolute deviations that count as normal, in (0, 1000].
        frr: False-rejection rate: share of clean inputs beyond the threshold, in (0, 0.5).

    Raises:
        ValueError: An option out of range.
    """

    powers: int = 4
    width: float = 3.0
    frr: float = 0.01

    needs: ClassVar[frozenset[Need]] = frozenset(
        {Need.LOGITS, Need.WEIGHTS, Need.TRUSTED, Need.SUSPECT_DATA}
    )
    unit: ClassVar[Unit] = Unit.SAMPLE
    paper: ClassVar[str] = "Ma et al. 2023, Beatrix, arXiv:2209.11715"

    def __post_init__(self) -> None:
        if not 1 <= self.powers <= 16:
            raise ValueError(f"powers must be in 1 … 16, got {self.powers}")
        if not 0 < self.width <= 1000:
            raise ValueError(f"width must be in (0, 1000], got {self.width}")
        if not (math.isfinite(self.frr) and 0 < self.frr < 0.5):
            raise ValueError(f"frr must be in (0, 0.5), got {self.frr}")

    def forward_passes(self) -> int:
        """Forward passes for one input, its own included."""
        return 1

    def inspect(
        self, subject: Subject, *, rng: np.random.Generator, progress: Progress
    ) -> Evidence:
        """Score every input of ``subject.suspect``.

        Raises:
            NotApplicableError, DataError: See ``inputs_of``; also no feature maps.
            ModelError: The model gives NaN or infinite values.
        """
        inputs = inputs_of(subject, "Beatrix")
        score, normal = self.scorer(inputs.classifier, inputs.trusted, rng, progress)
        scores = scores_of(inputs.classifier, inputs.suspect, score, progress)
        return judged(
            inputs.suspect,
            scores,
            normal,
            frr=self.frr,
            title="Unusual correlations between channels",
            value_name="deviation of the Gram matrices",
            caption="How far the Gram matrices lie outside of those of the class.",
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
        """How inputs are scored, and the scores of trusted pictures, shape (m,)."""
        stage = stages_of(classifier)[-1]
        parts = []
        for rows, pixels in batches(trusted, 128):
            parts.append(self._grams(classifier, to_tensor(classifier, pixels), stage))
            progress(int(rows[-1]) + 1, len(trusted), "trusted Gram matrices")
        values = np.concatenate([gram for gram, _ in parts])
        classes = np.concatenate([own for _, own in parts])
        order = rng.permutation(len(trusted))
        fitted, held = order[: len(order) // 2], order[len(order) // 2 :]
        centre, spread = _by_class(values[fitted], classes[fitted], classifier.n_classes)

        def deviations(grams: ScoreArray, own: IntArray) -> ScoreArray:
            outside = np.abs(grams - centre[own]) / spread[own] - self.width
            return np.asarray(np.log1p(outside.clip(0).mean(axis=1)))

        def score(x: Tensor) -> ScoreArray:
            return deviations(*self._grams(classifier, x, stage))

        return score, deviations(values[held], classes[held])

    def _grams(
        self, classifier: ImageClassifier, x: Tensor, stage: str
    ) -> tuple[ScoreArray, IntArray]:
        """Upper triangles of the Gram matrices of all powers (n, entries), and classes (n,)."""
        with torch.inference_mode():
            logits, (maps,) = logits_and_maps(classifier, x, (stage,))
            grams = gram_entries(maps, self.powers)
        own = logits.argmax(1).cpu().numpy()
        return np.asarray(grams.cpu().numpy(), dtype=np.float64), np.asarray(own, dtype=np.int64)


def gram_entries(maps: Tensor, powers: int) -> Tensor:
    """(FᵖFᵖᵀ)^(1/p), sign kept, of feature maps (n, c, h, w): upper triangles, (n, entries).

    Of more than 64 channels neighbours are averaged, so that the entries stay few.
    """
    flat = maps.flatten(2).double()
    if flat.shape[1] > _MOST_CHANNELS:
        flat = torch.nn.functional.adaptive_avg_pool1d(flat.mT, _MOST_CHANNELS).mT
    rows, columns = torch.triu_indices(flat.shape[1], flat.shape[1])
    found = []
    for power in range(1, powers + 1):
        raised = flat**power
        gram = (raised @ raised.mT)[:, rows, columns]
        found.append(gram.sign() * gram.abs() ** (1 / power))
    return torch.cat(found, dim=1)


def _by_class(
    values: ScoreArray, classes: IntArray, n_classes: int
) -> tuple[ScoreArray, ScoreArray]:
    """Median and scaled median absolute deviation for every class, both (classes, entries)."""
    middle = np.median(values, axis=0)
    overall = _TO_SIGMA * np.median(np.abs(values - middle), axis=0)
    # Entries that hardly vary within a class must not divide by nothing.
    least = 0.1 * overall + 1e-6 * max(float(np.abs(middle).max()), 1e-6)
    centre = np.repeat(middle[None], n_classes, axis=0)
    spread = np.repeat(np.maximum(overall, least)[None], n_classes, axis=0)
    for label in range(n_classes):
        mine = values[classes == label]
        if len(mine) >= _FEWEST:
            centre[label] = np.median(mine, axis=0)
            apart = _TO_SIGMA * np.median(np.abs(mine - centre[label]), axis=0)
            spread[label] = np.maximum(apart, least)
    return centre, spread
