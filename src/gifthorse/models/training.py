"""The one training loop."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from gifthorse.core.errors import DataError, ModelError
from gifthorse.core.rng import draw_seed
from gifthorse.core.types import ImageData, Progress, silent
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.passes import to_tensor
from gifthorse.models.schedules import one_cycle

Alteration = Callable[[ImageClassifier, torch.Tensor, torch.Tensor], torch.Tensor]
"""Changes the pictures x (n, c, h, w) of a step, labelled y, in view of the network so far."""

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""From logits (n, classes) and labels (n,) to one number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """How to train.

    Attributes:
        epochs: Passes over the data.
        batch_size: Pictures a step.
        learning_rate: The highest, reached after a fifth of the steps (one-cycle schedule).
        momentum: Nesterov momentum of SGD.
        weight_decay: L2 penalty.
        shift: Random shift in pixels of every training picture, edges repeated; 0 for none.
        frozen_statistics: Keep the running means and variances of batch normalisation as they are;
            for tuning on too few pictures to estimate them anew.
    """

    epochs: int = 8
    batch_size: int = 128
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    shift: int = 0
    frozen_statistics: bool = False

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 2 or self.learning_rate <= 0 or self.shift < 0:
            raise ValueError(f"a plan needs positive numbers, got {self}")


def train(
    classifier: ImageClassifier,
    data: ImageData,
    plan: TrainingPlan,
    *,
    rng: np.random.Generator,
    progress: Progress = silent,
    alter: Alteration | None = None,
    loss: Loss = functional.cross_entropy,
) -> ImageClassifier:
    """A trained copy of ``classifier``; the given one is not changed.

    Args:
        classifier: What to start from.
        data: Pictures that fit it.
        plan: How to train.
        rng: Source of order, shifts and dropout.
        progress: Called after every step.
        alter: What secure training does to the pictures of a step; its own passes are counted.
        loss: What is minimised.

    Raises:
        DataError: The pictures or labels do not fit the model.
        ModelError: The loss became NaN.
    """
    _check_fit(classifier, data)
    student = classifier.replaced(classifier.module)  # a copy
    student.module.requires_grad_(True).train()
    if plan.frozen_statistics:
        for layer in student.module.modules():
            if isinstance(layer, _BatchNorm):
                layer.eval()
    steps = max(1, -(-len(data) // plan.batch_size)) * plan.epochs
    optimizer, schedule = _optimizer(student, plan, steps)
    with torch.random.fork_rng():
        torch.manual_seed(draw_seed(rng))
        done = 0
        for _ in range(plan.epochs):
            order = rng.permutation(len(data)).astype(np.int64)
            for start in range(0, len(order), plan.batch_size):
                indices = order[start : start + plan.batch_size]
                if len(indices) > 1:  # batch normalisation cannot train on one picture
                    _step(student, data, indices, plan, optimizer, rng, alter, loss)
                schedule.step()
                done += 1
                progress(done, steps, "training")
    student.module.eval().requires_grad_(False)
    student.meter.forward += plan.epochs * len(data)
    student.meter.backward += plan.epochs * len(data)
    return student


def _check_fit(classifier: ImageClassifier, data: ImageData) -> None:
    misfit = classifier.accepts(data.image_shape)
    if misfit:
        raise DataError(f"cannot train {classifier.name} on {data.name}: {misfit}")
    if len(data) < 2:
        raise DataError(f"{data.name} has one picture; training needs at least two")
    if int(data.labels.max()) >= classifier.n_classes:
        raise DataError(
            f"{data.name} has label {int(data.labels.max())} and {classifier.name} has only "
            f"{classifier.n_classes} classes"
        )


def _optimizer(
    student: ImageClassifier, plan: TrainingPlan, steps: int
) -> tuple[torch.optim.SGD, torch.optim.lr_scheduler.OneCycleLR]:
    optimizer = torch.optim.SGD(
        student.module.parameters(),
        lr=plan.learning_rate,
        momentum=plan.momentum,
        nesterov=True,
        weight_decay=plan.weight_decay,
    )
    schedule = one_cycle(optimizer, learning_rate=plan.learning_rate, steps=steps)
    return optimizer, schedule


def _step(
    student: ImageClassifier,
    data: ImageData,
    indices: np.ndarray[tuple[int], np.dtype[np.int64]],
    plan: TrainingPlan,
    optimizer: torch.optim.Optimizer,
    rng: np.random.Generator,
    alter: Alteration | None,
    objective: Loss,
) -> None:
    x = to_tensor(student, data.batch(indices))
    if plan.shift:
        x = shifted(x, plan.shift, rng)
    y = torch.from_numpy(data.labels[indices]).to(student.device)
    if alter is not None:
        x = alter(student, x, y)
    out = student.module(student.normalise(x))
    loss = objective(getattr(out, "logits", out), y)
    if not bool(torch.isfinite(loss)):
        raise ModelError("training diverged: the loss is not finite; lower the learning rate")
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def shifted(x: torch.Tensor, most: int, rng: np.random.Generator) -> torch.Tensor:
    """Every picture of (n, c, h, w) moved by up to ``most`` pixels, edges repeated."""
    n, _, height, width = x.shape
    padded = functional.pad(x, (most,) * 4, mode="replicate")
    tops = rng.integers(0, 2 * most + 1, n)
    lefts = rng.integers(0, 2 * most + 1, n)
    return torch.stack(
        [
            padded[i, :, top : top + height, left : left + width]
            for i, (top, left) in enumerate(zip(tops, lefts, strict=True))
        ]
    )
