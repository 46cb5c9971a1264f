"""Loops of the repairs that need another loss than cross-entropy on clean pictures."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from gifthorse.core.errors import ModelError
from gifthorse.core.rng import draw_seed
from gifthorse.core.types import ImageData, Progress
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.passes import to_tensor


def check_counts(*options: tuple[str, int, int]) -> None:
    """Refuse options, each (name, value, least), that are not whole numbers of at least that.

    Raises:
        ValueError: The text names the option.
    """
    for name, value, least in options:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**31:
            raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")


def check_between(*options: tuple[str, float, float, float]) -> None:
    """Refuse options, each (name, value, low, high), that are outside (low, high].

    Raises:
        ValueError: The text names the option.
    """
    for name, value, low, high in options:
        if not low < value <= high:
            raise ValueError(f"{name} must be in ({low:g}, {high:g}], got {value!r}")


@contextmanager
def student_of(
    classifier: ImageClassifier, rng: np.random.Generator, *, frozen_statistics: bool
) -> Iterator[ImageClassifier]:
    """A copy to train; in evaluation mode and without gradients again when the block ends.

    Args:
        classifier: Not changed.
        rng: Seeds what the network itself draws (dropout); the global generator is left alone.
        frozen_statistics: Keep the statistics of batch normalisation.
    """
    student = classifier.replaced(classifier.module)
    student.module.requires_grad_(True).train()
    if frozen_statistics:
        for layer in student.module.modules():
            if isinstance(layer, _BatchNorm):
                layer.eval()
    with torch.random.fork_rng():
        torch.manual_seed(draw_seed(rng))
        yield student
    student.module.eval().requires_grad_(False)


def minibatches(
    classifier: ImageClassifier,
    data: ImageData,
    *,
    steps: int,
    batch_size: int,
    rng: np.random.Generator,
    progress: Progress,
    what: str,
) -> Iterator[tuple[Tensor, Tensor]]:
    """``steps`` shuffled batches (x, y) on the model's device; no pass repeats a picture."""
    size = min(batch_size, len(data))
    order = rng.permutation(len(data)).astype(np.int64)
    place = 0
    for step in range(steps):
        if place + size > len(order):
            order, place = rng.permutation(len(data)).astype(np.int64), 0
        rows = order[place : place + size]
        place += size
        y = torch.from_numpy(data.labels[rows]).to(classifier.device)
        yield to_tensor(classifier, data.batch(rows)), y
        progress(step + 1, steps, what)


def finite(loss: Tensor) -> Tensor:
    """The loss.

    Raises:
        ModelError: It is not finite.
    """
    if not bool(torch.isfinite(loss)):
        raise ModelError("training diverged: the loss is not finite; lower the learning rate")
    return loss
