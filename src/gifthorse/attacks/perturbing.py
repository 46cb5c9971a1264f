"""Gradient steps on pictures against a surrogate, as several attacks take them.

Source: Madry et al. 2018, "Towards Deep Learning Models Resistant to Adversarial Attacks"
(arXiv:1706.06083), section 2.1: projected gradient steps in the maximum norm, and training on what
they lead to.
"""

import numpy as np
import torch
from torch.nn import functional

from gifthorse.attacks.training.loop import training_steps
from gifthorse.core.protocols import Trainer
from gifthorse.core.types import FloatArray, ImageData, IntArray, Progress
from gifthorse.models.classifier import ImageClassifier, as_classifier
from gifthorse.models.training import TrainingPlan

_BATCH = 128
_TRAINING_BATCH = 64
_TRAINING_STEPS = 3


def adversarial(
    surrogate: ImageClassifier,
    x: FloatArray,
    labels: IntArray,
    *,
    bound: float,
    steps: int,
    rng: np.random.Generator,
) -> FloatArray:
    """Pictures within ``bound`` that the surrogate takes for anything but their class.

    Args:
        surrogate: Whose gradients are used.
        x: Pictures (n, c, h, w) in [0, 1]; not changed.
        labels: Their classes, shape (n,).
        bound: Largest change of a pixel, in (0, 1].
        steps: Gradient steps of 2.5 · bound / steps each, from a random start.
        rng: Of the random start.
    """
    parts = []
    for start in range(0, len(x), _BATCH):
        clean = torch.from_numpy(x[start : start + _BATCH].copy()).to(surrogate.device)
        y = torch.from_numpy(labels[start : start + _BATCH]).to(surrogate.device)
        noise = rng.uniform(-bound, bound, clean.shape).astype(np.float32)
        moved = (clean + torch.from_numpy(noise).to(surrogate.device)).clamp(0, 1)
        for _ in range(steps):
            moved.requires_grad_(True)
            loss = functional.cross_entropy(surrogate.logits(moved), y)
            (slope,) = torch.autograd.grad(loss, moved)
            step = moved.detach() + 2.5 * bound / steps * slope.sign()
            moved = (clean + (step - clean).clamp(-bound, bound)).clamp(0, 1)
        parts.append(moved.detach().cpu().numpy())
    return np.concatenate(parts)


def robust_surrogate(
    clean: ImageData,
    *,
    bound: float,
    trainer: Trainer,
    rng: np.random.Generator,
    progress: Progress,
) -> ImageClassifier:
    """A network trained on the worst change of every picture, for an attacker's own use.

    Args:
        clean: Training pictures.
        bound: Largest change of a pixel, in (0, 1].
        trainer: Gives the network and the number of epochs.
        rng: Of everything that is drawn.
        progress: Called after every step.
    """
    student = as_classifier(trainer.fresh(clean, rng=rng))
    plan = TrainingPlan(epochs=trainer.epochs, batch_size=_TRAINING_BATCH)
    for x, y, update in training_steps(student, clean, plan, rng=rng, progress=progress):
        student.module.eval()  # the search must not move the statistics of batch normalisation
        hard = adversarial(
            student,
            x.cpu().numpy(),
            y.cpu().numpy(),
            bound=bound,
            steps=_TRAINING_STEPS,
            rng=rng,
        )
        student.module.train()
        logits = student.logits(torch.from_numpy(hard).to(student.device))
        update(functional.cross_entropy(logits, y))
    return student
