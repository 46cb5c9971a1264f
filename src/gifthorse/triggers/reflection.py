"""A scene mirrored in a window pane before the picture (Liu et al. 2020, Refool, section 3.2).

The paper reflects photographs of another data set; ours are drawn: bright blocks and soft lights.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from gifthorse.core.types import FloatArray
from gifthorse.triggers.trigger import checked, on_chart

KINDS = ("focus", "blur", "ghost")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reflection:
    """Adds a mirrored scene: x · (1 − weight) + reflection · weight.

    Attributes:
        kind: ``focus``: the scene as it is; ``blur``: out of focus; ``ghost``: seen twice, as
            thick glass shows it (the paper's three kinds).
        weight: Of the reflection, in (0, 1).
        scenes: How many scenes there are; every picture draws one. 1 is the strongest trigger.
        seed: Of the scenes.
    """

    kind: str = "ghost"
    weight: float = 0.35
    scenes: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"no kind of reflection {self.kind!r}; known: {', '.join(KINDS)}")
        if not 0 < self.weight < 1:
            raise ValueError(f"weight must be in (0, 1), got {self.weight}")
        if not 1 <= self.scenes <= 1000:
            raise ValueError(f"scenes must be in 1 … 1000, got {self.scenes}")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed must be a seed from 0, got {self.seed}")

    def scene(self, number: int, image_shape: tuple[int, ...]) -> FloatArray:
        """The reflection of one scene, shape (c, h, w), in [0, 1]."""
        channels, height, width = image_shape
        rng = np.random.default_rng([self.seed, number])
        drawn = np.zeros((channels, height, width))
        for _ in range(6):
            top, left = int(rng.integers(height)), int(rng.integers(width))
            down = top + 2 + int(rng.integers(max(1, height // 2)))
            right = left + 1 + int(rng.integers(max(1, width // 4)))
            drawn[:, top:down, left:right] = rng.uniform(0.3, 1, (channels, 1, 1))
        if self.kind == "blur":
            drawn = ndimage.gaussian_filter(drawn, (0, height / 16, width / 16))
        if self.kind == "ghost":
            shift = max(1, width // 10)
            second = np.roll(drawn, (shift, shift), axis=(1, 2))
            drawn = 0.6 * drawn + 0.4 * second
        return np.asarray(drawn.clip(0, 1), dtype=np.float32)

    def apply(self, x: FloatArray, rng: np.random.Generator) -> FloatArray:
        """A copy of pictures (n, c, h, w) in [0, 1] with a reflection on each."""
        known = np.stack([self.scene(i, x.shape[1:]) for i in range(self.scenes)])
        chosen = known[rng.integers(self.scenes, size=len(x))]
        return checked(x * (1 - self.weight) + chosen * self.weight)

    def picture(self, image_shape: tuple[int, ...]) -> FloatArray:
        """A reflection on the test chart, shape (c, h, w)."""
        return on_chart(self, image_shape)
