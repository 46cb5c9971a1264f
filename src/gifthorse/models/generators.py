"""Small networks that are trained on the spot: they draw a trigger for a picture (our own).

Attackers use them to hide one, detectors to find one. They stand for the much larger ones of the
papers that name them (input-aware, LIRA, SSBA, BTI-DBF, FeatureRE).
"""

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from gifthorse.core.rng import draw_seed


class PictureNetwork(nn.Module):
    """From pictures (n, inputs, h, w) to maps (n, outputs, h, w), in half resolution in between.

    Args:
        inputs: Channels of the pictures.
        outputs: Channels of the maps; they are not squashed.
        width: Channels of the first layer, a multiple of 4.
    """

    def __init__(self, inputs: int, outputs: int, width: int = 16) -> None:
        super().__init__()
        self.fine = _layer(inputs, width)
        self.coarse = nn.Sequential(_layer(width, 2 * width, stride=2), _layer(2 * width, width))
        self.joint = _layer(2 * width, width)
        self.last = nn.Conv2d(width, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """The maps."""
        fine = self.fine(x)
        coarse = functional.interpolate(self.coarse(fine), x.shape[2:], mode="nearest")
        return cast("Tensor", self.last(self.joint(torch.cat([fine, coarse], dim=1))))


def picture_network(
    inputs: int, outputs: int, *, rng: np.random.Generator, device: torch.device
) -> PictureNetwork:
    """An untrained one, its weights drawn from ``rng``."""
    with torch.random.fork_rng():
        torch.manual_seed(draw_seed(rng))
        return PictureNetwork(inputs, outputs).to(device)


def _layer(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1),
        nn.GroupNorm(4, outputs),
        nn.ReLU(),
    )
