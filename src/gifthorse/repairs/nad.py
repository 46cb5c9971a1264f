"""NAD: a fine-tuned teacher shows the backdoored network where to look.

Li, Lyu, Koren, Lyu, Li & Ma 2021, "Neural Attention Distillation", ICLR, arXiv:2101.05930,
sections 3.2 and 3.3: the teacher is a fine-tuned copy; the student is tuned on clean pictures with
cross-entropy + β · Σ over stages of the squared distance between attention maps (the mean over
channels of |A|ᵖ, scaled to unit length).

Decisions and deviations: one β for all stages (the authors: 500, 1000, 1000 for three); stages are
the last feature map of every resolution, found by running a picture, so it works on any
convolutional network; the length is counted in steps; one cycle of the learning rate.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gifthorse.core.types import Evidence, Need, Progress, Subject
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.layers import logits_and_maps, stages_of
from gifthorse.models.schedules import one_cycle
from gifthorse.repairs.loops import check_between, check_counts, finite, minibatches, student_of
from gifthorse.repairs.tuning import passes_over, subject_of, tune


@dataclass(frozen=True, slots=True, kw_only=True)
class Nad:
    """Neural attention distillation.

    Attributes:
        beta: Weight of the distance between attention maps, in (0, 1e6].
        power: p of |A|ᵖ, in (0, 10].
        teacher_steps: Steps of fine-tuning that make the teacher, at least 2.
        steps: Steps of distillation, at least 2.
        batch_size: Pictures a step, at least 2.
        learning_rate: The highest of the cycle, for both, in (0, 10].

    Raises:
        ValueError: An option out of its range.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.WEIGHTS, Need.GRADIENTS, Need.TRUSTED})
    paper: ClassVar[str] = "Li et al. 2021, NAD, arXiv:2101.05930"

    beta: float = 1000.0
    power: float = 2.0
    teacher_steps: int = 200
    steps: int = 200
    batch_size: int = 32
    learning_rate: float = 0.01

    def __post_init__(self) -> None:
        check_counts(
            ("teacher_steps", self.teacher_steps, 2),
            ("steps", self.steps, 2),
            ("batch_size", self.batch_size, 2),
        )
        check_between(
            ("beta", self.beta, 0, 1e6),
            ("power", self.power, 0, 10),
            ("learning_rate", self.learning_rate, 0, 10),
        )

    def repair(
        self,
        subject: Subject,
        evidence: Sequence[Evidence],  # noqa: ARG002 - needs none
        *,
        rng: np.random.Generator,
        progress: Progress,
    ) -> ImageClassifier:
        """A distilled copy of the model; the evidence is not used.

        Raises:
            NotApplicableError: No model, no trusted pictures, or no feature maps.
            ModelError: The loss became NaN.
        """
        classifier, trusted = subject_of(subject)
        names = stages_of(classifier)
        teacher = tune(
            classifier,
            trusted,
            passes=passes_over(
                trusted, epochs=1, min_steps=self.teacher_steps, batch_size=self.batch_size
            ),
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            shift=0,
            frozen_statistics=False,
            rng=rng,
            progress=progress,
        )
        with student_of(classifier, rng, frozen_statistics=False) as student:
            optimizer = torch.optim.SGD(
                student.module.parameters(), lr=self.learning_rate, momentum=0.9, weight_decay=1e-4
            )
            schedule = one_cycle(optimizer, learning_rate=self.learning_rate, steps=self.steps)
            for x, y in minibatches(
                student,
                trusted,
                steps=self.steps,
                batch_size=self.batch_size,
                rng=rng,
                progress=progress,
                what="attention distillation",
            ):
                with torch.no_grad():
                    _, shown = logits_and_maps(teacher, x, names)
                logits, own = logits_and_maps(student, x, names)
                distance = sum(
                    (attention(a, self.power) - attention(b, self.power)).pow(2).mean()
                    for a, b in zip(own, shown, strict=True)
                )
                loss = finite(functional.cross_entropy(logits, y) + self.beta * distance)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
        student.meter.forward += teacher.meter.forward
        student.meter.backward += teacher.meter.backward
        return student


def attention(maps: Tensor, power: float) -> Tensor:
    """Mean over channels of |A|ᵖ of feature maps (n, c, h, w), at unit length: (n, h·w)."""
    return functional.normalize(maps.abs().pow(power).mean(1).flatten(1), dim=1)
