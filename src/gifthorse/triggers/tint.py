"""Photo filters as known from Instagram (Liu et al. 2019, ABS, section 6; TrojAI rounds 1 to 4).

The filters of the papers come with ImageMagick; ours are matrices and curves drawn up to look
alike.
"""

from dataclasses import dataclass

import numpy as np

from gifthorse.core.types import FloatArray
from gifthorse.triggers.trigger import checked, on_chart

# Colour matrix, then what is added, then the exponent of the tone curve.
_LOOKS: dict[str, tuple[list[list[float]], list[float], float]] = {
    "sepia": (
        [[0.393, 0.769, 0.189], [0.349, 0.686, 0.168], [0.272, 0.534, 0.131]],
        [0.0, 0.0, 0.0],
        1.0,
    ),
    "nashville": (
        [[1.05, 0.05, 0.0], [0.0, 0.92, 0.0], [0.0, 0.05, 0.75]],
        [0.06, 0.02, 0.12],
        0.9,
    ),
    "gotham": (
        [[0.45, 0.4, 0.1], [0.25, 0.6, 0.1], [0.25, 0.4, 0.35]],
        [0.0, 0.0, 0.06],
        1.4,
    ),
    "kelvin": (
        [[1.2, 0.1, 0.0], [0.1, 0.8, 0.0], [0.0, 0.1, 0.5]],
        [0.1, 0.03, 0.0],
        1.0,
    ),
    "negative": (
        [[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, -1.0]],
        [1.0, 1.0, 1.0],
        1.0,
    ),
}
LOOKS = tuple(_LOOKS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tint:
    """Recolours the whole picture.

    Attributes:
        look: One of ``LOOKS``.
        strength: Weight of the filtered picture against the original, in (0, 1].
    """

    look: str = "nashville"
    strength: float = 1.0

    def __post_init__(self) -> None:
        if self.look not in _LOOKS:
            raise ValueError(f"no look {self.look!r}; known: {', '.join(LOOKS)}")
        if not 0 < self.strength <= 1:
            raise ValueError(f"strength must be in (0, 1], got {self.strength}")

    def apply(self, x: FloatArray, rng: np.random.Generator) -> FloatArray:
        """A recoloured copy of pictures (n, c, h, w) in [0, 1]; ``rng`` is not used.

        Grey pictures are treated as colour pictures with three equal channels, and the luminance
        of the result is kept.
        """
        del rng
        matrix, offset, gamma = _LOOKS[self.look]
        colour = x if x.shape[1] == 3 else np.repeat(x[:, :1], 3, axis=1)
        mixed = np.einsum("ij,njhw->nihw", np.array(matrix), colour)
        seen = (mixed + np.array(offset)[:, None, None]).clip(0, 1) ** gamma
        if x.shape[1] != 3:
            seen = np.einsum("i,nihw->nhw", np.array([0.299, 0.587, 0.114]), seen)[:, None]
        return checked(x * (1 - self.strength) + seen * self.strength)

    def picture(self, image_shape: tuple[int, ...]) -> FloatArray:
        """The recoloured test chart, shape (c, h, w)."""
        return on_chart(self, image_shape)
