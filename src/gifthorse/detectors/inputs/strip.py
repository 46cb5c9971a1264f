"""STRIP: an input with a trigger keeps its class when other pictures are laid over it.

Gao et al. 2019, "STRIP: A Defence Against Trojan Attacks on Deep Neural Networks"
(arXiv:1902.06531), sections IV and V. Every input is blended with N trusted pictures; the mean
entropy of the predictions is low if something in the input rules them all. ``scores`` are its
negative, so that higher is worse.

- Entropy is over the classes of each blend and then averaged over the blends. (Published code
  exists that takes it across the blends.) It is in nats; the paper uses bits, a constant factor.
- The blend is the authors' ``addWeighted(input, 1, overlay, 1)``: a sum that saturates at white.
  ``input_weight`` and ``overlay_weight`` change that; 0.5 and 0.5 is the mean of the two.
- ``calibration="published"``: the threshold of an input is a quantile of a normal distribution
  fitted to the entropies of trusted pictures, at the stated false-rejection rate. Entropies are
  skewed, so the real rate differs. The default ``calibration="rank"`` (a deviation) takes the
  order statistic of the trusted pictures' own entropies; it assumes no shape.

Beyond the paper, ``statistic`` judges all inputs together: −log10 of the probability that so many
clean inputs would pass the threshold. That needs inputs which the model was *not* trained on,
like the trusted ones: a model is surer of what it has seen.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import ClassVar

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from gifthorse.core.errors import DataError, ModelError, NotApplicableError
from gifthorse.core.exhibits import Exhibit, HistogramExhibit, PicturesExhibit, picture
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
from gifthorse.metrics.exact import SurpriseNull, exceedance_p_value, surprise
from gifthorse.models.classifier import ImageClassifier, as_classifier

_CALIBRATIONS = ("rank", "published")
_MIN_TRUSTED = 20
_MOST_CALIBRATION = 2000
_POOL_VALUES = 2**25  # 128 MiB of float32
_BATCH = 1000
_BINS = 40
_PICTURES = 8


def mean_entropies(probabilities: ScoreArray) -> ScoreArray:
    """Mean over blends of the entropy over classes, in nats.

    Args:
        probabilities: Shape (inputs, blends, classes), rows summing to 1.

    Returns:
        Shape (inputs,), in [0, ln classes].
    """
    terms = np.where(probabilities > 0, probabilities * np.log(probabilities.clip(1e-300)), 0.0)
    return np.asarray(-terms.sum(axis=2).mean(axis=1) + 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """Judges single inputs by how steady the model's answer is under overlays.

    Attributes:
        overlays: N, trusted pictures laid over every input, 2 to 1000.
        frr: False-rejection rate: share of clean inputs beyond the per-input threshold, in
            (0, 0.5).
        input_weight: Factor of the input in a blend, positive.
        overlay_weight: Factor of the trusted picture, positive.
        calibration: How the per-input threshold comes from trusted pictures: ``rank`` or
            ``published``.

    Raises:
        ValueError: An option out of range.
    """

    overlays: int = 100
    frr: float = 0.01
    input_weight: float = 1.0
    overlay_weight: float = 1.0
    calibration: str = "rank"

    needs: ClassVar[frozenset[Need]] = frozenset({Need.LOGITS, Need.TRUSTED, Need.SUSPECT_DATA})
    unit: ClassVar[Unit] = Unit.SAMPLE
    paper: ClassVar[str] = "Gao et al. 2019, arXiv:1902.06531"

    def __post_init__(self) -> None:
        if not 2 <= self.overlays <= 1000:
            raise ValueError(f"overlays must be in 2 … 1000, got {self.overlays}")
        if not 0 < self.frr < 0.5:
            raise ValueError(f"frr must be in (0, 0.5), got {self.frr}")
        for name in ("input_weight", "overlay_weight"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be positive, got {value}")
        if self.calibration not in _CALIBRATIONS:
            raise ValueError(
                f"calibration must be one of {', '.join(_CALIBRATIONS)}, got {self.calibration!r}"
            )

    def inspect(
        self, subject: Subject, *, rng: np.random.Generator, progress: Progress
    ) -> Evidence:
        """Score every input of ``subject.suspect``.

        Costs (inputs + at most 2,000) · overlays forward passes.

        Raises:
            NotApplicableError: No classifier, too few trusted pictures, or pictures that
                the model does not take.
            DataError: Suspect and trusted pictures differ in shape.
            ModelError: The model gives NaN or infinite logits.
        """
        model, suspect, trusted = _checked(subject)
        pool_at = rng.permutation(len(trusted))[: _pool_size(trusted)]
        pool = trusted.batch(np.sort(pool_at).astype(np.int64))
        calibrated = np.sort(rng.permutation(len(trusted))[:_MOST_CALIBRATION]).astype(np.int64)
        own = np.full(len(trusted), -1, dtype=np.int64)
        own[np.sort(pool_at)] = np.arange(len(pool))
        steps = len(calibrated) + len(suspect)

        def calibrating(done: int, _: int, what: str) -> None:
            progress(done, steps, what)

        def judging(done: int, _: int, what: str) -> None:
            progress(len(calibrated) + done, steps, what)

        normal = -self._entropies(
            model, trusted, calibrated, pool, own[calibrated], rng, calibrating
        )
        everything = np.arange(len(suspect), dtype=np.int64)
        nobody = np.full(len(suspect), -1, dtype=np.int64)
        scores = -self._entropies(model, suspect, everything, pool, nobody, rng, judging)
        cut, p_value = self._judge(scores, normal)
        beyond = np.flatnonzero(scores > cut)
        suspects = beyond[np.argsort(-scores[beyond], kind="stable")].astype(np.int64)
        return Evidence(
            unit=Unit.SAMPLE,
            scores=scores,
            statistic=surprise(p_value),
            suspects=suspects,
            exhibits=(
                _histogram(scores, normal, cut),
                *_pictures(suspect, suspects),
            ),
            notes=(
                f"{len(suspects)} of {len(scores)} inputs have a mean entropy below {-cut:.4g} "
                f"nats; {self.frr:.2%} of clean ones would",
            ),
        )

    def forward_passes(self) -> int:
        """Forward passes for one input, its own included."""
        return self.overlays + 1

    def scorer(
        self,
        classifier: ImageClassifier,
        trusted: ImageData,
        rng: np.random.Generator,
        progress: Progress,
    ) -> tuple[Callable[[Tensor], ScoreArray], ScoreArray]:
        """How single inputs are scored, and the scores of the trusted pictures, shape (m,).

        Raises:
            NotApplicableError: Too few trusted pictures.
        """
        if len(trusted) < _MIN_TRUSTED:
            raise NotApplicableError(
                f"{len(trusted)} trusted pictures; STRIP needs at least {_MIN_TRUSTED}"
            )
        pool_at = np.sort(rng.permutation(len(trusted))[: _pool_size(trusted)]).astype(np.int64)
        pool = trusted.batch(pool_at)
        own = np.full(len(trusted), -1, dtype=np.int64)
        own[pool_at] = np.arange(len(pool))
        rows = np.sort(rng.permutation(len(trusted))[:_MOST_CALIBRATION]).astype(np.int64)
        normal = -self._entropies(classifier, trusted, rows, pool, own[rows], rng, progress)

        def score(x: Tensor) -> ScoreArray:
            step = max(1, _BATCH // self.overlays)
            nobody = np.full(len(x), -1, dtype=np.int64)
            parts = [
                self._entropy(classifier, x[i : i + step], pool, nobody[i : i + step], rng)
                for i in range(0, len(x), step)
            ]
            return -np.concatenate(parts)

        return score, normal

    def null(self, evidence: Evidence) -> Null:  # noqa: ARG002 - the statistic is standardised
        """The statistic is −log10 of a p-value."""
        if self.calibration == "published":
            return SurpriseNull(
                "the number of inputs beyond the threshold is Binomial(n, frr); assumes that "
                "entropies of clean inputs are normal and distributed like those of trusted ones"
            )
        return SurpriseNull(
            "the number of inputs beyond an order statistic of the trusted ones is beta-binomial; "
            "assumes that clean inputs are distributed like the trusted ones"
        )

    def _judge(self, scores: ScoreArray, normal: ScoreArray) -> tuple[float, float]:
        """The per-input threshold, and the p-value of the number of inputs above it."""
        if self.calibration == "published":
            cut = float(normal.mean() + NormalDist().inv_cdf(1 - self.frr) * normal.std(ddof=1))
            above = int((scores > cut).sum())
            return cut, float(min(1.0, stats.binom.sf(above - 1, len(scores), self.frr)))
        rank = max(1, math.floor(self.frr * (len(normal) + 1)))
        cut = float(np.sort(normal)[-rank])
        above = int((scores > cut).sum())
        return cut, exceedance_p_value(above, len(scores), rank=rank, calibration=len(normal))

    def _entropies(
        self,
        model: ImageClassifier,
        data: ImageData,
        indices: IntArray,
        pool: FloatArray,
        own: IntArray,
        rng: np.random.Generator,
        progress: Progress,
    ) -> ScoreArray:
        """Mean entropy of every picture at ``indices``; ``own`` is its place in the pool, or −1."""
        step = max(1, _BATCH // self.overlays)
        found = np.empty(len(indices))
        for start in range(0, len(indices), step):
            chosen = indices[start : start + step]
            pictures = torch.from_numpy(data.batch(chosen)).to(model.device)
            mine = own[start : start + step]
            found[start : start + step] = self._entropy(model, pictures, pool, mine, rng)
            progress(min(start + step, len(indices)), len(indices), "blending")
        return found

    def _entropy(
        self,
        model: ImageClassifier,
        pictures: Tensor,
        pool: FloatArray,
        own: IntArray,
        rng: np.random.Generator,
    ) -> ScoreArray:
        """Mean entropy of every picture (n, c, h, w); ``own`` is its place in the pool, or −1."""
        drawn = _drawn(len(pool), self.overlays, own, rng)
        with torch.inference_mode():
            overlays = torch.from_numpy(pool[drawn]).to(model.device)
            blends = self.input_weight * pictures[:, None] + self.overlay_weight * overlays
            logits = model.logits(blends.flatten(0, 1).clamp_(0, 1))
            soft = torch.softmax(logits.double(), dim=1).cpu().numpy()
        if not np.isfinite(soft).all():
            raise ModelError(f"{model.name} gives NaN or infinite logits on blends")
        return mean_entropies(soft.reshape(len(pictures), self.overlays, -1))


def _checked(subject: Subject) -> tuple[ImageClassifier, ImageData, ImageData]:
    model = as_classifier(subject.model)
    suspect, trusted = subject.suspect, subject.trusted
    if not isinstance(suspect, ImageData) or trusted is None:
        raise NotApplicableError("STRIP needs the inputs to judge and trusted pictures")
    if suspect.image_shape != trusted.image_shape:
        raise DataError(
            f"{suspect.name} has pictures of shape {suspect.image_shape} and {trusted.name} of "
            f"{trusted.image_shape}; expected the same, so that they can be blended"
        )
    misfit = model.accepts(suspect.image_shape)
    if misfit:
        raise NotApplicableError(misfit)
    if len(trusted) < _MIN_TRUSTED:
        raise NotApplicableError(
            f"{len(trusted)} trusted pictures; STRIP needs at least {_MIN_TRUSTED} to know normal "
            "entropies"
        )
    return model, suspect, trusted


def _pool_size(trusted: ImageData) -> int:
    """How many trusted pictures are kept in memory to blend with."""
    return max(_MIN_TRUSTED, min(len(trusted), _POOL_VALUES // math.prod(trusted.image_shape)))


def _drawn(pool: int, overlays: int, own: IntArray, rng: np.random.Generator) -> IntArray:
    """Overlays (len(own), overlays) for each input, drawn with replacement, never the input."""
    drawn = rng.integers(0, np.where(own < 0, pool, pool - 1)[:, None], (len(own), overlays))
    skipped = (own[:, None] >= 0) & (drawn >= own[:, None])
    return np.asarray(drawn + skipped, dtype=np.int64)


def _histogram(scores: ScoreArray, normal: ScoreArray, cut: float) -> HistogramExhibit:
    both = np.concatenate([scores, normal])
    edges = np.linspace(both.min(), max(both.max(), both.min() + 1e-9), _BINS + 1)
    return HistogramExhibit(
        title="Steadiness under overlays",
        caption="Minus the mean entropy; inputs to the right of the line are pointed to.",
        value_name="−mean entropy (nats)",
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
            title="The steadiest inputs",
            caption="Whatever is laid over them, the model gives the same answer.",
            pictures=tuple(picture(pixels, f"#{i}") for i, pixels in shown),
        ),
    )
