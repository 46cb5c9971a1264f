"""Triggers that an attack has learned: an added pattern, or a network that draws one.

Additive patterns: Zeng et al. 2021, LF, section 5. Stickers: Liu et al. 2018, TrojanNN. Generated
ones: Nguyen and Tran 2020, input-aware; Doan et al. 2021, LIRA; Li et al. 2021, SSBA.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from gifthorse.core.types import FloatArray
from gifthorse.triggers.trigger import checked, on_chart

_BATCH = 256


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Additive:
    """Adds the same pattern to every picture.

    Attributes:
        pattern: Shape (c, h, w), in [-1, 1].
    """

    pattern: FloatArray

    def apply(self, x: FloatArray, rng: np.random.Generator) -> FloatArray:
        """A copy of pictures (n, c, h, w) in [0, 1] with the pattern; ``rng`` is not used.

        Raises:
            ValueError: The pictures have another shape than the pattern.
        """
        del rng
        if x.shape[1:] != self.pattern.shape:
            raise ValueError(
                f"the pattern has shape {self.pattern.shape}, and the pictures {x.shape[1:]}"
            )
        return checked(x + self.pattern)

    def picture(self, image_shape: tuple[int, ...]) -> FloatArray:
        """The pattern on the test chart, shape (c, h, w)."""
        return on_chart(self, image_shape)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sticker:
    """Covers a part of every picture with the same pattern: x · (1 − mask) + pattern · mask.

    Attributes:
        mask: Shape (h, w), in [0, 1].
        pattern: Shape (c, h, w), in [0, 1].
    """

    mask: FloatArray
    pattern: FloatArray

    def apply(self, x: FloatArray, rng: np.random.Generator) -> FloatArray:
        """A copy of pictures (n, c, h, w) in [0, 1] with the sticker; ``rng`` is not used.

        Raises:
            ValueError: The pictures have another shape than the pattern.
        """
        del rng
        if x.shape[1:] != self.pattern.shape:
            raise ValueError(
                f"the sticker has shape {self.pattern.shape}, and the pictures {x.shape[1:]}"
            )
        return checked(x * (1 - self.mask) + self.pattern * self.mask)

    def picture(self, image_shape: tuple[int, ...]) -> FloatArray:
        """The sticker on the test chart, shape (c, h, w)."""
        return on_chart(self, image_shape)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Generated:
    """Changes each picture as a trained network says.

    Attributes:
        change: Pictures (n, c, h, w) in [0, 1] to triggered ones.
        image_shape: (c, h, w) that it was trained for.
    """

    change: Callable[[torch.Tensor], torch.Tensor]
    image_shape: tuple[int, int, int]

    def apply(self, x: FloatArray, rng: np.random.Generator) -> FloatArray:
        """A triggered copy of pictures (n, c, h, w) in [0, 1]; ``rng`` is not used.

        Raises:
            ValueError: The pictures have another shape than the network was trained for.
        """
        del rng
        if x.shape[1:] != self.image_shape:
            raise ValueError(
                f"the trigger was learned for {self.image_shape}, and the pictures are "
                f"{x.shape[1:]}"
            )
        with torch.inference_mode():
            parts = [
                self.change(torch.from_numpy(x[start : start + _BATCH].copy())).numpy()
                for start in range(0, len(x), _BATCH)
            ]
        return checked(np.concatenate(parts)) if parts else x.copy()

    def picture(self, image_shape: tuple[int, ...]) -> FloatArray:
        """What the network makes of the test chart, shape (c, h, w)."""
        return on_chart(self, image_shape)
