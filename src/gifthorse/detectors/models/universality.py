"""Universality ratios: is one class much cheaper to reach with *one* change for all pictures?

Our own method (name and statistic are not from a paper; the inversion is that of Neural Cleanse,
Wang et al. 2019, with a second family of perturbations).

For every class c and every family of perturbations with a size:
- U_c, the universal size: the smallest size found for which one perturbation sends at least
  ``goal`` of the pictures of other classes to c;
- D_c, the per-picture size: the median over pictures of the size that each would need on its own,
  to first order at no perturbation.
A class that is naturally easy to reach is easy both ways. A backdoor is cheap only universally, so
log(D_c / U_c) stands out against the other classes of the same model, which are its control group.

Families: ``additive`` (x + δ, L2 norm; watermarks and patches) and ``masked`` (an opaque mask, L1
norm; small patches). The statistic is the largest moderated residual over classes and families;
Bonferroni pays for looking at all of them.

Not seen: backdoors towards all classes alike (all-to-all), source-specific ones, warps.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from gifthorse.core.errors import NotApplicableError
from gifthorse.core.exhibits import Exhibit
from gifthorse.core.rng import draw_seed
from gifthorse.core.types import (
    Evidence,
    FloatArray,
    Need,
    Null,
    Progress,
    RecoveredTrigger,
    ScoreArray,
    Subject,
    Unit,
)
from gifthorse.detectors.models.inversion import Additive, Batches, Masked, Race
from gifthorse.detectors.models.pictures import class_bars, trigger_pictures
from gifthorse.detectors.models.trusted import Probe, probe_of
from gifthorse.metrics.outliers import ModeratedNull, SpreadPrior, moderated_residuals
from gifthorse.models.classifier import ImageClassifier

FAMILIES = ("additive", "masked")
PRIORS = {
    "additive": SpreadPrior(spread=0.12, weight=8.0),
    "masked": SpreadPrior(spread=0.27, weight=8.0),
}
"""Root mean square over clean development models (seeds and data in docs/results.md), with as much
weight as the eight degrees of freedom of a ten-class model."""

_UP, _DOWN = 1.1, 0.85
_CHECK_EVERY = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Universality:
    """Compares the smallest universal perturbation of every class with per-picture ones.

    Attributes:
        steps: Optimisation steps a family.
        samples: Trusted pictures used.
        batch_size: Pictures a step.
        goal: Share of pictures of other classes that one perturbation must send to the class.
        learning_rate: Of Adam.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.LOGITS, Need.GRADIENTS, Need.TRUSTED})
    unit: ClassVar[Unit] = Unit.CLASS
    paper: ClassVar[str] = "our own; inversion after Wang et al. 2019, Neural Cleanse"

    steps: int = 160
    samples: int = 100
    batch_size: int = 40
    goal: float = 0.9
    learning_rate: float = 0.1

    def __post_init__(self) -> None:
        if min(self.steps, self.samples, self.batch_size) < 1:
            raise ValueError("steps, samples and batch_size must be at least 1")
        if not 0 < self.goal <= 1 or self.learning_rate <= 0:
            raise ValueError("goal must be in (0, 1] and learning_rate positive")

    def inspect(
        self, subject: Subject, *, rng: np.random.Generator, progress: Progress
    ) -> Evidence:
        """The larger residual of both families for every class; the largest is the statistic."""
        classifier, probe = probe_of(subject, samples=self.samples, rng=rng)
        results = [self._examine(classifier, probe, name, rng, progress) for name in FAMILIES]
        scores = np.maximum(results[0].residuals, results[1].residuals)
        worst = int(scores.argmax())
        results.sort(key=lambda result: -result.residuals[worst])
        names = classifier.class_names
        exhibits: list[Exhibit] = [
            trigger_pictures(probe, result.trigger(worst), names, f"The {result.family} search")
            for result in results
        ]
        exhibits.append(class_bars(names, scores, worst, "moderated residual"))
        exhibits += [
            class_bars(
                names, result.universal, worst, f"{result.family}: universal size", judged=False
            )
            for result in results
        ]
        return Evidence(
            unit=Unit.CLASS,
            scores=scores,
            statistic=float(scores[worst]),
            suspects=np.array([worst], dtype=np.int64),
            triggers=tuple(result.trigger(worst) for result in results),
            exhibits=tuple(exhibits),
            notes=tuple(note for result in results for note in result.notes(names)),
        )

    def null(self, evidence: Evidence) -> Null:
        """Largest moderated t statistic over classes and families."""
        spreads = ", ".join(f"{prior.spread:g} ({name})" for name, prior in PRIORS.items())
        return ModeratedNull(
            n=len(evidence.scores),
            tests=len(FAMILIES),
            weight=PRIORS["additive"].weight,
            priors=f"{spreads}, from clean development models",
        )

    def _examine(
        self,
        classifier: ImageClassifier,
        probe: Probe,
        name: str,
        rng: np.random.Generator,
        progress: Progress,
    ) -> "_Result":
        family = Additive() if name == "additive" else Masked(start_opacity=0.12)
        race = Race(
            classifier,
            probe,
            family,
            learning_rate=self.learning_rate,
            generator=torch.Generator().manual_seed(draw_seed(rng)),
        )
        first = 1e-2 if name == "additive" else 1e-3
        weights = torch.full((classifier.n_classes,), first, device=classifier.device)
        batches = Batches(len(probe.x), self.batch_size, rng)
        best = torch.full_like(weights, float("inf"))
        kept = [p.detach().clone() for p in race.parameters]
        for step in range(1, self.steps + 1):
            hits, _ = race.step(batches.draw(), weights)
            weights = torch.where(hits >= self.goal, weights * _UP, weights * _DOWN)
            checked = step % _CHECK_EVERY == 0 and step >= self.steps // 3
            if checked or step == self.steps:
                hits, sizes = race.success()
                better = (hits >= self.goal) & (sizes < best)
                best = torch.where(better, sizes, best)
                for old, new in zip(kept, race.parameters, strict=True):
                    old[better] = new.detach()[better]
            progress(step, self.steps, f"{name} inversion")
        alone = per_picture_sizes(classifier, probe, name)
        return _Result(name, best.double().cpu().numpy(), alone, kept, family)


