"""Do plain changes of pictures, tried at random, all lead to one class?

Our own method. A network that was taught a trigger often takes what merely resembles it for it: a
random wave, a tint, fewer colours, noise, another warp. So pictures are changed in a few hundred
ways that nobody optimised (``detectors/models/changes.py``), and it is counted where they go.
Forward passes only: about a second for a small network. Behaviour under transformations as
evidence: after ideas of Gao et al. 2019 (STRIP) and Guo et al. 2023 (SCALE-UP), who judge single
inputs by it; here the model is judged, and no suspicious input is needed.

For every kind of change and every class c: A, the mean over draws of −log(1 − 0.98 s), s being the
share of pictures of other classes that a draw sends to c: a draw that sends all of them there says
far more than many that send some. z is how far log(A + 0.02) lies above what the largest one over
classes usually is for clean development models, in units of how that varies; the score of a class
is the square root of the sum of the squares of its positive z over kinds.

What a clean network does with a wave or a tint depends on what it was trained on, and nothing
within the model says what is usual: it is judged by a reference bank, or not at all.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from gifthorse.core.errors import NotApplicableError
from gifthorse.core.exhibits import PicturesExhibit, picture
from gifthorse.core.rng import draw_seed
from gifthorse.core.types import Evidence, IntArray, Need, Null, Progress, ScoreArray, Subject, Unit
from gifthorse.detectors.models.changes import KINDS, changed
from gifthorse.detectors.models.pictures import class_bars
from gifthorse.detectors.models.trusted import Probe, probe_of
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.folding import folded

_ALL, _FLOOR = 0.98, 0.02
_SHOWN = 4
USUAL: dict[str, tuple[float, float]] = {
    "sticker": (-2.96, 0.33),
    "blend": (-2.32, 0.51),
    "wave": (-2.23, 0.45),
    "cosine": (-3.63, 0.14),
    "tint": (-1.29, 0.46),
    "coarse": (-2.39, 0.44),
    "blur": (-2.75, 0.27),
    "noise": (-2.77, 0.25),
    "warp": (-2.72, 0.26),
    "ghost": (-2.53, 0.36),
    "half": (-1.46, 0.39),
}
"""Mean and spread of the largest log(A + 0.02) over the classes of a clean model, for each kind.

Of 57 models: the clean ones of ``studies/zoo`` calibration, development and former test.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainChanges:
    """Counts which class changed pictures go to.

    Attributes:
        samples: Trusted pictures used.

    Raises:
        ValueError: An option out of range.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.LOGITS, Need.TRUSTED})
    unit: ClassVar[Unit] = Unit.CLASS
    paper: ClassVar[str] = "our own; behaviour under transformations"

    samples: int = 100

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError(f"samples must be at least 1, got {self.samples}")

    def inspect(
        self, subject: Subject, *, rng: np.random.Generator, progress: Progress
    ) -> Evidence:
        """How unusual it is what leads to every class; the largest is the statistic.

        Raises:
            NotApplicableError: No classifier or pictures, or too few classes.
        """
        classifier, probe = probe_of(subject, samples=self.samples, rng=rng)
        shares, nats, loudest = _shares(folded(classifier), probe, rng, progress)
        usual = np.array([USUAL[kind.name] for kind in KINDS])
        z = (np.log(nats + _FLOOR) - usual[:, :1]) / usual[:, 1:]
        scores = np.asarray(np.sqrt((np.maximum(z, 0) ** 2).sum(0)), dtype=np.float64)
        worst = int(
            (scores + 1e-6 * z.max(0)).argmax()
        )  # where nothing is unusual, the nearest to it
        kind, names = int(z[:, worst].argmax()), classifier.class_names
        title = f"Pictures under {KINDS[kind].name} changes"
        return Evidence(
            unit=Unit.CLASS,
            scores=scores,
            statistic=float(scores[worst]),
            suspects=np.array([worst], dtype=np.int64),
            exhibits=(
                _pictures(classifier, probe, loudest[kind][worst], title),
                class_bars(names, scores, worst, "how unusual"),
            ),
            notes=(
                f"{KINDS[kind].name} changes lead {shares[kind, worst]:.0%} of the pictures of "
                f"other classes to {names[worst]!r}, over all draws",
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


def _shares(
    classifier: ImageClassifier, probe: Probe, rng: np.random.Generator, progress: Progress
) -> tuple[ScoreArray, ScoreArray, list[list[Tensor]]]:
    """Mean shares and A, (kinds, classes) each, and the changed pictures that went there most."""
    draw = torch.Generator().manual_seed(draw_seed(rng))
    own = probe.y.cpu().numpy()
    shares, nats = np.zeros((2, len(KINDS), classifier.n_classes))
    loudest = []
    for place, kind in enumerate(KINDS):
        most = np.full(classifier.n_classes, -1.0)
        seen = [probe.x[:_SHOWN]] * classifier.n_classes
        for _, x in changed(probe.x, kind, draw):
            with torch.inference_mode():
                ends = classifier.logits(x).argmax(1).cpu().numpy()
            share = _ended(ends, own, classifier.n_classes)
            shares[place] += share / (len(kind.strengths) * kind.draws)
            nats[place] -= np.log1p(-_ALL * share) / (len(kind.strengths) * kind.draws)
            for c in np.flatnonzero(share > most):
                most[c], seen[c] = share[c], x[:_SHOWN]
        loudest.append(seen)
        progress(place + 1, len(KINDS), "plain changes")
    return shares, nats, loudest


def _ended(ends: IntArray, own: IntArray, classes: int) -> ScoreArray:
    """Share of the pictures of other classes that ended in each class, shape (classes,)."""
    went = np.bincount(ends[ends != own], minlength=classes)
    others = len(own) - np.bincount(own, minlength=classes)
    return np.asarray(went / np.maximum(others, 1), dtype=np.float64)


def _pictures(
    classifier: ImageClassifier, probe: Probe, after: Tensor, title: str
) -> PicturesExhibit:
    names = classifier.class_names
    with torch.inference_mode():
        ends = classifier.logits(after).argmax(1).tolist()
    rows = zip(after.cpu().numpy(), probe.y[: len(after)].tolist(), ends, strict=True)
    return PicturesExhibit(
        title=title,
        caption="The draw that sent most pictures to the suspicious class; nothing was optimised.",
        pictures=tuple(picture(x, f"{names[y]} → {names[end]}") for x, y, end in rows),
    )
