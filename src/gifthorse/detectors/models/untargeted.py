"""Is there one change that moves pictures *anywhere* far more cheaply than towards any one class?

Our own method; the inversion is that of Neural Cleanse (Wang et al. 2019) with an additive
perturbation. A backdoor that moves every class to another one (all-to-all) does not make any class
special, so comparing classes with each other cannot see it. But one small change then moves the
pictures of all classes away from where they belong, while moving them all to the same class takes
as much as ever.

Statistic: log(min_c U_c / U), U_c being the smallest L2 norm for which one δ sends ``goal`` of the
pictures of other classes to c, and U the smallest for which one δ moves ``goal`` of all pictures to
any class but their own (best of ``restarts``). A backdoor with one target makes both small.

How large the statistic is for clean models depends on how they were trained, and nothing within the
model says so: it is judged by a reference bank (``gifthorse calibrate``) or not at all.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from gifthorse.core.errors import NotApplicableError
from gifthorse.core.exhibits import BarsExhibit, PicturesExhibit, picture
from gifthorse.core.rng import draw_seed
from gifthorse.core.types import Evidence, FloatArray, Need, Null, Progress, Subject, Unit
from gifthorse.detectors.models.inversion import AWAY, Additive, Race
from gifthorse.detectors.models.smallest import Schedule, smallest
from gifthorse.detectors.models.trusted import Probe, probe_of
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.folding import folded

MOST_CLASSES = 32
_SHOWN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Untargeted:
    """Compares the smallest change towards anywhere with the smallest towards one class.

    Attributes:
        steps: Optimisation steps.
        samples: Trusted pictures used.
        batch_size: Pictures a step.
        goal: Share of pictures that a perturbation must move.
        restarts: Searches for a change towards anywhere; the smallest one counts.
        learning_rate: Of Adam.

    Raises:
        ValueError: An option out of range.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.LOGITS, Need.GRADIENTS, Need.TRUSTED})
    unit: ClassVar[Unit] = Unit.MODEL
    paper: ClassVar[str] = "our own; inversion after Wang et al. 2019, Neural Cleanse"

    steps: int = 100
    samples: int = 100
    batch_size: int = 20
    goal: float = 0.8
    restarts: int = 6
    learning_rate: float = 0.1

    def __post_init__(self) -> None:
        if min(self.steps, self.samples, self.batch_size, self.restarts) < 1:
            raise ValueError("steps, samples, batch_size and restarts must be at least 1")
        if not 0 < self.goal <= 1 or self.learning_rate <= 0:
            raise ValueError("goal must be in (0, 1] and learning_rate positive")

    def inspect(
        self, subject: Subject, *, rng: np.random.Generator, progress: Progress
    ) -> Evidence:
        """log(min_c U_c / U).

        Raises:
            NotApplicableError: No classifier or pictures, too few or too many classes, or no
                perturbation reaches its goal.
        """
        classifier, probe = probe_of(subject, samples=self.samples, rng=rng)
        if classifier.n_classes > MOST_CLASSES:
            raise NotApplicableError(
                f"the model has {classifier.n_classes} classes; this search is for at most "
                f"{MOST_CLASSES}"
            )
        goals = [*range(classifier.n_classes), *(AWAY for _ in range(self.restarts))]
        race = Race(
            folded(classifier),
            probe,
            Additive(),
            learning_rate=self.learning_rate,
            generator=torch.Generator().manual_seed(draw_seed(rng)),
            classes=np.array(goals, dtype=np.int64),
        )
        plan = Schedule(
            steps=self.steps, batch_size=self.batch_size, goal=self.goal, first_weight=1e-2
        )
        what = "untargeted inversion"
        best, kept = smallest(race, plan, rng=rng, progress=progress, what=what)
        sizes = best.double().cpu().numpy()
        towards, away = sizes[: classifier.n_classes], sizes[classifier.n_classes :]
        if not (np.isfinite(towards).any() and np.isfinite(away).any()):
            raise NotApplicableError(
                f"no perturbation moves {self.goal:.0%} of the pictures, so there is nothing to "
                "compare"
            )
        statistic = float(np.log(towards.min() / away.min()))
        offset = kept[0][classifier.n_classes + int(away.argmin())].cpu().numpy()
        return Evidence(
            unit=Unit.MODEL,
            scores=np.array([statistic]),
            statistic=statistic,
            exhibits=(
                _pictures(classifier, probe, np.asarray(offset, dtype=np.float32)),
                _bars(classifier.class_names, towards, float(away.min())),
            ),
        )

    def null(self, evidence: Evidence) -> Null:  # noqa: ARG002 - see above
        """There is none within the model.

        Raises:
            NotApplicableError: Always.
        """
        raise NotApplicableError(
            "no reference bank of clean models such as this one was given; gifthorse calibrate "
            "makes one"
        )


def _bars(names: tuple[str, ...], towards: FloatArray, away: float) -> BarsExhibit:
    reached = np.isfinite(towards)
    labels = ["anywhere", *(name for name, found in zip(names, reached, strict=True) if found)]
    return BarsExhibit(
        title="The smallest change that moves the pictures",
        caption="L2 norms: to any class but their own, and to each class.",
        labels=tuple(labels),
        values=tuple(float(f"{value:.5g}") for value in (away, *towards[reached])),
        value_name="L2 norm",
        highlight=(0,),
        judged=False,
    )


def _pictures(classifier: ImageClassifier, probe: Probe, offset: FloatArray) -> PicturesExhibit:
    most = float(np.abs(offset).max()) or 1.0
    clean = probe.x[:_SHOWN]
    moved = (clean + torch.from_numpy(offset).to(clean.device)).clamp(0, 1)
    with torch.inference_mode():
        ends = classifier.logits(moved).argmax(1).tolist()
    names = classifier.class_names
    shown = [picture(0.5 + offset / (2 * most), f"added, × {1 / most:.1f}")]
    pairs = zip(moved.cpu().numpy(), probe.y[:_SHOWN].tolist(), ends, strict=True)
    shown += [picture(after, f"{names[y]} → {names[end]}") for after, y, end in pairs]
    return PicturesExhibit(
        title="One change for all pictures",
        caption="The smallest that moves trusted pictures to any class but their own.",
        pictures=tuple(shown),
    )
