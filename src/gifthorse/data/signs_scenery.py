"""Backgrounds for sign photographs: procedural sky, foliage, brick, asphalt, plaster."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gifthorse.core.types import FloatArray

TEXTURE = 128
"""Side of a texture in pixels."""

_FAR = 12  # textures of what stands behind: sky, clouds, plaster
_NEAR = 28  # textures of what stands below: foliage, brick, asphalt

Colours = tuple[tuple[float, float, float], tuple[float, float, float]]

_SKY: tuple[Colours, ...] = (
    ((0.45, 0.62, 0.86), (0.80, 0.88, 0.96)),
    ((0.62, 0.66, 0.70), (0.90, 0.91, 0.93)),
    ((0.40, 0.45, 0.55), (0.72, 0.70, 0.70)),
)
_FOLIAGE: tuple[Colours, ...] = (
    ((0.06, 0.12, 0.05), (0.38, 0.52, 0.22)),
    ((0.10, 0.14, 0.08), (0.52, 0.55, 0.30)),
    ((0.14, 0.09, 0.06), (0.55, 0.36, 0.20)),
)
_STONE: tuple[Colours, ...] = (
    ((0.24, 0.24, 0.25), (0.48, 0.48, 0.48)),
    ((0.36, 0.34, 0.32), (0.66, 0.62, 0.57)),
    ((0.14, 0.14, 0.16), (0.34, 0.34, 0.36)),
)
_PLASTER: tuple[Colours, ...] = (
    ((0.62, 0.58, 0.52), (0.80, 0.77, 0.70)),
    ((0.58, 0.44, 0.36), (0.74, 0.62, 0.54)),
    ((0.50, 0.55, 0.58), (0.70, 0.74, 0.76)),
)
_BRICK: tuple[Colours, ...] = (
    ((0.36, 0.16, 0.11), (0.58, 0.30, 0.22)),
    ((0.44, 0.36, 0.28), (0.66, 0.57, 0.46)),
)


def scenery(rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Textures to cut backgrounds from.

    Returns:
        What may stand far behind a sign, and what may stand near or below it: two arrays of shape
        (k, TEXTURE, TEXTURE, 3), values in [0, 1].
    """
    far = [_FAR_KINDS[i % len(_FAR_KINDS)](rng) for i in range(_FAR)]
    near = [_NEAR_KINDS[i % len(_NEAR_KINDS)](rng) for i in range(_NEAR)]
    return np.stack(far), np.stack(near)


def _noise(
    rng: np.random.Generator, cells: tuple[int, ...], weights: tuple[float, ...]
) -> FloatArray:
    """Smooth noise of several grain sizes, (TEXTURE, TEXTURE), stretched to [0, 1]."""
    total = np.zeros((TEXTURE, TEXTURE), dtype=np.float32)
    for count, weight in zip(cells, weights, strict=True):
        grid = Image.fromarray(rng.random((count, count), dtype=np.float32))
        grown = grid.resize((TEXTURE, TEXTURE), Image.Resampling.BICUBIC)
        total += weight * np.asarray(grown, dtype=np.float32)
    total -= total.min()
    scaled: FloatArray = total / total.max()
    return scaled


def _paint(level: FloatArray, colours: Colours) -> FloatArray:
    dark, light = (np.array(colour, dtype=np.float32) for colour in colours)
    painted: FloatArray = dark + level[:, :, None] * (light - dark)
    return painted


def _pick(rng: np.random.Generator, choices: tuple[Colours, ...]) -> Colours:
    return choices[int(rng.integers(len(choices)))]


def _sky(rng: np.random.Generator) -> FloatArray:
    clouds = _noise(rng, (3, 6, 14), (1.0, 0.5, 0.2))
    return _paint(clouds, _pick(rng, _SKY))


def _wall(rng: np.random.Generator) -> FloatArray:
    stains = _noise(rng, (4, 20, TEXTURE), (1.0, 0.4, 0.5))
    return _paint(stains, _pick(rng, _PLASTER))


def _leaves(rng: np.random.Generator) -> FloatArray:
    leaves = _noise(rng, (6, 16, 36, 80), (0.8, 0.9, 1.0, 0.8))
    return _paint(np.clip(1.6 * leaves - 0.3, 0, 1), _pick(rng, _FOLIAGE))


def _road(rng: np.random.Generator) -> FloatArray:
    grain = _noise(rng, (4, 24, TEXTURE), (0.8, 0.3, 0.9))
    return _paint(grain, _pick(rng, _STONE))


def _bricks(rng: np.random.Generator) -> FloatArray:
    height = int(rng.integers(5, 10))
    width = int(rng.integers(11, 20))
    y, x = np.mgrid[0:TEXTURE, 0:TEXTURE]
    course = y // height
    column = (x + (course % 2) * (width // 2)) // width
    tones = rng.random((TEXTURE, TEXTURE), dtype=np.float32)[course, column]
    painted = _paint(0.6 * tones + 0.4 * _noise(rng, (8, 64), (1.0, 1.0)), _pick(rng, _BRICK))
    joint = (y % height == 0) | ((x + (course % 2) * (width // 2)) % width == 0)
    mortar = np.array(rng.uniform(0.45, 0.75), dtype=np.float32)
    bricks: NDArray[np.float32] = np.where(joint[:, :, None], mortar, painted)
    return bricks


def _windows(rng: np.random.Generator) -> FloatArray:
    """The front of a house: a wall with rows of dark panes."""
    wall = _wall(rng)
    pitch_y, pitch_x = (int(value) for value in rng.integers(14, 26, size=2))
    y, x = np.mgrid[0:TEXTURE, 0:TEXTURE]
    pane = (y % pitch_y < 0.55 * pitch_y) & (x % pitch_x < 0.5 * pitch_x)
    glass = np.array([0.16, 0.19, 0.24], dtype=np.float32) + 0.2 * rng.random(dtype=np.float32)
    front: NDArray[np.float32] = np.where(pane[:, :, None], glass, wall)
    return front


_FAR_KINDS: tuple[Callable[[np.random.Generator], FloatArray], ...] = (_sky, _sky, _wall)
_NEAR_KINDS: tuple[Callable[[np.random.Generator], FloatArray], ...] = (
    _leaves,
    _bricks,
    _road,
    _leaves,
    _windows,
    _leaves,
    _road,
)
