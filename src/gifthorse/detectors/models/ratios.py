"""What one family of perturbations found for every class, and how it is compared.

For every class: U, the smallest universal size found, and for most families D, the median size that
single pictures would need, to first order. Values are ½ log D − log U: half way between what is
cheap and what is cheap only universally. On clean development models whose classes differ in size
log(D / U) alone made a rare class stand out (it is far from single pictures), −log U alone an easy
one. For warps it is −log U: a class that a warp leads to is near by a warp for single pictures too.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gifthorse.core.errors import NotApplicableError
from gifthorse.core.types import FloatArray, RecoveredTrigger, ScoreArray
from gifthorse.detectors.models.distortions import Warped
from gifthorse.detectors.models.inversion import Additive, Masked
from gifthorse.detectors.models.trusted import Probe
from gifthorse.metrics.outliers import SpreadPrior, moderated_residuals
from gifthorse.models.classifier import ImageClassifier

_LEAST_FOUND = 3
ALONE_SHARE = 0.5
"""How much of log D is in a value when all classes are searched."""
_CORRELATION = 0.65
"""Of residuals of the first two families, over 82 classes of seven clean development models."""

Searched = Additive | Masked | Warped


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A family of perturbations, how it is searched, and what its values are.

    Attributes:
        name: For the record.
        first_weight: Weight of the size when the search begins.
        speed: Learning rate, in multiples of the detector's.
        relative: Whether universal sizes are compared with per-picture ones.
        prior: Spread of the values over the classes of a clean model, known beforehand.
        basic: Without it nothing can be said. Other families may have nothing to say.
    """

    name: str
    first_weight: float
    speed: float
    relative: bool
    prior: SpreadPrior
    basic: bool

    def search(self) -> Searched:
        """Fresh family of perturbations."""
        if self.name == "masked":
            return Masked(start_opacity=0.12)
        return Warped() if self.name == "warp" else Additive()


KINDS = (
    Kind(
        name="additive",
        first_weight=1e-2,
        speed=1.0,
        relative=True,
        prior=SpreadPrior(spread=0.13, weight=8.0),
        basic=True,
    ),
    Kind(
        name="masked",
        first_weight=1e-3,
        speed=1.0,
        relative=True,
        prior=SpreadPrior(spread=0.32, weight=8.0),
        basic=True,
    ),
    Kind(
        name="warp",
        first_weight=1e-1,
        speed=2.0,
        relative=False,
        prior=SpreadPrior(spread=0.16, weight=8.0),
        basic=False,
    ),
)


class Result:
    """What one family found.

    Args:
        kind: The family.
        universal: Smallest sizes (k,) that reached the goal, infinite where none did.
        alone: Per-picture sizes (k,); None for a family that is not compared with them.
        parameters: Of the smallest perturbations, first axis (k,).
        searched: The family's search.

    Raises:
        NotApplicableError: Too few classes were reached to compare them.
    """

    def __init__(
        self,
        kind: Kind,
        universal: ScoreArray,
        alone: ScoreArray | None,
        parameters: list[Tensor],
        searched: Searched,
    ) -> None:
        found = np.isfinite(universal)
        if found.sum() < _LEAST_FOUND:
            raise NotApplicableError(
                f"no {kind.name} perturbation reaches the goal for {int((~found).sum())} of "
                f"{len(found)} classes, so classes cannot be compared"
            )
        # A class that nothing reaches is as far from suspicious as the hardest one that is reached.
        self.universal = np.where(found, universal, universal[found].max())
        self.kind, self._found = kind, found
        self._searched, self._parameters = searched, parameters
        self.values = -np.log(self.universal.clip(1e-9))
        if alone is not None:
            self.values = self.values + ALONE_SHARE * np.log(alone)
        self._residuals = moderated_residuals(self.values, kind.prior)

    def scores(self) -> ScoreArray:
        """Residuals of all classes."""
        return self._residuals

    def reached(self, target: int) -> bool:
        """Whether a perturbation reached the class."""
        return bool(self._found[target])

    def trigger(self, target: int, shape: tuple[int, int, int]) -> RecoveredTrigger:
        """The best perturbation towards a class, for pictures of ``shape`` (c, h, w)."""
        return trigger_of(
            self._searched, [p[target : target + 1] for p in self._parameters], target, shape
        )

    def notes(self, names: tuple[str, ...]) -> list[str]:
        """Which classes no perturbation could reach."""
        lost = [name for name, found in zip(names, self._found, strict=True) if not found]
        if not lost:
            return []
        return [f"no {self.kind.name} perturbation reached: {', '.join(lost[:5])}"]


