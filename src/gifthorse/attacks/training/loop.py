"""The training loop of attackers who control it: same recipe as the honest one, any loss (our own).

It mirrors ``gifthorse.models.training.train``: SGD with Nesterov momentum on a one-cycle schedule.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch

from gifthorse.core.errors import ModelError
from gifthorse.core.types import ImageData, Progress
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.passes import to_tensor
from gifthorse.models.schedules import one_cycle
from gifthorse.models.training import TrainingPlan

Update = Callable[[torch.Tensor], None]


def training_steps(
    student: ImageClassifier,
    data: ImageData,
    plan: TrainingPlan,
    *,
    rng: np.random.Generator,
    progress: Progress,
) -> Iterator[tuple[torch.Tensor, torch.Tensor, Update]]:
    """Batches of pictures and labels, each with a function that takes the loss and does the step.

    ``student`` is trained in place: hand in a copy. It is in training mode while the steps run,
    and frozen in evaluation mode afterwards.

    Raises:
        ModelError: The loss became NaN.
    """
    student.module.requires_grad_(True).train()
    steps = max(1, len(data) // plan.batch_size) * plan.epochs
    optimizer = torch.optim.SGD(
        student.module.parameters(),
        lr=plan.learning_rate,
        momentum=plan.momentum,
        nesterov=True,
        weight_decay=plan.weight_decay,
    )
    schedule = one_cycle(optimizer, learning_rate=plan.learning_rate, steps=steps)

    def update(loss: torch.Tensor) -> None:
        if not bool(torch.isfinite(loss)):
            raise ModelError("training diverged: the loss is not finite; lower the learning rate")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    done = 0
    for _ in range(plan.epochs):
        order = rng.permutation(len(data)).astype(np.int64)
        size = min(plan.batch_size, len(data))
        for start in range(0, len(order) - size + 1, size):
            rows = order[start : start + size]
            y = torch.from_numpy(data.labels[rows]).to(student.device)
            yield to_tensor(student, data.batch(rows)), y, update
            schedule.step()
            done += 1
            progress(done, steps, "training")
    student.module.eval().requires_grad_(False)
