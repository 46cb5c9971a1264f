"""Gradient steps on pictures against a surrogate, as several attacks take them.

Source: Madry et al. 2018, "Towards Deep Learning Models Resistant to Adversarial Attacks"
(arXiv:1706.06083), section 2.1: projected gradient steps in the maximum norm.
"""

import numpy as np
import torch
from torch.nn import functional

from gifthorse.core.types import FloatArray, IntArray
from gifthorse.models.classifier import ImageClassifier

_BATCH = 128


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
