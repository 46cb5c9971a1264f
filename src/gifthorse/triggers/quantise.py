"""Fewer colours, with or without dithering (Wang, Zhai, Ma 2022, BppAttack, section 3.2)."""

from dataclasses import dataclass

import numpy as np

from gifthorse.core.types import FloatArray
from gifthorse.triggers.trigger import checked, on_chart


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantise:
    """Rounds every channel to 2 ** bits levels.

    Attributes:
        bits: Per channel, 1 to 7.
        dither: Spread the rounding error to the neighbours (Floyd and Steinberg 1976), which hides
            the false contours.
    """

    bits: int = 3
    dither: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 7:
            raise ValueError(f"bits must be in 1 … 7, got {self.bits}")

    def apply(self, x: FloatArray, rng: np.random.Generator) -> FloatArray:
        """A coarser copy of pictures (n, c, h, w) in [0, 1]; ``rng`` is not used."""
        del rng
        steps = 2**self.bits - 1
        if not self.dither:
            return checked(np.rint(x * steps) / steps)
        # Pixel by pixel, because each error travels on; all pictures and channels at once.
        height, width = x.shape[2:]
        out = np.ascontiguousarray(np.moveaxis(x, (2, 3), (0, 1)), dtype=np.float32)
        for row in range(height):
            for column in range(width):
                old = out[row, column].copy()
                new = np.rint(old.clip(0, 1) * steps) / steps
                out[row, column] = new
                error = old - new
                for down, right, weight in ((0, 1, 7), (1, -1, 3), (1, 0, 5), (1, 1, 1)):
                    if row + down < height and 0 <= column + right < width:
                        out[row + down, column + right] += error * np.float32(weight / 16)
        return checked(np.ascontiguousarray(np.moveaxis(out, (0, 1), (2, 3))))

    def picture(self, image_shape: tuple[int, ...]) -> FloatArray:
        """The test chart in fewer colours, shape (c, h, w)."""
        return on_chart(self, image_shape)
