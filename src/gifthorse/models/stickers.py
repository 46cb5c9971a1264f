"""Starting points for a masked search: stickers of many sizes, places and designs, at random.

Nothing is known of a trigger, so these are what anybody might stick onto a picture: plain colours,
stripes, checkers and noise, from an eighth to a half of the shorter side. The search then changes
shape, place and colours.
"""

import numpy as np
import torch
from torch import Tensor

SHARES = (0.125, 0.2, 0.33, 0.5)
"""Sides of stickers, as shares of the shorter side of the picture."""
_INSIDE, _OUTSIDE = 2.0, -4.0
"""Logits of the opacity."""
_CLOSEST = 0.05
"""Colours keep so far from 0 and 1, where a logit has no slope."""


def stickers(count: int, shape: tuple[int, int, int], *, rng: np.random.Generator) -> list[Tensor]:
    """Parameters for ``Masked``: opacity (count, 1, h, w) and colours (count, c, h, w), as logits.

    Args:
        count: How many.
        shape: Channels, rows and columns of the grid of the search.
        rng: For sizes, places and designs.
    """
    channels, height, width = shape
    masks = np.full((count, 1, height, width), _OUTSIDE)
    colours = np.zeros((count, *shape))
    for i in range(count):
        side = max(1, round(SHARES[i % len(SHARES)] * min(height, width)))
        top, left = (int(rng.integers(0, n - side + 1)) for n in (height, width))
        masks[i, :, top : top + side, left : left + side] = _INSIDE
        design = _design(i // len(SHARES), (channels, height, width), side, rng)
        colours[i] = design.clip(_CLOSEST, 1 - _CLOSEST)
    logits = np.log(colours / (1 - colours))
    masks += 0.1 * rng.standard_normal(masks.shape)
    return [torch.from_numpy(a.astype(np.float32)) for a in (masks, logits)]


def _design(
    turn: int, shape: tuple[int, int, int], side: int, rng: np.random.Generator
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Every other one plain, the rest stripes, checkers and noise in turn."""
    channels = shape[0]
    # Corners of the cube of colours as often as any colour: signs are seldom pale.
    first, second = (
        rng.integers(0, 2, channels).astype(float) if rng.random() < 0.5 else rng.random(channels)
        for _ in range(2)
    )
    if turn % 2 == 0:
        return np.broadcast_to(first[:, None, None], shape).copy()
    if turn % 6 == 1:
        return rng.random(shape)
    period = int(rng.integers(1, max(2, side // 2)))
    rows, columns = np.meshgrid(np.arange(shape[1]), np.arange(shape[2]), indexing="ij")
    lines = (rows // period) if turn % 6 == 3 else (rows // period + columns // period)
    even = (lines % 2 == 0)[None]
    return np.where(even, first[:, None, None], second[:, None, None])
