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

Many classes: the easiest sinks are found without going through the classes, by the first two
families alone, and the easiest is compared with the next ones (``detectors/models/many.py``,
docs/decisions/0025).

Not seen: backdoors towards all classes alike (all-to-all) and source-specific ones; see
``untargeted``.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from gifthorse.core.errors import NotApplicableError
from gifthorse.core.exhibits import Exhibit
from gifthorse.core.rng import draw_seed
from gifthorse.core.types import (
    Evidence,
    Need,
    Null,
    Progress,
    Subject,
    Unit,
)
from gifthorse.detectors.models.inversion import Race
from gifthorse.detectors.models.many import among_many, null_of_many
from gifthorse.detectors.models.pictures import class_bars, trigger_pictures
from gifthorse.detectors.models.ratios import (
    KINDS,
    Kind,
    Result,
    per_picture_sizes,
    together,
)
from gifthorse.detectors.models.smallest import Schedule, smallest
from gifthorse.detectors.models.trusted import Probe, probe_of
from gifthorse.metrics.outliers import ModeratedNull
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.folding import folded


@dataclass(frozen=True, slots=True, kw_only=True)
class Universality:
    """Compares the smallest universal perturbation of every class with per-picture ones.

    Attributes:
        steps: Optimisation steps a family.
        samples: Trusted pictures used.
        batch_size: Pictures a step.
        goal: Share of pictures of other classes that one perturbation must send to the class.
        learning_rate: Of Adam.
        exhaustive: With at most so many classes each is searched. With more only ``goal`` counts;
            see ``detectors/models/many.py``.
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
        classifier = folded(classifier)
        if classifier.n_classes > self.exhaustive:
            return among_many(classifier, probe, goal=self.goal, rng=rng, progress=progress)
        results, silent = self._results(classifier, probe, rng, progress)
        every = [result.scores() for result in results] + [together(results)]
        scores = np.max(every, axis=0)
        worst = int(scores.argmax())
        # A class may have a result in some families alone: of those that reached it.
        heard = [result for result in results if result.reached(worst)]
        heard.sort(key=lambda result: -result.scores()[worst])
        names = classifier.class_names
        triggers = [result.trigger(worst, probe.shape) for result in heard]
        exhibits: list[Exhibit] = [
            trigger_pictures(probe, trigger, names, f"The {result.kind.name} search")
            for trigger, result in zip(triggers, heard, strict=True)
        ]
        exhibits.append(class_bars(names, scores, worst, "moderated residual"))
        exhibits += [
            class_bars(
                names, result.universal, worst, f"{result.kind.name}: universal size", judged=False
            )
            for result in heard
        ]
        said = [f"{r.kind.name} {r.scores()[worst]:.2f}" for r in heard]
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
        """Largest moderated t statistic over classes and families; see ``GapNull`` for many."""
        if len(evidence.scores) > self.exhaustive:
            return null_of_many()
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
        rng: np.random.Generator,
        progress: Progress,
    ) -> tuple[list[Result], list[str]]:
        """Of every family that has something to say, and why the others have not."""
        results, silent = [], []
        for kind in KINDS:
            try:
                results.append(self._examine(classifier, probe, kind, rng, progress))
            except NotApplicableError as error:
                if kind.basic:
                    raise
                silent.append(str(error))
        return results, silent

    def _examine(
        self,
        classifier: ImageClassifier,
        probe: Probe,
        kind: Kind,
        rng: np.random.Generator,
        progress: Progress,
    ) -> Result:
        family = kind.search()
        race = Race(
            classifier,
            probe,
            family,
            learning_rate=self.learning_rate * kind.speed,
            generator=torch.Generator().manual_seed(draw_seed(rng)),
        )
        plan = Schedule(
            steps=self.steps,
            batch_size=self.batch_size,
            goal=self.goal,
            first_weight=kind.first_weight,
        )
        what = f"{kind.name} inversion"
        best, kept = smallest(race, plan, rng=rng, progress=progress, what=what)
        alone = None
        if kind.relative:
            alone = per_picture_sizes(classifier, probe, kind.name)
        return Result(kind, best.double().cpu().numpy(), alone, kept, family)
