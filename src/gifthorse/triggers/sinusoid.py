"""A faint wave over the whole picture (Barni, Kallas, Tondi 2019, SIG, section 3)."""

from dataclasses import dataclass

import numpy as np

from gifthorse.core.types import FloatArray
from gifthorse.triggers.trigger import checked, on_chart


@dataclass(frozen=True, slots=True, kw_only=True)
class Sinusoid:
    """Adds amplitude · sin(2π · frequency · column / width) to every row.

    Attributes:
        amplitude: Of the wave, in (0, 1]; the paper's Δ divided by 255.
        frequency: Periods over the width of the picture, > 0.
    """

    amplitude: float = 20 / 255
    frequency: float = 6.0

    def __post_init__(self) -> None:
        if not 0 < self.amplitude <= 1:
            raise ValueError(f"amplitude must be in (0, 1], got {self.amplitude}")
        if not 0 < self.frequency <= 1e4:
            raise ValueError(f"frequency must be in (0, 10000], got {self.frequency}")

    def wave(self, width: int) -> FloatArray:
        """The wave over one row, shape (width,)."""
        phase = 2 * np.pi * self.frequency * np.arange(width) / width
        return np.asarray(self.amplitude * np.sin(phase), dtype=np.float32)

    def apply(self, x: FloatArray, rng: np.random.Generator) -> FloatArray:
        """A copy of pictures (n, c, h, w) in [0, 1] with the wave; ``rng`` is not used."""
        del rng
        return checked(x + self.wave(x.shape[3]))

    def picture(self, image_shape: tuple[int, ...]) -> FloatArray:
        """The wave on the test chart, shape (c, h, w)."""
        return on_chart(self, image_shape)