def together(results: list[Result]) -> ScoreArray:
    """What the first two families say together, on the scale of one: shape (classes,).

    Their residuals are correlated over the classes of clean models, so their sum is divided by the
    standard deviation that this gives it.
    """
    both = [result.scores() for result in results if result.kind.basic]
    spread = (len(both) + len(both) * (len(both) - 1) * _CORRELATION) ** 0.5
    return np.asarray(np.sum(both, axis=0) / spread)


def trigger_of(
    searched: Searched, parameters: list[Tensor], target: int, shape: tuple[int, int, int]
) -> RecoveredTrigger:
    """One perturbation (parameters with first axis 1) as a trigger that can be stamped."""
    mask, pattern = np.zeros(shape[1:], dtype=np.float32), np.zeros(shape, dtype=np.float32)
    if isinstance(searched, Masked):
        opacity, colours = searched.opened(parameters)
        return RecoveredTrigger(
            target=target, mask=_numpy(opacity[0, 0]), pattern=_numpy(colours[0])
        )
    if isinstance(searched, Warped):
        flow = _numpy(searched.flow(parameters, (shape[1], shape[2]))[0])
        return RecoveredTrigger(target=target, mask=mask, pattern=pattern, flow=flow)
    return RecoveredTrigger(
        target=target, mask=mask, pattern=pattern, offset=_numpy(parameters[0][0])
    )


def _numpy(value: Tensor) -> FloatArray:
    return np.asarray(value.detach().cpu().numpy(), dtype=np.float32)


def per_picture_sizes(classifier: ImageClassifier, probe: Probe, family: str) -> ScoreArray:
    """Median over pictures of the size that each would need alone, to first order.

    Additive: (z_y − z_c) / ‖∇ₓ(z_y − z_c)‖₂. Masked: pixels are covered in the order of how much
    the best colour would lower z_y − z_c, until it is zero; the size is their number.

    Returns:
        Shape (classes,), > 0.
    """
    sizes = np.empty(classifier.n_classes)
    x = probe.x.clone().requires_grad_(True)
    logits = classifier.logits(x)
    own = logits.gather(1, probe.y[:, None])[:, 0]
    for c in range(classifier.n_classes):
        margin = own - logits[:, c]
        (slope,) = torch.autograd.grad(margin.sum(), x, retain_graph=True)
        others = probe.y != c
        if not bool(others.any()):
            raise NotApplicableError("the trusted pictures are all of one class to the model")
        gap, slope, pixels = margin.detach()[others], slope[others], probe.x[others]
        if family == "additive":
            size = gap / torch.linalg.vector_norm(slope.flatten(1), dim=1).clamp(min=1e-9)
        else:
            size = _pixels_needed(gap, slope, pixels)
        sizes[c] = float(size.median())
    return sizes.clip(1e-3)


def _pixels_needed(gap: Tensor, slope: Tensor, pixels: Tensor) -> Tensor:
    """How many pixels close the gap (n,) if the best are covered first; fractions count."""
    gain = torch.maximum(slope * pixels, -slope * (1 - pixels)).sum(1).flatten(1)
    ordered = gain.clamp(min=0).sort(dim=1, descending=True).values
    reached = ordered.cumsum(1)
    whole = (reached < gap[:, None]).sum(1).clamp(max=ordered.shape[1] - 1)
    before = reached.gather(1, whole[:, None])[:, 0] - ordered.gather(1, whole[:, None])[:, 0]
    part = (gap - before) / ordered.gather(1, whole[:, None])[:, 0].clamp(min=1e-9)
    return whole + part.clamp(0, 1)
