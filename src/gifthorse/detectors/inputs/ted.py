"""TED: on its way through the layers, a triggered input comes to its class from elsewhere.

Mo, Huang, Zhang, Liu, Meng & Zhang 2024, "Robust Backdoor Detection for Deep Learning via
Topological Evolution Dynamics", IEEE S&P, arXiv:2312.02673, section IV: in every layer, the rank of
the nearest trusted sample of the predicted class among all trusted samples, by distance from the
input. The ranks are a trajectory; trajectories of trusted samples train an outlier detector (PCA).

Decisions and deviations:

- Layers are the last feature map of every resolution and the penultimate activations, not all
  convolutions; ranks go into the logarithm, log(1 + rank), as they run over orders of magnitude.
- The outlier score is the squared Mahalanobis distance of the trajectory, which is the PCA score
  with all components, weighted by their variance.
- Trusted samples count only if the model names them right; each is left out of its own ranks.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from gifthorse.core.errors import NotApplicableError
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
from gifthorse.data.images import batches
from gifthorse.detectors.inputs.calibrated import (
    MIN_TRUSTED,
    Scorer,
    exact_null,
    inputs_of,
    judged,
    scores_of,
)
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.layers import logits_and_maps, stages_of
from gifthorse.models.passes import to_tensor

_MOST_VALUES = 2**26  # 256 MiB of float32 over all layers
_RIDGE = 1e-2


@dataclass(frozen=True, slots=True, kw_only=True)
class Ted:
    """Topological evolution dynamics; one forward pass an input.

    Attributes:
        samples: Trusted pictures kept as neighbours, at least 20.
        frr: False-rejection rate: share of clean inputs beyond the threshold, in (0, 0.5).

    Raises:
        ValueError: An option out of range.
    """

    samples: int = 500
    frr: float = 0.01

    needs: ClassVar[frozenset[Need]] = frozenset(
        {Need.LOGITS, Need.WEIGHTS, Need.TRUSTED, Need.SUSPECT_DATA}
    )
    unit: ClassVar[Unit] = Unit.SAMPLE
    paper: ClassVar[str] = "Mo et al. 2024, TED, arXiv:2312.02673"

    def __post_init__(self) -> None:
        if not MIN_TRUSTED <= self.samples < 2**31:
            raise ValueError(f"samples must be at least {MIN_TRUSTED}, got {self.samples}")
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
            NotApplicableError, DataError: See ``inputs_of``; also too few trusted pictures that
                the model names right, or no feature maps.
            ModelError: The model gives NaN or infinite values.
        """
        inputs = inputs_of(subject, "TED")
        score, normal = self.scorer(inputs.classifier, inputs.trusted, rng, progress)
        scores = scores_of(inputs.classifier, inputs.suspect, score, progress)
        return judged(
            inputs.suspect,
            scores,
            normal,
            frr=self.frr,
            title="Unusual ways through the layers",
            value_name="squared Mahalanobis distance",
            caption="How unlike trusted pictures an input comes to its class.",
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
        """How inputs are scored, and the scores of trusted pictures, shape (m,).

        Half of the pictures that the model names right are neighbours, the others calibrate: a
        picture that the detector was fitted to would look too normal.

        Raises:
            NotApplicableError: Too few.
        """
        stages = stages_of(classifier)
        labels, layers = _walk(classifier, trusted, stages, progress)
        right = rng.permutation(np.flatnonzero(labels == trusted.labels))
        if len(right) < 2 * MIN_TRUSTED:
            raise NotApplicableError(
                f"the model names {len(right)} trusted pictures right; TED needs at least "
                f"{2 * MIN_TRUSTED}"
            )
        kept = np.sort(right[: min(self.samples, len(right) // 2)])
        others = np.setdiff1d(np.arange(len(labels)), kept)
        neighbours = [layer[kept] for layer in layers]
        classes = torch.from_numpy(labels[kept])
        fitted = _trajectories(neighbours, neighbours, classes, classes, leave_out=True)
        centre = fitted.mean(axis=0)
        spread = np.atleast_2d(np.cov(fitted, rowvar=False)) + _RIDGE * np.eye(fitted.shape[1])
        inverse = np.linalg.inv(spread)

        def distance(ways: ScoreArray) -> ScoreArray:
            return np.asarray(np.einsum("nl,lk,nk->n", ways - centre, inverse, ways - centre))

        def score(x: Tensor) -> ScoreArray:
            own, maps = _forward(classifier, x, stages)
            return distance(_trajectories(maps, neighbours, own, classes, leave_out=False))

        normal = distance(
            _trajectories(
                [layer[others] for layer in layers],
                neighbours,
                torch.from_numpy(labels[others]),
                classes,
                leave_out=False,
            )
        )
        return score, normal


def _walk(
    classifier: ImageClassifier, data: ImageData, stages: tuple[str, ...], progress: Progress
) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], list[Tensor]]:
    """Predicted classes (n,) and the activations of every layer, each (n, d)."""
    labels, parts = [], []
    for rows, pixels in batches(data, 128):
        own, maps = _forward(classifier, to_tensor(classifier, pixels), stages)
        labels.append(own)
        parts.append(maps)
        if len(data) * sum(m.shape[1] for m in maps) > _MOST_VALUES:
            raise NotApplicableError(
                f"{len(data)} trusted pictures of {data.image_shape} need too much memory here; "
                "give fewer"
            )
        progress(int(rows[-1]) + 1, len(data), "trusted trajectories")
    layers = [torch.cat(layer) for layer in zip(*parts, strict=True)]
    return torch.cat(labels).numpy(), layers


def _forward(
    classifier: ImageClassifier, x: Tensor, stages: tuple[str, ...]
) -> tuple[Tensor, list[Tensor]]:
    """Classes (n,) and the activations of every stage, and the logits, on the CPU."""
    with torch.inference_mode():
        logits, maps = logits_and_maps(classifier, x, stages)
    flat = [m.flatten(1).float().cpu().clone() for m in maps]
    return logits.argmax(1).cpu().clone(), [*flat, logits.float().cpu().clone()]


def _trajectories(
    layers: list[Tensor], neighbours: list[Tensor], own: Tensor, classes: Tensor, *, leave_out: bool
) -> ScoreArray:
    """log(1 + rank) of the nearest neighbour of the own class in every layer, (n, layers).

    Args:
        layers: Activations of the inputs, each (n, d).
        neighbours: Of the trusted samples, each (m, d).
        own: Predicted class of the inputs, (n,).
        classes: Of the trusted samples, (m,).
        leave_out: The inputs are the neighbours; none counts as its own.
    """
    same = own[:, None] == classes[None]
    if leave_out:
        same = same & ~torch.eye(len(own), dtype=torch.bool)
    ways = []
    for mine, theirs in zip(layers, neighbours, strict=True):
        apart = torch.cdist(mine, theirs)
        if leave_out:
            apart.fill_diagonal_(math.inf)
        nearest = torch.where(same, apart, torch.inf).min(1).values
        # With no neighbour of the class, every other one is nearer.
        rank = (apart < nearest[:, None]).sum(1)
        ways.append(torch.log1p(rank.double()).numpy())
    return np.stack(ways, axis=1)
