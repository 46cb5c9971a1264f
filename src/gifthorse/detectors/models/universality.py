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

Many classes: a screening decides which are searched in full, and they are compared with controls
drawn at random beforehand (``detectors/models/screening.py``, docs/decisions/0025).

Not seen: backdoors towards all classes alike (all-to-all), source-specific ones, warps.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from gifthorse.core.errors import NotApplicableError
from gifthorse.core.exhibits import BarsExhibit, Exhibit
from gifthorse.core.rng import draw_seed
from gifthorse.core.types import (
    Evidence,
    FloatArray,
    IntArray,
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
from gifthorse.detectors.models.screening import Screening, shortlist
from gifthorse.detectors.models.trusted import Probe, probe_of
from gifthorse.metrics.outliers import (
    ControlNull,
    ModeratedNull,
    SpreadPrior,
    control_residuals,
    moderated_residuals,
)
from gifthorse.models.classifier import ImageClassifier

FAMILIES = ("additive", "masked")
PRIORS = {
    "additive": SpreadPrior(spread=0.12, weight=8.0),
    "masked": SpreadPrior(spread=0.27, weight=8.0),
}
"""Root mean square over clean development models (seeds and data in docs/results.md), with as much
weight as the eight degrees of freedom of a ten-class model."""

MANY_CELLS = 56
"""Among many classes, masks are constant on the cells of a grid of at most so many rows."""
MANY_PICTURES, MANY_ALONE = 40, 24
"""Pictures of the search, and of per-picture sizes, among many classes."""
LEAST_REACHED = 0.75
"""Share of the controls that must be reached, or their spread says nothing."""

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
        exhaustive: With at most so many classes all are searched in full. With more, ``controls``
            classes drawn beforehand are, and the ``finalists`` of a screening; see
            docs/decisions/0025-many-classes.md.
        controls: At least 4.
        finalists: At most 16.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.LOGITS, Need.GRADIENTS, Need.TRUSTED})
    unit: ClassVar[Unit] = Unit.CLASS
    paper: ClassVar[str] = "our own; inversion after Wang et al. 2019, Neural Cleanse"

    steps: int = 160
    samples: int = 100
    batch_size: int = 40
    goal: float = 0.9
    learning_rate: float = 0.1
    exhaustive: int = 32
    controls: int = 24
    finalists: int = 8

    def __post_init__(self) -> None:
        if min(self.steps, self.samples, self.batch_size) < 1:
            raise ValueError("steps, samples and batch_size must be at least 1")
        if not 0 < self.goal <= 1 or self.learning_rate <= 0:
            raise ValueError("goal must be in (0, 1] and learning_rate positive")
        if not 4 <= self.controls <= self.exhaustive or not 1 <= self.finalists <= 16:
            raise ValueError("controls must be 4 to exhaustive, finalists 1 to 16")

    def inspect(
        self, subject: Subject, *, rng: np.random.Generator, progress: Progress
    ) -> Evidence:
        """The larger residual of both families for every class; the largest is the statistic."""
        classifier, probe = probe_of(subject, samples=self.samples, rng=rng)
        controls = self._controls(classifier.n_classes, rng)
        results = [
            self._examine(classifier, probe, name, controls, rng, progress) for name in FAMILIES
        ]
        scores = np.maximum(results[0].scores(), results[1].scores())
        worst = int(scores.argmax())
        # A class that only one family's screening let through has no result in the other.
        heard = [result for result in results if worst in result.classes]
        heard.sort(key=lambda result: -result.scores()[worst])
        names = classifier.class_names
        exhibits: list[Exhibit] = [
            trigger_pictures(probe, result.trigger(worst), names, f"The {result.family} search")
            for result in heard
        ]
        seen = np.unique(np.concatenate([result.classes for result in results]))
        exhibits.append(_bars(names, seen, scores[seen], worst, "moderated residual"))
        exhibits += [
            _bars(
                names,
                result.classes,
                result.universal,
                worst,
                f"{result.family}: universal size",
                judged=False,
            )
            for result in heard
        ]
        return Evidence(
            unit=Unit.CLASS,
            scores=scores,
            statistic=float(scores[worst]),
            suspects=np.array([worst], dtype=np.int64),
            triggers=tuple(result.trigger(worst) for result in heard),
            exhibits=tuple(exhibits),
            notes=tuple(note for result in results for note in result.notes(names)),
        )

    def null(self, evidence: Evidence) -> Null:
        """Largest moderated t statistic over classes and families; see ``ControlNull`` for many."""
        if len(evidence.scores) > self.exhaustive:
            return ControlNull(n=len(evidence.scores), tests=len(FAMILIES), controls=self.controls)
        spreads = ", ".join(f"{prior.spread:g} ({name})" for name, prior in PRIORS.items())
        return ModeratedNull(
            n=len(evidence.scores),
            tests=len(FAMILIES),
            weight=PRIORS["additive"].weight,
            priors=f"{spreads}, from clean development models",
        )

    def _controls(self, classes: int, rng: np.random.Generator) -> IntArray | None:
        """Classes drawn before anything was looked at; None if every class is examined."""
        if classes <= self.exhaustive:
            return None
        return np.sort(rng.permutation(classes)[: self.controls]).astype(np.int64)

    def _examine(
        self,
        classifier: ImageClassifier,
        probe: Probe,
        name: str,
        controls: IntArray | None,
        rng: np.random.Generator,
        progress: Progress,
    ) -> "_Result":
        cells = None if controls is None else MANY_CELLS
        family = Additive() if name == "additive" else Masked(start_opacity=0.12, cells=cells)
        generator = torch.Generator().manual_seed(draw_seed(rng))
        first = 1e-2 if name == "additive" else 1e-3
        heat = _Heat(
            classes=np.arange(classifier.n_classes, dtype=np.int64),
            probe=probe,
            alone=probe,
            steps=self.steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            first_weight=first,
        )
        if controls is not None:
            heat = self._final(classifier, probe, family, name, controls, rng, generator, progress)
        race = Race(
            classifier,
            heat.probe,
            family,
            learning_rate=heat.learning_rate,
            generator=generator,
            classes=heat.classes,
        )
        best, kept = self._run(race, heat, rng, name, progress)
        alone = per_picture_sizes(classifier, heat.alone, name, heat.classes)
        found = best.double().cpu().numpy()
        field = _Field(classes=heat.classes, controls=controls, total=classifier.n_classes)
        return _Result(name, found, alone, kept, family, field)

    def _final(
        self,
        classifier: ImageClassifier,
        probe: Probe,
        family: Additive | Masked,
        name: str,
        controls: IntArray,
        rng: np.random.Generator,
        generator: torch.Generator,
        progress: Progress,
    ) -> "_Heat":
        """Controls and the classes that screening leaves, with fewer pictures and steps."""
        few = Probe(x=probe.x[:MANY_PICTURES], y=probe.y[:MANY_PICTURES])
        alone = Probe(x=probe.x[:MANY_ALONE], y=probe.y[:MANY_ALONE])
        # Sizes grow with the picture: areas in pixels, lengths with their root.
        pixels = probe.x.shape[-2] * probe.x.shape[-1] / 1024
        first = 1e-2 / pixels**0.5 if name == "additive" else 1e-3 / pixels
        finalists = shortlist(
            classifier,
            few,
            family,
            Screening(keep=self.finalists, first_weight=first),
            lambda some: per_picture_sizes(classifier, alone, name, some),
            rng=rng,
            generator=generator,
            progress=progress,
        )
        return _Heat(
            classes=np.union1d(finalists, controls),
            probe=few,
            alone=alone,
            steps=self.steps * 2 // 5,
            batch_size=max(1, self.batch_size // 5),
            learning_rate=self.learning_rate * 2,
            first_weight=first,
        )

    def _run(
        self, race: Race, heat: "_Heat", rng: np.random.Generator, name: str, progress: Progress
    ) -> tuple[Tensor, list[Tensor]]:
        """Smallest sizes that reached the goal (infinite if none), and their parameters."""
        weights = torch.full((len(heat.classes),), heat.first_weight, device=race.classes.device)
        batches = Batches(len(heat.probe.x), heat.batch_size, rng)
        best = torch.full_like(weights, float("inf"))
        kept = [p.detach().clone() for p in race.parameters]
        for step in range(1, heat.steps + 1):
            hits, _ = race.step(batches.draw(), weights)
            weights = torch.where(hits >= self.goal, weights * _UP, weights * _DOWN)
            checked = step % _CHECK_EVERY == 0 and step >= heat.steps // 3
            if checked or step == heat.steps:
                hits, sizes = race.success()
                better = (hits >= self.goal) & (sizes < best)
                best = torch.where(better, sizes, best)
                for old, new in zip(kept, race.parameters, strict=True):
                    old[better] = new.detach()[better]
            progress(step, heat.steps, f"{name} inversion")
        return best, kept


@dataclass(frozen=True, slots=True, kw_only=True)
class _Heat:
    """Which classes are searched, on which pictures, and how long."""

    classes: IntArray
    probe: Probe
    alone: Probe
    steps: int
    batch_size: int
    learning_rate: float
    first_weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Field:
    """Examined classes (sorted), those drawn as controls (None: all are), and how many exist."""

    classes: IntArray
    controls: IntArray | None
    total: int


class _Result:
    """What one family found."""

    def __init__(
        self,
        family: str,
        universal: ScoreArray,
        alone: ScoreArray,
        parameters: list[Tensor],
        searched: Additive | Masked,
        field: _Field,
    ) -> None:
        found = np.isfinite(universal)
        chosen = np.ones(len(found), bool)
        if field.controls is not None:
            chosen = np.isin(field.classes, field.controls)
        enough = 3 if field.controls is None else LEAST_REACHED * chosen.sum()
        if (found & chosen).sum() < enough:
            raise NotApplicableError(
                f"no {family} perturbation reaches the goal for {int((~found & chosen).sum())} of "
                f"{int(chosen.sum())} classes, so classes cannot be compared"
            )
        # A class that nothing reaches is as far from suspicious as the hardest one that is reached.
        self.universal = np.where(found, universal, universal[found].max())
        self.family, self.classes, self._found = family, field.classes, found
        self._searched, self._parameters, self._total = searched, parameters, field.total
        self.ratio = np.log(alone) - np.log(self.universal.clip(1e-9))
        if field.controls is None:
            self.residuals = moderated_residuals(self.ratio, PRIORS[family])
        else:
            self.residuals = control_residuals(self.ratio, chosen)

    def scores(self) -> ScoreArray:
        """Residuals of all classes; a dropped one gets the least suspicious that was measured."""
        scores = np.full(self._total, self.residuals.min())
        scores[self.classes] = self.residuals
        return scores

    def trigger(self, target: int) -> RecoveredTrigger:
        """The best perturbation towards an examined class."""
        place = int(np.searchsorted(self.classes, target))
        mine = [p[place : place + 1] for p in self._parameters]
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
        """Which classes no perturbation could reach, and how many were dropped."""
        pairs = zip(self.classes, self._found, strict=True)
        lost = [names[c] for c, found in pairs if not found]
        said = [f"no {self.family} perturbation reached: {', '.join(lost[:5])}"] if lost else []
        if len(self.classes) < self._total:
            said.append(
                f"{self.family}: {len(self.classes)} of {self._total} classes were searched in "
                "full, the others dropped by screening"
            )
        return said


def _bars(
    names: tuple[str, ...],
    classes: IntArray,
    values: ScoreArray,
    worst: int,
    value_name: str,
    *,
    judged: bool = True,
) -> BarsExhibit:
    """One bar for every examined class."""
    place = int(np.searchsorted(classes, worst))
    return class_bars([names[c] for c in classes], values, place, value_name, judged=judged)


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
