"""BTI-DBF: separate the features that carry the class, and search in what is left.

Xu, Huang, Li, Qin & Ren 2024, "Towards Reliable and Efficient Backdoor Trigger Inversion via
Decoupling Benign Features", ICLR, sections 4.1 and 4.2: a mask over the last feature map divides
benign features from others; a generator is trained to change the others as much as it can, and the
benign ones and the picture little; the class in which most of its pictures end is the target. One
generator serves all classes, so the cost does not grow with their number.

Decisions and deviations:

- The paper names the target of a model that is known to be planted. To judge a model, the share of
  pictures that end in each class, averaged over ``restarts``, is compared between classes; its
  spread is never taken to be less than what makes a majority (one half) over classes at 0 just
  significant at 2 %.
- The generator is a small residual network, where the authors pretrain a U-Net to be the identity;
  its bound is in pixels (root mean square) and holds by construction: the authors' switch between
  two losses left it at the identity here.
- Batch normalisation keeps its statistics while the mask is learned; features are in units of
  their root mean square over the trusted pictures.
- ``triggers`` holds the mean of what the generator adds, if that alone sends most pictures to the
  class, since other methods take triggers that do not depend on the picture.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from gifthorse.core.types import (
    Evidence,
    Need,
    Null,
    Progress,
    RecoveredTrigger,
    ScoreArray,
    Subject,
    Unit,
)
from gifthorse.detectors.models.pictures import class_bars, painted_pictures
from gifthorse.detectors.models.trusted import Probe, probe_of
from gifthorse.metrics.outliers import StudentisedNull, spread_for, standing_out
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.decoupling import (
    Painter,
    Search,
    backdoor_painter,
    benign_mask,
    last_map,
    shares,
)

_MAJORITY = 0.5
_RATE = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class BtiDbf:
    """Inversion by decoupled benign features.

    Attributes:
        mask_steps: Steps for the mask over features, at least 1.
        steps: Steps for the generator, at least 1.
        restarts: Masks and generators, at least 1.
        samples: Trusted pictures used, at least 1.
        batch_size: Pictures a step, at least 2.
        reach: Root mean square of the change of a pixel, in (0, 1].

    Raises:
        ValueError: An option out of range.
    """

    needs: ClassVar[frozenset[Need]] = frozenset(
        {Need.LOGITS, Need.GRADIENTS, Need.WEIGHTS, Need.TRUSTED}
    )
    unit: ClassVar[Unit] = Unit.CLASS
    paper: ClassVar[str] = "Xu et al. 2024, BTI-DBF, ICLR"

    mask_steps: int = 150
    steps: int = 300
    restarts: int = 3
    samples: int = 200
    batch_size: int = 32
    reach: float = 0.1

    def __post_init__(self) -> None:
        for name in ("mask_steps", "steps", "restarts", "samples"):
            if not 1 <= getattr(self, name) < 2**31:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 2 <= self.batch_size < 2**31:
            raise ValueError(f"batch_size must be at least 2, got {self.batch_size}")
        if not 0 < self.reach <= 1:
            raise ValueError(f"reach must be in (0, 1], got {self.reach}")

    def inspect(
        self, subject: Subject, *, rng: np.random.Generator, progress: Progress
    ) -> Evidence:
        """Residual of every class's share of the painted pictures; the largest is the statistic.

        Raises:
            NotApplicableError: No classifier with feature maps, no trusted pictures that fit, or
                fewer than four classes.
        """
        classifier, probe = probe_of(subject, samples=self.samples, rng=rng)
        found, painters = [], []
        for done in range(self.restarts):
            painters.append(self._painter(classifier, probe, rng))
            found.append(shares(classifier, painters[-1], probe.x, probe.y))
            progress(done + 1, self.restarts, "decoupling and painting")
        share = np.mean(found, axis=0)
        floor = spread_for(_MAJORITY, n=len(share), false_alarm_rate=_RATE)
        scores = standing_out(share, least_spread=floor)
        order = np.argsort(-scores, kind="stable")
        worst = int(order[0])
        best = painters[int(np.argmax([one[worst] for one in found]))]
        names = classifier.class_names
        return Evidence(
            unit=Unit.CLASS,
            scores=scores,
            statistic=float(scores.max()),
            suspects=order[:1].astype(np.int64),
            triggers=_fixed(classifier, probe, best, worst),
            exhibits=(
                painted_pictures(probe, best, names[worst]),
                class_bars(names, scores, worst, "residual of the share of painted pictures"),
                class_bars(names, share, worst, "share of painted pictures", judged=False),
            ),
            notes=_spread_of(found, worst, names[worst]),
        )

    def null(self, evidence: Evidence) -> Null:
        """Largest of as many studentised residuals as there are classes."""
        return StudentisedNull(len(evidence.scores))

    def _painter(
        self, classifier: ImageClassifier, probe: Probe, rng: np.random.Generator
    ) -> Painter:
        search = Search(
            mask_steps=self.mask_steps,
            steps=self.steps,
            batch_size=self.batch_size,
            reach=self.reach,
        )
        layer = last_map(classifier)
        mask = benign_mask(classifier, layer, probe.x, probe.y, search, rng=rng)
        return backdoor_painter(classifier, layer, mask, probe.x, search, rng=rng)


def _fixed(
    classifier: ImageClassifier, probe: Probe, painter: Painter, target: int
) -> tuple[RecoveredTrigger, ...]:
    """What the generator adds on average, if most pictures obey it."""
    with torch.inference_mode():
        added = (painter(probe.x) - probe.x).mean(0)
        others = probe.y != target
        if not bool(others.any()):
            return ()
        answers = classifier.logits((probe.x[others] + added).clamp(0, 1)).argmax(1)
    if float((answers == target).double().mean()) <= _MAJORITY:
        return ()
    _, height, width = added.shape
    return (
        RecoveredTrigger(
            target=target,
            mask=np.zeros((height, width), dtype=np.float32),
            pattern=np.zeros(tuple(added.shape), dtype=np.float32),
            offset=added.cpu().numpy(),
        ),
    )


def _spread_of(found: list[ScoreArray], worst: int, name: str) -> tuple[str, ...]:
    """How the restarts agree about the class pointed to."""
    seen = ", ".join(f"{one[worst]:.2f}" for one in found)
    return (f"share of painted pictures that end in {name}, restart by restart: {seen}",)
