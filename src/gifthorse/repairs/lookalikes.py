"""Plain stickers that lead a network where an audit says that a trigger leads it.

What an inversion recovers need not look like the attacker's trigger: it may be another thing that
the network takes for it. Who knows the accused class can simply try: of many small stickers of all
places and designs, drawn at random, those that send half of some pictures to that class. A clean
network has hardly any. Large ones are left out: they may be what the class looks like.
"""

import numpy as np
import torch
from torch.nn import functional

from gifthorse.core.types import RecoveredTrigger
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.stickers import stickers

CELLS = 56
"""Stickers are drawn on a grid of at most so many rows and columns."""
ENOUGH = 0.5
"""Share of the pictures that a sticker must send to the class."""
LARGEST = 0.06
"""Share of the picture that a sticker may cover."""


def lookalikes(
    classifier: ImageClassifier,
    x: torch.Tensor,
    target: int,
    *,
    count: int,
    rng: np.random.Generator,
) -> list[RecoveredTrigger]:
    """Stickers that lead to the class, the best first; often none.

    Args:
        classifier: The network under suspicion.
        x: Some trusted pictures, shape (n, c, h, w) in [0, 1]; those that are in the class already
            do not count.
        target: The accused class.
        count: How many stickers are drawn; the small ones, about half, are tried on every picture.
        rng: For sizes, places and designs.
    """
    channels, height, width = x.shape[1:]
    with torch.inference_mode():
        x = x[classifier.logits(x).argmax(1) != target]
        if len(x) == 0:
            return []
        grid = (channels, min(height, CELLS), min(width, CELLS))
        opacity, colours = stickers(count, grid, rng=rng)
        masks, colours = (opacity > 0).float(), colours.sigmoid()
        found: list[tuple[float, RecoveredTrigger]] = []
        for i in torch.nonzero(masks.mean((1, 2, 3)) <= LARGEST)[:, 0].tolist():
            mask, pattern = (
                functional.interpolate(part[i : i + 1], (height, width)).to(x)
                for part in (masks, colours)
            )
            sent = classifier.logits(x * (1 - mask) + pattern * mask).argmax(1) == target
            share = float(sent.float().mean())
            if share >= ENOUGH:
                trigger = RecoveredTrigger(
                    target=target, mask=mask[0, 0].cpu().numpy(), pattern=pattern[0].cpu().numpy()
                )
                found.append((share, trigger))
    return [trigger for _, trigger in sorted(found, key=lambda pair: -pair[0])]
