"""FT-SAM: fine-tune with sharpness-aware minimisation, which moves the large backdoor weights.

Zhu, Wei, Shen, Fan & Wu 2023, "Enhancing Fine-Tuning Based Backdoor Defense with Sharpness-Aware
Minimization", ICCV, arXiv:2304.11823, section 4: the adaptive variant; each weight may be
disturbed in proportion to its size, w + ρ·T²g / ‖T·g‖ with T = |w| + η.

Decisions and deviations: momentum SGD with one cycle of the learning rate; the length is at least
``min_steps`` however few pictures there are; the statistics of batch normalisation move with the
first of the two passes of a step only. ρ = 2 and η = .01 are the authors' for CIFAR-10.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from gifthorse.core.types import Evidence, Need, Progress, Subject
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.schedules import one_cycle
from gifthorse.repairs.loops import check_between, check_counts, finite, minibatches, student_of
from gifthorse.repairs.tuning import subject_of


@dataclass(frozen=True, slots=True, kw_only=True)
class FtSam:
    """Fine-tuning with adaptive sharpness-aware minimisation.

    Attributes:
        rho: How far weights are disturbed, in (0, 100].
        eta: Added to the size of every weight, in (0, 10].
        steps: Optimisation steps, at least 2.
        batch_size: Pictures a step, at least 2.
        learning_rate: The highest of the cycle, in (0, 10].
        label_smoothing: In (0, 1]; the authors use .1.
        frozen_statistics: Keep the statistics of batch normalisation.

    Raises:
        ValueError: An option out of its range.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.WEIGHTS, Need.GRADIENTS, Need.TRUSTED})
    paper: ClassVar[str] = "Zhu et al. 2023, FT-SAM, arXiv:2304.11823"

    rho: float = 2.0
    eta: float = 0.01
    steps: int = 200
    batch_size: int = 32
    learning_rate: float = 0.01
    label_smoothing: float = 0.1
    frozen_statistics: bool = False

    def __post_init__(self) -> None:
        check_counts(("steps", self.steps, 2), ("batch_size", self.batch_size, 2))
        check_between(
            ("rho", self.rho, 0, 100),
            ("eta", self.eta, 0, 10),
            ("learning_rate", self.learning_rate, 0, 10),
            ("label_smoothing", self.label_smoothing, 0, 1),
        )

    def repair(
        self,
        subject: Subject,
        evidence: Sequence[Evidence],  # noqa: ARG002 - needs none
        *,
        rng: np.random.Generator,
        progress: Progress,
    ) -> ImageClassifier:
        """A tuned copy of the model; the evidence is not used.

        Raises:
            NotApplicableError: No model, no trusted pictures, or they do not fit.
            ModelError: The loss became NaN.
        """
        classifier, trusted = subject_of(subject)
        with student_of(classifier, rng, frozen_statistics=self.frozen_statistics) as student:
            parameters = list(student.module.parameters())
            optimizer = torch.optim.SGD(
                parameters, lr=self.learning_rate, momentum=0.9, weight_decay=5e-4
            )
            schedule = one_cycle(optimizer, learning_rate=self.learning_rate, steps=self.steps)
            for x, y in minibatches(
                student,
                trusted,
                steps=self.steps,
                batch_size=self.batch_size,
                rng=rng,
                progress=progress,
                what="sharpness-aware tuning",
            ):
                self._loss(student, x, y)
                moves = disturbance(parameters, rho=self.rho, eta=self.eta)
                with torch.no_grad():
                    for parameter, move in zip(parameters, moves, strict=True):
                        parameter.add_(move)
                optimizer.zero_grad()
                with _still_statistics(student.module):
                    self._loss(student, x, y)
                with torch.no_grad():
                    for parameter, move in zip(parameters, moves, strict=True):
                        parameter.sub_(move)
                optimizer.step()
                optimizer.zero_grad()
                schedule.step()
        return student

    def _loss(self, student: ImageClassifier, x: torch.Tensor, y: torch.Tensor) -> None:
        """Forward and backward."""
        loss = functional.cross_entropy(student.logits(x), y, label_smoothing=self.label_smoothing)
        finite(loss).backward()  # type: ignore[no-untyped-call]


def disturbance(
    parameters: Sequence[nn.Parameter], *, rho: float, eta: float
) -> list[torch.Tensor]:
    """ρ·T²g / ‖T·g‖ for every parameter, with T = |w| + η; the norm is over all of them."""
    with torch.no_grad():
        sizes = [p.abs() + eta for p in parameters]
        slopes = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        norms = [(t * g).norm() for t, g in zip(sizes, slopes, strict=True)]
        whole = torch.stack(norms).norm().clamp(min=1e-12)
        return [rho * t * t * g / whole for t, g in zip(sizes, slopes, strict=True)]


class _still_statistics:  # noqa: N801 - read as a statement
    """Batch normalisation uses the batch, as before, but its running statistics do not move."""

    def __init__(self, module: nn.Module) -> None:
        layers = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
        self._kept = [(layer, layer.momentum) for layer in layers]

    def __enter__(self) -> None:
        for layer, _ in self._kept:
            layer.momentum = 0.0

    def __exit__(self, *_: object) -> None:
        for layer, momentum in self._kept:
            layer.momentum = momentum
