"""MM-BD: a backdoor's target class can reach an unusually large margin. Needs no pictures.

Wang, Xiang, Miller & Kesidis 2024, "MM-BD: Post-Training Detection of Backdoor Attacks with
Arbitrary Backdoor Pattern Types Using a Maximum Margin Statistic", IEEE S&P, arXiv:2205.06900,
section 3: for every class, the largest z_c − max_{k≠c} z_k that gradient ascent finds over random
pictures; a gamma distribution is fitted to all classes but the largest, p = 1 − G(largest)ᴷ.

Decisions and deviations:

- All classes are searched in one batch; Adam on pixels kept in [0, 1] instead of plain gradient
  ascent; ``samples`` 12 and ``steps`` 150 instead of 30 and 300.
- ``calibration="simulated"`` (the default): the paper believes a gamma distribution fitted to as
  few values as there are classes. The null here repeats the fit in every draw, which costs power
  and keeps the false-alarm rate. ``"published"`` takes p as it is.
- Margins below zero (a class that no picture reaches) count as the smallest positive one found.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from gifthorse.core.errors import ModelError, NotApplicableError
from gifthorse.core.exhibits import PicturesExhibit, picture
from gifthorse.core.rng import draw_seed
from gifthorse.core.types import Evidence, Need, Null, Progress, ScoreArray, Subject, Unit
from gifthorse.detectors.models.inversion import IMAGES_AT_ONCE
from gifthorse.detectors.models.pictures import class_bars
from gifthorse.metrics.gamma import (
    PublishedGammaNull,
    SimulatedGammaNull,
    gamma_shape_and_scale,
    largest_value_surprise,
)
from gifthorse.metrics.outliers import MIN_UNITS
from gifthorse.models.classifier import ImageClassifier, as_classifier

_CALIBRATIONS = ("simulated", "published")


@dataclass(frozen=True, slots=True, kw_only=True)
class MmBd:
    """Maximum margin statistic; data-free.

    Attributes:
        steps: Steps of gradient ascent, at least 1.
        samples: Random starts a class, at least 1.
        learning_rate: Of Adam on pixels, in (0, 1].
        calibration: ``simulated`` or ``published``.

    Raises:
        ValueError: An option out of range.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.LOGITS, Need.GRADIENTS})
    unit: ClassVar[Unit] = Unit.CLASS
    paper: ClassVar[str] = "Wang et al. 2024, MM-BD, arXiv:2205.06900"

    steps: int = 150
    samples: int = 12
    learning_rate: float = 0.05
    calibration: str = "simulated"

    def __post_init__(self) -> None:
        if not (1 <= self.steps < 2**31 and 1 <= self.samples < 2**31):
            raise ValueError("steps and samples must be at least 1")
        if not 0 < self.learning_rate <= 1:
            raise ValueError(f"learning_rate must be in (0, 1], got {self.learning_rate}")
        if self.calibration not in _CALIBRATIONS:
            raise ValueError(
                f"calibration must be one of {', '.join(_CALIBRATIONS)}, got {self.calibration!r}"
            )

    def inspect(
        self, subject: Subject, *, rng: np.random.Generator, progress: Progress
    ) -> Evidence:
        """The largest margin found for every class; −log10 of the paper's p is the statistic.

        Raises:
            NotApplicableError: No classifier, or fewer than four classes.
            ModelError: The model gives NaN or infinite logits.
        """
        classifier = as_classifier(subject.model)
        if classifier.n_classes < MIN_UNITS:
            raise NotApplicableError(
                f"the model has {classifier.n_classes} classes; comparing classes with each other "
                f"needs at least {MIN_UNITS}"
            )
        margins, pictures = self._search(classifier, rng, progress)
        if not np.isfinite(margins).all():
            raise ModelError(f"{classifier.name} gives NaN or infinite logits")
        reached = margins > 0
        if reached.sum() < 3:
            raise NotApplicableError(
                f"gradient ascent reaches only {int(reached.sum())} of {len(margins)} classes"
            )
        scores = np.where(reached, margins, margins[reached].min())
        worst = int(scores.argmax())
        names = classifier.class_names
        shown = [picture(pictures[worst], f"towards {names[worst]}")]
        lost = [name for name, ok in zip(names, reached, strict=True) if not ok]
        return Evidence(
            unit=Unit.CLASS,
            scores=scores,
            statistic=float(largest_value_surprise(scores)),
            suspects=np.array([worst], dtype=np.int64),
            exhibits=(
                PicturesExhibit(
                    title="The picture of the largest margin",
                    caption="Found from noise, without any data; rarely meaningful to the eye.",
                    pictures=tuple(shown),
                ),
                class_bars(names, scores, worst, "largest margin", judged=False),
            ),
            notes=(f"no picture reached: {', '.join(lost[:5])}",) if lost else (),
        )

    def null(self, evidence: Evidence) -> Null:
        """The statistic over gamma values of the shape of the classes but the largest."""
        if self.calibration == "published":
            return PublishedGammaNull()
        others = np.sort(evidence.scores)[:-1]
        shape, _ = gamma_shape_and_scale(others)
        return SimulatedGammaNull(len(evidence.scores), float(f"{float(shape):.2g}"))

    def _search(
        self, classifier: ImageClassifier, rng: np.random.Generator, progress: Progress
    ) -> tuple[ScoreArray, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
        """Largest margin of every class, (classes,), and the pictures (classes, c, h, w)."""
        generator = torch.Generator().manual_seed(draw_seed(rng))
        width = max(1, IMAGES_AT_ONCE // self.samples)
        margins, pictures = [], []
        for start in range(0, classifier.n_classes, width):
            classes = torch.arange(start, min(start + width, classifier.n_classes))
            shape = (len(classes) * self.samples, *classifier.input_shape)
            x = torch.rand(shape, generator=generator).to(classifier.device)
            goal = classes.repeat_interleave(self.samples).to(classifier.device)
            found = self._ascend(classifier, x, goal, start, progress)
            best, at = found.view(len(classes), -1).max(1)
            margins.append(best.double().cpu().numpy())
            rows = at.cpu() + torch.arange(len(classes)) * self.samples
            pictures.append(x[rows.to(x.device)].cpu().numpy())
        return np.concatenate(margins), np.concatenate(pictures)

    def _ascend(
        self, classifier: ImageClassifier, x: Tensor, goal: Tensor, first: int, progress: Progress
    ) -> Tensor:
        """Move ``x`` in place towards larger margins; the last margins, shape (n,)."""
        x.requires_grad_(True)
        optimizer = torch.optim.Adam([x], lr=self.learning_rate)
        for step in range(self.steps):
            loss = -margin(classifier.logits(x), goal).sum()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            with torch.no_grad():
                x.clamp_(0, 1)
            done = first * self.steps + (step + 1) * len(goal) // self.samples
            progress(done, classifier.n_classes * self.steps, "margin ascent")
        x.requires_grad_(False)
        with torch.inference_mode():
            return margin(classifier.logits(x), goal).clone()


def margin(logits: Tensor, goal: Tensor) -> Tensor:
    """z_goal − the largest other logit of each row, shape (n,)."""
    own = logits.gather(1, goal[:, None])[:, 0]
    others = logits.scatter(1, goal[:, None], float("-inf"))
    return own - others.max(1).values
