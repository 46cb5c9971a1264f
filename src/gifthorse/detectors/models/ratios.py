"""What one family of perturbations found for every class, and how it is compared.

For every class: U, the smallest universal size found, and for most families D, the median size that
single pictures would need, to first order. Values are ½ log D − log U: half way between what is
cheap and what is cheap only universally. On clean development models whose classes differ in size
log(D / U) alone made a rare class stand out (it is far from single pictures), −log U alone an easy
one. For warps it is −log U: a class that a warp leads to is near by a warp for single pictures too.
Among many classes it is log(D / U), as measured there.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gifthorse.core.errors import NotApplicableError
from gifthorse.core.types import FloatArray, IntArray, RecoveredTrigger, ScoreArray
from gifthorse.detectors.models.distortions import Warped
from gifthorse.detectors.models.inversion import Additive, Masked
from gifthorse.detectors.models.trusted import Probe
from gifthorse.metrics.outliers import SpreadPrior, control_residuals, moderated_residuals
from gifthorse.models.classifier import ImageClassifier

LEAST_REACHED = 0.75
"""Share of the controls that must be reached, or their spread says nothing."""
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

    def search(self, cells: int | None = None) -> Searched:
        """Fresh family of perturbations; ``cells`` as for ``Masked``."""
        if self.name == "masked":
            return Masked(start_opacity=0.12, cells=cells)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """Examined classes (sorted), those drawn as controls (None: all are), and how many exist."""

    classes: IntArray
    controls: IntArray | None
    total: int


class Result:
    """What one family found.

    Args:
        kind: The family.
        universal: Smallest sizes (k,) that reached the goal, infinite where none did.
        alone: Per-picture sizes (k,); None for a family that is not compared with them.
        parameters: Of the smallest perturbations, first axis (k,).
        searched: The family's search.
        field: Which classes these are.

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
        field: Field,
    ) -> None:
        found = np.isfinite(universal)
        chosen = np.ones(len(found), bool)
        if field.controls is not None:
            chosen = np.isin(field.classes, field.controls)
        enough = _LEAST_FOUND if field.controls is None else LEAST_REACHED * chosen.sum()
        if (found & chosen).sum() < enough:
            raise NotApplicableError(
                f"no {kind.name} perturbation reaches the goal for {int((~found & chosen).sum())} "
                f"of {int(chosen.sum())} classes, so classes cannot be compared"
            )
        # A class that nothing reaches is as far from suspicious as the hardest one that is reached.
        self.universal = np.where(found, universal, universal[found].max())
        self.kind, self.classes, self._found = kind, field.classes, found
        self._searched, self._parameters, self._total = searched, parameters, field.total
        self.values = -np.log(self.universal.clip(1e-9))
        if alone is not None:
            share = ALONE_SHARE if field.controls is None else 1.0
            self.values = self.values + share * np.log(alone)
        if field.controls is None:
            self.residuals = moderated_residuals(self.values, kind.prior)
        else:
            self.residuals = control_residuals(self.values, chosen)

    def scores(self) -> ScoreArray:
        """Residuals of all classes; a dropped one gets the least suspicious that was measured."""
        scores = np.full(self._total, self.residuals.min())
        scores[self.classes] = self.residuals
        return scores

    def reached(self, target: int) -> bool:
        """Whether the class was examined and a perturbation reached it."""
        return bool(self._found[self.classes == target].any())

    def trigger(self, target: int, shape: tuple[int, int, int]) -> RecoveredTrigger:
        """The best perturbation towards an examined class, for pictures of ``shape`` (c, h, w)."""
        place = int(np.searchsorted(self.classes, target))
        return trigger_of(
            self._searched, [p[place : place + 1] for p in self._parameters], target, shape
        )

    def notes(self, names: tuple[str, ...]) -> list[str]:
        """Which classes no perturbation could reach, and how many were dropped."""
        pairs = zip(self.classes, self._found, strict=True)
        lost = [names[c] for c, found in pairs if not found]
        said = []
        if lost:
            said.append(f"no {self.kind.name} perturbation reached: {', '.join(lost[:5])}")
        if len(self.classes) < self._total:
            said.append(
                f"{self.kind.name}: {len(self.classes)} of {self._total} classes were searched in "
                "full, the others dropped by screening"
            )
        return said


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


def per_picture_sizes(
    classifier: ImageClassifier, probe: Probe, family: str, classes: IntArray
) -> ScoreArray:
    """Median over pictures of the size that each would need alone, to first order.

    Additive: (z_y − z_c) / ‖∇ₓ(z_y − z_c)‖₂. Masked: pixels are covered in the order of how much
    the best colour would lower z_y − z_c, until it is zero; the size is their number.

    Returns:
        Shape (len(classes),), > 0.
    """
    sizes = np.empty(len(classes))
    x = probe.x.clone().requires_grad_(True)
    logits = classifier.logits(x)
    own = logits.gather(1, probe.y[:, None])[:, 0]
    for place, c in enumerate(classes.tolist()):
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
        sizes[place] = float(size.median())
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
