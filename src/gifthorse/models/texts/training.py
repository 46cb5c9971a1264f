"""The one training loop for text classifiers."""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from gifthorse.core.errors import DataError, ModelError
from gifthorse.core.rng import draw_seed
from gifthorse.core.texts import TextData
from gifthorse.core.types import IntArray, Progress, silent
from gifthorse.models.schedules import one_cycle
from gifthorse.models.texts.classifier import TextClassifier


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTrainingPlan:
    """How to train: AdamW with a one-cycle schedule.

    Attributes:
        epochs: Passes over the data.
        batch_size: Texts a step.
        learning_rate: The highest, reached after a tenth of the steps.
        weight_decay: Decoupled (Loshchilov and Hutter 2019).
    """

    epochs: int = 4
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 2 or self.learning_rate <= 0:
            raise ValueError(f"a plan needs positive numbers, got {self}")


def train_texts(
    classifier: TextClassifier,
    data: TextData,
    plan: TextTrainingPlan,
    *,
    rng: np.random.Generator,
    progress: Progress = silent,
) -> TextClassifier:
    """A trained copy of ``classifier``; the given one is not changed.

    Raises:
        DataError: Fewer than two texts, or labels that the model does not have.
        ModelError: The loss became NaN.
    """
    if len(data) < 2:
        raise DataError(f"{data.name} has one text; training needs at least two")
    if int(data.labels.max()) >= classifier.n_classes:
        raise DataError(
            f"{data.name} has label {int(data.labels.max())} and {classifier.name} has only "
            f"{classifier.n_classes} classes"
        )
    student = classifier.replaced(classifier.module)  # a copy
    student.module.requires_grad_(True).train()
    steps = -(-len(data) // plan.batch_size) * plan.epochs
    optimizer = torch.optim.AdamW(
        student.module.parameters(), lr=plan.learning_rate, weight_decay=plan.weight_decay
    )
    schedule = one_cycle(optimizer, learning_rate=plan.learning_rate, steps=steps, rise=0.1)
    labels = torch.from_numpy(np.asarray(data.labels))
    with torch.random.fork_rng():
        torch.manual_seed(draw_seed(rng))
        for epoch in range(plan.epochs):
            for done, rows in enumerate(_mixed(data.texts, plan.batch_size, rng)):
                ids, mask = student.tokens([data.texts[int(i)] for i in rows])
                loss = functional.cross_entropy(
                    student.module(input_ids=ids, attention_mask=mask).logits,
                    labels[torch.from_numpy(rows)].to(student.device),
                )
                if not bool(torch.isfinite(loss)):
                    raise ModelError("training diverged: the loss is not finite")
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(student.module.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                progress(epoch * (steps // plan.epochs) + done + 1, steps, "training")
    student.module.eval().requires_grad_(False)
    student.meter.forward += plan.epochs * len(data)
    student.meter.backward += plan.epochs * len(data)
    return student


def _mixed(texts: tuple[str, ...], size: int, rng: np.random.Generator) -> list[IntArray]:
    """Batches of texts of about one length, in random order: half the padding of plain batches."""
    lengths = np.array([len(text) for text in texts])
    order = np.argsort(lengths * rng.uniform(0.8, 1.25, len(lengths)), kind="stable")
    parts = [order[i : i + size].astype(np.int64) for i in range(0, len(order), size)]
    return [parts[int(i)] for i in rng.permutation(len(parts))]
