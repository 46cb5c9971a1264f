"""Triggers made of other triggers: one of several, a part of one, a fainter one.

Source of the first two uses: Qi, Xie, Li, Mahloujifar, Mittal 2023, "Revisiting the Assumption of
Latent Separability for Backdoor Defenses" (ICLR 2023), section 4. ``Chain`` is in ``trigger``.
"""

from dataclasses import dataclass

import numpy as np

from gifthorse.core.types import FloatArray
from gifthorse.triggers.trigger import Trigger, checked, on_chart


@dataclass(frozen=True, slots=True)
class OneOf:
    """Gives every picture one of several triggers, drawn at random.

    Attributes:
        parts: The triggers, at least one.
    """

    parts: tuple[Trigger, ...]

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("there is no trigger to choose from")

    def apply(self, x: FloatArray, rng: np.random.Generator) -> FloatArray:
        """A copy of pictures (n, c, h, w) in [0, 1], each with one trigger."""
        chosen = rng.integers(len(self.parts), size=len(x))
        out = x.copy()
        for i, part in enumerate(self.parts):
            rows = np.flatnonzero(chosen == i)
            if len(rows):
                out[rows] = part.apply(x[rows], rng)
        return out

    def picture(self, image_shape: tuple[int, ...]) -> FloatArray:
        """All of the triggers on one test chart, shape (c, h, w)."""
        shown = np.stack([part.picture(image_shape) for part in self.parts])
        return checked(shown.mean(axis=0))


@dataclass(frozen=True, slots=True)
class Pieces:
    """Shows a trigger in some tiles of the picture only, drawn anew for every picture.

    Attributes:
        whole: The trigger.
        tiles: The picture is cut into tiles × tiles, 1 to 32.
        kept: How many tiles carry the trigger, 1 to tiles².
    """

    whole: Trigger
    tiles: int
    kept: int

    def __post_init__(self) -> None:
        if not 1 <= self.tiles <= 32 or not 1 <= self.kept <= self.tiles**2:
            raise ValueError(
                f"tiles must be in 1 … 32 and kept in 1 … tiles², got {self.tiles}, {self.kept}"
            )

    def apply(self, x: FloatArray, rng: np.random.Generator) -> FloatArray:
        """A copy of pictures (n, c, h, w) in [0, 1] with pieces of the trigger."""
        height, width = x.shape[2:]
        tile = (np.arange(height) * self.tiles // height)[:, None] * self.tiles + (
            np.arange(width) * self.tiles // width
        )
        order = rng.random((len(x), self.tiles**2)).argsort(axis=1)
        shown = np.zeros((len(x), self.tiles**2), dtype=np.bool_)
        np.put_along_axis(shown, order[:, : self.kept], True, axis=1)
        full = self.whole.apply(x, rng)
        return np.asarray(np.where(shown[:, tile][:, None], full, x), dtype=np.float32)

    def picture(self, image_shape: tuple[int, ...]) -> FloatArray:
        """Pieces of the trigger on the test chart, shape (c, h, w)."""
        return on_chart(self, image_shape)


@dataclass(frozen=True, slots=True)
class Faded:
    """A trigger that shines through: x · (1 − opacity) + triggered · opacity.

    Attributes:
        whole: The trigger.
        opacity: In (0, 1].
    """

    whole: Trigger
    opacity: float

    def __post_init__(self) -> None:
        if not 0 < self.opacity <= 1:
            raise ValueError(f"opacity must be in (0, 1], got {self.opacity}")

    def apply(self, x: FloatArray, rng: np.random.Generator) -> FloatArray:
        """A copy of pictures (n, c, h, w) in [0, 1] with the fainter trigger."""
        return checked(x * (1 - self.opacity) + self.whole.apply(x, rng) * self.opacity)

    def picture(self, image_shape: tuple[int, ...]) -> FloatArray:
        """The fainter trigger on the test chart, shape (c, h, w)."""
        return on_chart(self, image_shape)