class _Result:
    """What one family found."""

    def __init__(
        self,
        family: str,
        universal: ScoreArray,
        alone: ScoreArray,
        parameters: list[Tensor],
        searched: Additive | Masked,
    ) -> None:
        found = np.isfinite(universal)
        if found.sum() < 3:
            raise NotApplicableError(
                f"no {family} perturbation reaches the goal for {int((~found).sum())} of "
                f"{len(found)} classes, so classes cannot be compared"
            )
        # A class that nothing reaches is as far from suspicious as the hardest one that is reached.
        self.universal = np.where(found, universal, universal[found].max())
        self.family, self._found, self._searched = family, found, searched
        self._parameters = parameters
        self.ratio = np.log(alone) - np.log(self.universal.clip(1e-9))
        self.residuals = moderated_residuals(self.ratio, PRIORS[family])

    def trigger(self, target: int) -> RecoveredTrigger:
        """The best perturbation towards a class."""
        mine = [p[target : target + 1] for p in self._parameters]
        if isinstance(self._searched, Masked):
            mask, pattern = self._searched.opened(mine)
            return RecoveredTrigger(
                target=target, mask=_numpy(mask[0, 0]), pattern=_numpy(pattern[0])
            )
        offset = _numpy(mine[0][0])
        return RecoveredTrigger(
            target=target,
            mask=np.zeros(offset.shape[1:], dtype=np.float32),
            pattern=np.zeros_like(offset),
            offset=offset,
        )

    def notes(self, names: tuple[str, ...]) -> list[str]:
        """Which classes no perturbation could reach."""
        lost = [name for name, found in zip(names, self._found, strict=True) if not found]
        return [f"no {self.family} perturbation reached: {', '.join(lost[:5])}"] if lost else []


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
