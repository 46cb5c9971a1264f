"""Two raised DCT coefficients of the colour channels (Wang et al. 2022, FTrojan, section 3)."""

from dataclasses import dataclass

import numpy as np
from scipy import fft

from gifthorse.core.types import FloatArray
from gifthorse.triggers.trigger import checked, on_chart

# BT.601, the matrix behind the paper's conversion to YUV.
_TO_YUV = np.array(
    [[0.299, 0.587, 0.114], [-0.14713, -0.28886, 0.436], [0.615, -0.51499, -0.10001]]
)
_TO_RGB = np.linalg.inv(_TO_YUV)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frequency:
    """Adds a constant to some DCT coefficients of every block of the picture.

    Colour pictures are changed in the two chrominance channels, grey ones in their only channel.

    Attributes:
        magnitude: Added to each coefficient of the orthonormal DCT of a picture in [0, 1], in
            (0, 100]; the paper's value divided by 255.
        middle: Raise the coefficient in the middle of the band.
        high: Raise the highest coefficient.
        block: Side of a block in pixels, ≥ 2; a picture that is smaller is one block.
    """

    magnitude: float = 50 / 255
    middle: bool = True
    high: bool = True
    block: int = 32

    def __post_init__(self) -> None:
        if not 0 < self.magnitude <= 100:
            raise ValueError(f"magnitude must be in (0, 100], got {self.magnitude}")
        if not (self.middle or self.high):
            raise ValueError("at least one of middle and high must be true")
        if not 2 <= self.block <= 4096:
            raise ValueError(f"block must be in 2 … 4096, got {self.block}")

    def wave(self, height: int, width: int) -> FloatArray:
        """What is added to a channel, shape (h, w). The DCT is linear, so this is the trigger."""
        out = np.zeros((height, width))
        for top in range(0, height, self.block):
            for left in range(0, width, self.block):
                part = out[top : top + self.block, left : left + self.block]
                band = np.zeros(part.shape)
                if self.high:
                    band[-1, -1] = self.magnitude
                if self.middle:
                    band[(part.shape[0] - 1) // 2, (part.shape[1] - 1) // 2] = self.magnitude
                part[:] = fft.idctn(band, norm="ortho")
        return np.asarray(out, dtype=np.float32)

    def apply(self, x: FloatArray, rng: np.random.Generator) -> FloatArray:
        """A copy of pictures (n, c, h, w) in [0, 1] with the wave; ``rng`` is not used."""
        del rng
        wave = self.wave(x.shape[2], x.shape[3])
        if x.shape[1] != 3:
            return checked(x + wave)
        # Both chrominance channels get the wave: back in RGB that is this much for each colour.
        share = _TO_RGB @ np.array([0.0, 1.0, 1.0])
        return checked(x + share[:, None, None] * wave)

    def picture(self, image_shape: tuple[int, ...]) -> FloatArray:
        """The wave on the test chart, shape (c, h, w)."""
        return on_chart(self, image_shape)
