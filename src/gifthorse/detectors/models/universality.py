"""Universality ratios: is one class much cheaper to reach with *one* change for all pictures?

Our own method (name and statistic are not from a paper; the inversion is that of Neural Cleanse,
Wang et al. 2019, with further families of perturbations).

For every class c and every family of perturbations with a size:
- U_c, the universal size: the smallest size found for which one perturbation sends at least
  ``goal`` of the pictures of other classes to c;
- D_c, the per-picture size: the median over pictures of the size that each would need on its own,
  to first order at no perturbation.
A class that is naturally easy to reach is easy both ways. A backdoor is cheap only universally, so
½ log D_c − log U_c stands out against the other classes of the same model, which are its control
group (why half: ``detectors/models/ratios.py``).

Families: ``additive`` (x + δ, L2 norm; watermarks and patches), ``masked`` (an opaque mask, L1
norm; small patches) and ``warp`` (a smooth displacement), which is judged by −log U_c alone. The
statistic is the largest moderated residual over classes and families, and of the first two families
together; Bonferroni pays for looking at all of them. Rules for colours were tried as a fourth
family and left out: clean networks differ so much in which class a tint leads to that they raised
false alarms (docs/results.md).

Many classes: a screening decides which are searched in full, by the first two families alone, and
they are compared with controls drawn at random beforehand (``detectors/models/screening.py``,
docs/decisions/0025).

Not seen: backdoors towards all classes alike (all-to-all) and source-specific ones; see
``untargeted``.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from gifthorse.core.errors import NotApplicableError
from gifthorse.core.exhibits import BarsExhibit, Exhibit
from gifthorse.core.rng import draw_seed
from gifthorse.core.types import (
    Evidence,
    IntArray,
    Need,
    Null,
    Progress,
    ScoreArray,
    Subject,
    Unit,
)
from gifthorse.detectors.models.inversion import Race
from gifthorse.detectors.models.pictures import class_bars, trigger_pictures
from gifthorse.detectors.models.ratios import (
    KINDS,
    Field,
    Kind,
    Result,
    Searched,
    per_picture_sizes,
    together,
)
from gifthorse.detectors.models.screening import Screening, shortlist
from gifthorse.detectors.models.smallest import Schedule, smallest
from gifthorse.detectors.models.trusted import Probe, probe_of
from gifthorse.metrics.outliers import ControlNull, ModeratedNull
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.folding import folded
from gifthorse.models.precision import half_precision

MANY_CELLS = 56
"""Among many classes, masks are constant on the cells of a grid of at most so many rows."""
MANY_PICTURES, MANY_ALONE = 40, 24
"""Pictures of the search, and of per-picture sizes, among many classes."""


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

    steps: int = 100
    samples: int = 100
    batch_size: int = 20
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
        classifier = folded(classifier)
        controls = self._controls(classifier.n_classes, rng)
        if controls is not None:
            # Tens of thousands of passes; controls and finalists are searched alike.
            classifier = half_precision(classifier)
        results, silent = self._results(classifier, probe, controls, rng, progress)
        every = [result.scores() for result in results]
        if controls is None:
            every.append(together(results))
        scores = np.max(every, axis=0)
        worst = int(scores.argmax())
        # A class may have a result in some families alone: of those that were reached, or screened.
        heard = [result for result in results if result.reached(worst)]
        heard.sort(key=lambda result: -result.scores()[worst])
        names = classifier.class_names
        triggers = [result.trigger(worst, probe.shape) for result in heard]
        exhibits: list[Exhibit] = [
            trigger_pictures(probe, trigger, names, f"The {result.kind.name} search")
            for trigger, result in zip(triggers, heard, strict=True)
        ]
        seen = np.unique(np.concatenate([result.classes for result in results]))
        exhibits.append(_bars(names, seen, scores[seen], worst, "moderated residual"))
        exhibits += [
            _bars(
                names,
                result.classes,
                result.universal,
                worst,
                f"{result.kind.name}: universal size",
                judged=False,
            )
            for result in heard
        ]
        said = [f"{r.kind.name} {r.scores()[worst]:.2f}" for r in heard]
        if controls is None:
            said.append(f"additive and masked together {every[-1][worst]:.2f}")
        notes = [f"residuals of {names[worst]!r} by family: {', '.join(said)}"]
        return Evidence(
            unit=Unit.CLASS,
            scores=scores,
            statistic=float(scores[worst]),
            suspects=np.array([worst], dtype=np.int64),
            triggers=tuple(triggers),
            exhibits=tuple(exhibits),
            notes=tuple(notes + silent + [note for r in results for note in r.notes(names)]),
        )

    def null(self, evidence: Evidence) -> Null:
        """Largest moderated t statistic over classes and families; see ``ControlNull`` for many."""
        if len(evidence.scores) > self.exhaustive:
            tests = sum(kind.basic for kind in KINDS)
            return ControlNull(n=len(evidence.scores), tests=tests, controls=self.controls)
        spreads = ", ".join(f"{kind.prior.spread:g} ({kind.name})" for kind in KINDS)
        return ModeratedNull(
            n=len(evidence.scores),
            tests=len(KINDS) + 1,
            weight=KINDS[0].prior.weight,
            priors=f"{spreads}, from clean development models",
        )

    def _results(
        self,
        classifier: ImageClassifier,
        probe: Probe,
        controls: IntArray | None,
        rng: np.random.Generator,
        progress: Progress,
    ) -> tuple[list[Result], list[str]]:
        """Of every family that has something to say, and why the others have not."""
        results, silent = [], []
        for kind in KINDS:
            if controls is not None and not kind.basic:
                continue
            try:
                results.append(self._examine(classifier, probe, kind, controls, rng, progress))
            except NotApplicableError as error:
                if kind.basic:
                    raise
                silent.append(str(error))
        return results, silent

    def _controls(self, classes: int, rng: np.random.Generator) -> IntArray | None:
        """Classes drawn before anything was looked at; None if every class is examined."""
        if classes <= self.exhaustive:
            return None
        return np.sort(rng.permutation(classes)[: self.controls]).astype(np.int64)

    def _examine(
        self,
        classifier: ImageClassifier,
        probe: Probe,
        kind: Kind,
        controls: IntArray | None,
        rng: np.random.Generator,
        progress: Progress,
    ) -> Result:
        family = kind.search(None if controls is None else MANY_CELLS)
        generator = torch.Generator().manual_seed(draw_seed(rng))
        heat = _Heat(
            classes=np.arange(classifier.n_classes, dtype=np.int64),
            probe=probe,
            alone=probe,
            steps=self.steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate * kind.speed,
            first_weight=kind.first_weight,
        )
        if controls is not None:
            heat = self._final(classifier, probe, family, kind, controls, rng, generator, progress)
        race = Race(
            classifier,
            heat.probe,
            family,
            learning_rate=heat.learning_rate,
            generator=generator,
            classes=heat.classes,
        )
        plan = Schedule(
            steps=heat.steps,
            batch_size=heat.batch_size,
            goal=self.goal,
            first_weight=heat.first_weight,
        )
        what = f"{kind.name} inversion"
        best, kept = smallest(race, plan, rng=rng, progress=progress, what=what)
        alone = None
        if kind.relative:
            alone = per_picture_sizes(classifier, heat.alone, kind.name, heat.classes)
        found = best.double().cpu().numpy()
        field = Field(classes=heat.classes, controls=controls, total=classifier.n_classes)
        return Result(kind, found, alone, kept, family, field)

    def _final(
        self,
        classifier: ImageClassifier,
        probe: Probe,
        family: Searched,
        kind: Kind,
        controls: IntArray,
        rng: np.random.Generator,
        generator: torch.Generator,
        progress: Progress,
    ) -> _Heat:
        """Controls and the classes that screening leaves, with fewer pictures and steps."""
        few = Probe(x=probe.x[:MANY_PICTURES], y=probe.y[:MANY_PICTURES])
        alone = Probe(x=probe.x[:MANY_ALONE], y=probe.y[:MANY_ALONE])
        # Sizes grow with the picture: areas in pixels, lengths with their root.
        pixels = probe.x.shape[-2] * probe.x.shape[-1] / 1024
        first = kind.first_weight / (pixels**0.5 if kind.name == "additive" else pixels)
        finalists = shortlist(
            classifier,
            few,
            family,
            Screening(keep=self.finalists, first_weight=first),
            lambda some: per_picture_sizes(classifier, alone, kind.name, some),
            rng=rng,
            generator=generator,
            progress=progress,
        )
        return _Heat(
            classes=np.union1d(finalists, controls),
            probe=few,
            alone=alone,
            steps=self.steps * 16 // 25,
            batch_size=max(1, self.batch_size * 2 // 5),
            learning_rate=self.learning_rate * 2,
            first_weight=first,
        )


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
