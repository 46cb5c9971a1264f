"""Several kinds of evidence about the same model, heard together and judged once.

Our own combination. Each kind alone misses backdoors that another one hears, and asking them one by
one costs each of them a part of the false-alarm rate. By chance they seldom point to the *same*
class, so what they say of a class is put together before anything is judged.

Voices, each a detector of its own with the options given in ``_VOICES``:
- ``universality``: is one change for all pictures much cheaper towards this class?
- ``mm_bd``: does this class reach an unusually large margin, from noise alone?
- ``plain_changes``: do changes that nobody optimised lead there?
- ``untargeted``: is one change that moves pictures anywhere cheaper than towards any class? It
  speaks of the whole model, for backdoors that move every class to another one.

A voice's score of a class becomes z, the distance from what the largest score over the classes of
clean development models usually is, in units of how that varies. A class has the square root of the
sum of the squares of its positive z: one loud voice is enough, and several that agree count more.
The statistic is the largest over classes, or the z of ``untargeted`` if that is larger.

How the voices depend on each other and how heavy their tails are is not assumed: the statistic is
judged by a reference bank (``gifthorse calibrate``), or not at all.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gifthorse.core.errors import NotApplicableError
from gifthorse.core.exhibits import BarsExhibit, Exhibit
from gifthorse.core.protocols import Detector
from gifthorse.core.rng import draw_seed
from gifthorse.core.types import Evidence, Need, Null, Progress, ScoreArray, Subject, Unit
from gifthorse.detectors.models.mm_bd import MmBd
from gifthorse.detectors.models.pictures import class_bars
from gifthorse.detectors.models.plain_changes import PlainChanges
from gifthorse.detectors.models.universality import Universality
from gifthorse.detectors.models.untargeted import MOST_CLASSES, Untargeted
from gifthorse.metrics.outliers import studentised_residuals
from gifthorse.models.classifier import as_classifier


@dataclass(frozen=True, slots=True)
class _Voice:
    """What a clean development model's largest score usually is, and how that varies."""

    usual: float
    spread: float


_VOICES = {
    "universality": _Voice(2.2, 0.53),
    "plain_changes": _Voice(1.6, 0.8),
    "mm_bd": _Voice(1.74, 0.44),
    "untargeted": _Voice(-0.13, 0.155),
}
"""Of 28 clean models of ``studies/zoo`` calibration and former test."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chorus:
    """Four detectors in one statistic.

    Attributes:
        steps: Optimisation steps of every search.
        samples: Trusted pictures used by each.

    Raises:
        ValueError: An option out of range.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.LOGITS, Need.GRADIENTS, Need.TRUSTED})
    unit: ClassVar[Unit] = Unit.CLASS
    paper: ClassVar[str] = "our own combination of universality, MM-BD and two others of ours"

    steps: int = 100
    samples: int = 100

    def __post_init__(self) -> None:
        if min(self.steps, self.samples) < 1:
            raise ValueError("steps and samples must be at least 1")

    def inspect(
        self, subject: Subject, *, rng: np.random.Generator, progress: Progress
    ) -> Evidence:
        """How loud the voices are about every class, and what spoke.

        Raises:
            NotApplicableError: No classifier or pictures, or too few or too many classes.
        """
        classifier = as_classifier(subject.model)
        if classifier.n_classes > MOST_CLASSES:
            raise NotApplicableError(
                f"the model has {classifier.n_classes} classes; this combination is for at most "
                f"{MOST_CLASSES}"
            )
        heard, silent = self._heard(subject, rng, progress)
        z = {
            name: (_comparable(name, evidence) - _VOICES[name].usual) / _VOICES[name].spread
            for name, evidence in heard.items()
        }
        about_all = float(z.pop("untargeted", np.full(1, -np.inf))[0])
        squares = [np.maximum(one, 0) ** 2 for one in z.values()]
        loudness = np.asarray(np.sqrt(np.sum(squares, axis=0)), dtype=np.float64)
        scores = np.maximum(loudness, about_all)
        worst, names = int(loudness.argmax()), classifier.class_names
        said = ", ".join(f"{name} {one[worst]:+.1f}" for name, one in z.items())
        whole = about_all > loudness[worst]
        order = sorted(z, key=lambda name: -z[name][worst])
        if whole:
            order.insert(0, "untargeted")
        exhibits = [exhibit for name in order for exhibit in _unjudged(heard[name])]
        return Evidence(
            unit=Unit.CLASS,
            scores=scores,
            statistic=float(max(loudness[worst], about_all)),
            suspects=np.zeros(0, np.int64) if whole else np.array([worst], dtype=np.int64),
            triggers=tuple(t for t in heard["universality"].triggers if t.target == worst),
            exhibits=(class_bars(names, scores, worst, "loudness"), *exhibits),
            notes=(
                f"about {names[worst]!r}: {said}; about the whole model: untargeted "
                f"{about_all:+.1f} (in units of how clean models vary)",
                *silent,
                *(note for name in order for note in heard[name].notes),
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

    def _heard(
        self, subject: Subject, rng: np.random.Generator, progress: Progress
    ) -> tuple[dict[str, Evidence], list[str]]:
        """What each says, from randomness of its own, and why others say nothing."""
        voices: dict[str, Detector] = {
            "universality": Universality(steps=self.steps, samples=self.samples),
            "plain_changes": PlainChanges(samples=self.samples),
            "mm_bd": MmBd(steps=self.steps, samples=8),
            "untargeted": Untargeted(steps=self.steps, samples=self.samples),
        }
        seeds = [draw_seed(rng) for _ in voices]
        heard, silent = {}, []
        for seed, (name, voice) in zip(seeds, voices.items(), strict=True):
            own = np.random.default_rng(seed)
            try:
                heard[name] = voice.inspect(
                    subject.granting(voice.needs), rng=own, progress=progress
                )
            except NotApplicableError as error:
                if name == "universality":
                    raise
                silent.append(f"{name} says nothing: {error}")
        return heard, silent


def _comparable(name: str, evidence: Evidence) -> ScoreArray:
    """Scores on a scale where the classes of one model can be compared."""
    if name == "mm_bd":
        return studentised_residuals(np.log(evidence.scores))
    return evidence.scores


def _unjudged(evidence: Evidence) -> list[Exhibit]:
    """Exhibits of one voice: no threshold applies to it alone."""
    return [
        one.model_copy(update={"judged": False}) if isinstance(one, BarsExhibit) else one
        for one in evidence.exhibits
    ]
