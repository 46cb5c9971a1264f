"""What a trigger is: pictures in, pictures out, and a picture of itself."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from gifthorse.core.types import FloatArray

Stamp = Callable[[FloatArray, np.random.Generator], FloatArray]


@runtime_checkable
class Trigger(Protocol):
    """A change that an attacker makes to pictures."""

    def apply(self, x: FloatArray, rng: np.random.Generator) -> FloatArray:
        """A triggered copy of pictures (n, c, h, w) in [0, 1]; the given ones are not changed.

        Raises:
            ValueError: The trigger does not fit pictures of this shape.
        """

    def picture(self, image_shape: tuple[int, ...]) -> FloatArray:
        """What it looks like, in the shape (c, h, w) of the images, in [0, 1]."""


@dataclass(frozen=True, slots=True)
class Chain:
    """Triggers applied one after the other; with none of them, nothing happens.

    Attributes:
        parts: The triggers, in the order of their application.
    """

    parts: tuple[Trigger, ...]

    def apply(self, x: FloatArray, rng: np.random.Generator) -> FloatArray:
        """A copy of pictures (n, c, h, w) in [0, 1] that carries all parts."""
        out = x.copy()
        for part in self.parts:
            out = part.apply(out, rng)
        return out

    def picture(self, image_shape: tuple[int, ...]) -> FloatArray:
        """All parts on the test chart, shape (c, h, w)."""
        return on_chart(self, image_shape)


def chart(image_shape: tuple[int, ...]) -> FloatArray:
    """A test chart (c, h, w) in [0, 1] on which any trigger shows.

    A light grid shows warps, smooth ramps show filters and quantisation, mid-grey shows additions.
    """
    channels, height, width = image_shape
    rows = np.linspace(0.2, 0.8, height, dtype=np.float32)[:, None]
    columns = np.linspace(0.2, 0.8, width, dtype=np.float32)[None, :]
    ramps = [
        np.broadcast_to(rows, (height, width)),
        np.broadcast_to(columns, (height, width)),
        np.broadcast_to(0.5 * (rows + 1 - columns), (height, width)),
    ]
    out = np.stack([ramps[i % 3] for i in range(channels)]).astype(np.float32)
    out[:, ::4, :] += 0.15
    out[:, :, ::4] += 0.15
    return np.asarray(out.clip(0, 1), dtype=np.float32)


def on_chart(trigger: Trigger, image_shape: tuple[int, ...]) -> FloatArray:
    """The test chart with a trigger on it, shape (c, h, w), in [0, 1]."""
    shown = trigger.apply(chart(image_shape)[None], np.random.default_rng(0))
    return np.asarray(shown[0].clip(0, 1), dtype=np.float32)


def checked(x: NDArray[np.floating[Any]]) -> FloatArray:
    """Pictures as a trigger returns them: float32, clipped to [0, 1]."""
    return np.asarray(x.clip(0, 1), dtype=np.float32)
