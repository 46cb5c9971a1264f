"""A small opaque sticker: any shape, colour and place (Gu et al. 2017, BadNets, section 3)."""

from dataclasses import dataclass

import numpy as np
from PIL import ImageColor

from gifthorse.core.types import FloatArray
from gifthorse.triggers.trigger import on_chart

SHAPES = ("square", "disc", "triangle", "cross", "checker", "reverse-lambda")
PLACES = ("top-left", "top-right", "bottom-left", "bottom-right", "centre", "random")


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """Covers some pixels with a fixed colour.

    Attributes:
        shape: One of ``SHAPES``.
        size: Side of the patch in pixels.
        colour: Any CSS colour name or ``#rrggbb``; one-channel pictures get its luminance. The
            second colour of ``checker`` is black.
        place: One of ``PLACES``, or ``ROW×COLUMN`` of the top left pixel (``3x20``); ``random``
            draws a place for every picture.
        margin: Pixels between the patch and the border, for the named corners.
    """

    shape: str = "square"
    size: int = 3
    colour: str = "yellow"
    place: str = "bottom-right"
    margin: int = 1

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise ValueError(f"no patch shape {self.shape!r}; known: {', '.join(SHAPES)}")
        if self.size < 1 or self.margin < 0:
            raise ValueError(f"size must be ≥ 1 and margin ≥ 0, got {self.size}, {self.margin}")
        if self.place not in PLACES:
            _corner_of(self.place)
        try:
            ImageColor.getrgb(self.colour)
        except ValueError as error:
            raise ValueError(f"no colour {self.colour!r}: a CSS name or #rrggbb") from error

    def apply(self, x: FloatArray, rng: np.random.Generator) -> FloatArray:
        """A stamped copy of pictures (n, c, h, w) in [0, 1]."""
        n, channels, height, width = x.shape
        if self.size > min(height, width):
            raise ValueError(f"a patch of {self.size} pixels does not fit on {height}×{width}")
        mask, colours = self._stamp(channels)
        out = x.copy()
        for i in range(n):
            top, left = self._corner(height, width, rng)
            area = out[i, :, top : top + self.size, left : left + self.size]
            area[:] = np.where(mask, colours, area)
        return out

    def picture(self, image_shape: tuple[int, ...]) -> FloatArray:
        """The patch on the test chart, shape (c, h, w)."""
        return on_chart(self, image_shape)

    def _corner(self, height: int, width: int, rng: np.random.Generator) -> tuple[int, int]:
        low, far_top, far_left = self.margin, height - self.size, width - self.size
        if self.place == "random":
            return int(rng.integers(0, far_top + 1)), int(rng.integers(0, far_left + 1))
        if self.place == "centre":
            return far_top // 2, far_left // 2
        if self.place in PLACES:
            vertical, horizontal = self.place.split("-")
            top = low if vertical == "top" else far_top - low
            left = low if horizontal == "left" else far_left - low
        else:
            top, left = _corner_of(self.place)
        if not (0 <= top <= far_top and 0 <= left <= far_left):
            raise ValueError(f"place {self.place!r} puts the patch outside of {height}×{width}")
        return top, left

    def _stamp(self, channels: int) -> tuple[np.ndarray, FloatArray]:
        """Which of (size, size) pixels are covered, and their colours (channels, size, size)."""
        rows, columns = np.mgrid[: self.size, : self.size]
        middle = (self.size - 1) / 2
        mask = {
            "square": np.ones((self.size, self.size), bool),
            "checker": np.ones((self.size, self.size), bool),
            "disc": (rows - middle) ** 2 + (columns - middle) ** 2 <= (self.size / 2) ** 2,
            "triangle": np.abs(columns - middle) <= (rows + 1) / 2,
            "cross": (np.abs(rows - middle) < 1) | (np.abs(columns - middle) < 1),
            "reverse-lambda": (rows + columns == self.size - 1)
            | ((rows == columns) & (rows >= middle)),
        }[self.shape]
        rgb = np.array(ImageColor.getrgb(self.colour)[:3], dtype=np.float32) / 255
        colour = rgb if channels == 3 else np.array([rgb @ [0.299, 0.587, 0.114]] * channels)
        colours = np.broadcast_to(
            colour.astype(np.float32)[:, None, None], (channels, self.size, self.size)
        ).copy()
        if self.shape == "checker":
            colours[:, (rows + columns) % 2 == 1] = 0.0
        return mask, colours


def _corner_of(place: str) -> tuple[int, int]:
    row, _, column = place.partition("x")
    if not (row.isdigit() and column.isdigit()):
        raise ValueError(f"no place {place!r}; known: {', '.join(PLACES)}, or ROWxCOLUMN")
    return int(row), int(column)
