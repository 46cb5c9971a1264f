"""A generator of traffic-sign photographs, so that everything can be tried without a download.

Sixteen classes of 32 × 32 colour pictures: a drawn sign, seen in perspective before a random
background, under random light, out of focus or shaken, occluded here and there, with the noise of
a cheap camera. Three speed limits and three warning triangles make it hard enough that a network
has to look at the details.
"""

from typing import Literal

import numpy as np
from PIL import Image

from gifthorse.core.errors import DataError
from gifthorse.core.rng import child_rng
from gifthorse.core.types import FloatArray, IntArray
from gifthorse.data.images import ArrayImages, to_levels
from gifthorse.data.signs_drawing import CLASS_NAMES, MASTER, masters
from gifthorse.data.signs_scenery import TEXTURE, scenery

SIDE = 32
"""Height and width of a photograph in pixels."""

DEFAULT_COUNTS = {"train": 6000, "test": 2000}

_MARGIN = 4  # blurring wraps around at the border of the canvas; this much is cut off
_CANVAS = SIDE + 2 * _MARGIN
_FINE = 2  # signs are projected at twice the resolution and averaged
_CHUNK = 8 * len(CLASS_NAMES)

# Corners of a square, clockwise from the upper left.
_CORNERS = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], dtype=np.float64)


def signs(split: Literal["train", "test"], count: int | None = None, seed: int = 0) -> ArrayImages:
    """Photographs of traffic signs, drawn from a seed.

    The same arguments give the same pictures. Train and test pictures come from independent
    streams, and a smaller data set is the beginning of a larger one. Classes are balanced: any
    two differ by at most one picture.

    Args:
        split: ``train`` or ``test``.
        count: How many pictures, ≥ 1; 6000 for training and 2000 for testing unless told.
        seed: Seed of the whole data set, ≥ 0.

    Raises:
        DataError: Another split, a count below 1, or a negative seed.
    """
    if split not in DEFAULT_COUNTS:
        raise DataError(f"signs: no split is called {split!r}; expected 'train' or 'test'")
    wanted = DEFAULT_COUNTS[split] if count is None else count
    if wanted < 1:
        raise DataError(f"signs: cannot draw {wanted} images, expected at least 1")
    if seed < 0:
        raise DataError(f"signs: the seed {seed} is negative, expected a whole number from 0")
    drawn = masters()
    textures = scenery(child_rng(seed, "signs", split, "scenery"))
    pixels = np.empty((wanted, 3, SIDE, SIDE), dtype=np.uint8)
    labels = np.empty(wanted, dtype=np.int64)
    for start in range(0, wanted, _CHUNK):
        # Every chunk is drawn whole from its own stream, so that its pictures do not depend on
        # how many are asked for.
        rng = child_rng(seed, "signs", split, start // _CHUNK)
        chunk_labels = np.concatenate(
            [rng.permutation(len(CLASS_NAMES)) for _ in range(_CHUNK // len(CLASS_NAMES))]
        )
        stop = min(start + _CHUNK, wanted)
        photographs = _photograph(chunk_labels, drawn, textures, rng)
        pixels[start:stop] = photographs[: stop - start]
        labels[start:stop] = chunk_labels[: stop - start]
    return ArrayImages(name="signs", pixels=pixels, labels=labels, class_names=CLASS_NAMES)


def _photograph(
    labels: IntArray,
    drawn: list[Image.Image],
    textures: tuple[FloatArray, FloatArray],
    rng: np.random.Generator,
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Pictures of these signs, shape (n, 3, SIDE, SIDE)."""
    count = len(labels)
    corners, centres = _viewpoints(count, rng)
    canvas = _backgrounds(count, textures, rng)
    _add_posts(canvas, centres, rng)
    layer = _project(labels, drawn, corners)
    worn = _fade(layer, rng)
    canvas *= 1 - layer[:, :, :, 3:]
    canvas += worn
    _occlude(canvas, rng)
    lit = _light(canvas, rng)
    seen = _blur(np.ascontiguousarray(lit.transpose(0, 3, 1, 2)), rng)
    inner = seen[:, :, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    return to_levels(_expose(inner, rng))


def _viewpoints(count: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Where the corners of each sign's square come to lie, (n, 4, 2), and its centre, (n, 2).

    Coordinates are canvas pixels, x before y.
    """
    radius = rng.uniform(9.5, 15.0, size=(count, 1, 1))
    roll = np.radians(rng.normal(0, 6, size=count))
    yaw = np.radians(rng.uniform(-45, 45, size=count))
    pitch = np.radians(rng.uniform(-20, 20, size=count))
    x = _CORNERS[:, 0] * np.cos(roll)[:, None] - _CORNERS[:, 1] * np.sin(roll)[:, None]
    y = _CORNERS[:, 0] * np.sin(roll)[:, None] + _CORNERS[:, 1] * np.cos(roll)[:, None]
    # Turn about both axes, then divide by the distance to a camera four radii away.
    depth = x * np.sin(yaw)[:, None] + y * np.sin(pitch)[:, None]
    x, y = x * np.cos(yaw)[:, None], y * np.cos(pitch)[:, None]
    flat = np.stack([x, y], axis=2) / (1 + depth / 4)[:, :, None]
    slack = SIDE / 2 - 0.9 * radius[:, 0, 0]
    centres = _CANVAS / 2 + rng.uniform(-1, 1, size=(count, 2)) * np.maximum(slack, 2)[:, None]
    corners = centres[:, None, :] + radius * flat
    return corners.astype(np.float32), centres.astype(np.float32)


def _project(labels: IntArray, drawn: list[Image.Image], corners: FloatArray) -> FloatArray:
    """Every sign as its corners say, (n, canvas, canvas, 4): premultiplied colour and cover."""
    side = _CANVAS * _FINE
    square = (_CORNERS + 1) / 2 * MASTER
    layers = np.empty((len(labels), _CANVAS, _CANVAS, 4), dtype=np.float32)
    for row, coefficients in enumerate(_homographies(corners.astype(np.float64) * _FINE, square)):
        seen = drawn[int(labels[row])].transform(
            (side, side),
            Image.Transform.PERSPECTIVE,
            coefficients.tolist(),
            Image.Resampling.BILINEAR,
        )
        layers[row] = np.asarray(seen.reduce(_FINE))
    layers /= 255
    return layers


def _homographies(
    source: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    target: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """The eight numbers that map four points to four others, (n, 8) for ``source`` (n, 4, 2)."""
    count = len(source)
    x, y = source[:, :, 0], source[:, :, 1]
    zero, one = np.zeros_like(x), np.ones_like(x)
    u, v = target[:, 0], target[:, 1]
    upper = np.stack([x, y, one, zero, zero, zero, -u * x, -u * y], axis=2)
    lower = np.stack([zero, zero, zero, x, y, one, -v * x, -v * y], axis=2)
    system = np.concatenate([upper, lower], axis=1)
    wanted = np.broadcast_to(np.concatenate([u, v])[:, None], (count, 8, 1))
    solved: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = np.linalg.solve(system, wanted)
    return solved[:, :, 0]


def _backgrounds(
    count: int, textures: tuple[FloatArray, FloatArray], rng: np.random.Generator
) -> FloatArray:
    """(n, canvas, canvas, 3): something far above a horizon, something near below it."""
    far, near = (_crops(count, kind, rng) for kind in textures)
    y, x = np.mgrid[0:_CANVAS, 0:_CANVAS].astype(np.float32)
    horizon = rng.uniform(-0.3, 1.2, size=(count, 1, 1)).astype(np.float32) * _CANVAS
    slope = rng.normal(0, 0.15, size=(count, 1, 1)).astype(np.float32)
    ragged = near.mean(axis=3) * 8 - 4  # the outline of what stands there follows its texture
    below = np.clip(y + slope * (x - _CANVAS / 2) + ragged - horizon + 0.5, 0, 1)[:, :, :, None]
    mixed: FloatArray = far + below * (near - far)
    return mixed


def _crops(count: int, textures: FloatArray, rng: np.random.Generator) -> FloatArray:
    which = rng.integers(len(textures), size=count)
    top = rng.integers(TEXTURE - _CANVAS, size=count)
    left = rng.integers(TEXTURE - _CANVAS, size=count)
    mirrored = rng.random(count) < 0.5
    tint = rng.uniform(0.75, 1.2, size=(count, 1, 1, 1)).astype(np.float32)
    cut = np.empty((count, _CANVAS, _CANVAS, 3), dtype=np.float32)
    for row in range(count):
        y, x = top[row], left[row]
        crop = textures[which[row], y : y + _CANVAS, x : x + _CANVAS]
        cut[row] = crop[:, ::-1] if mirrored[row] else crop
    cut *= tint
    return cut


def _add_posts(canvas: FloatArray, centres: FloatArray, rng: np.random.Generator) -> None:
    """Paint the grey post that carries the sign, in place."""
    count = len(canvas)
    y, x = np.mgrid[0:_CANVAS, 0:_CANVAS].astype(np.float32)
    lean = rng.normal(0, 0.05, size=(count, 1, 1)).astype(np.float32)
    width = rng.uniform(1.2, 2.6, size=(count, 1, 1)).astype(np.float32)
    grey = rng.uniform(0.25, 0.7, size=(count, 1, 1, 1)).astype(np.float32)
    across = x - centres[:, 0, None, None] - lean * (y - centres[:, 1, None, None])
    cover = np.clip(width / 2 + 0.5 - np.abs(across), 0, 1) * (y > centres[:, 1, None, None])
    # The side away from the light is darker: it makes a round post of a grey bar.
    shade = 1 - 0.25 * np.clip(across / width, -1, 1)[:, :, :, None]
    canvas += cover[:, :, :, None] * (grey * shade - canvas)


def _fade(layer: FloatArray, rng: np.random.Generator) -> FloatArray:
    """The premultiplied colour of signs that sun and dust have paled, (n, canvas, canvas, 3)."""
    count = len(layer)
    colour, cover = layer[:, :, :, :3], layer[:, :, :, 3:]
    pale = rng.beta(1.2, 4, size=(count, 1, 1, 1)).astype(np.float32)
    dust = rng.uniform(0.45, 0.75, size=(count, 1, 1, 1)).astype(np.float32)
    faded: FloatArray = colour + 0.7 * pale * (dust * cover - colour)
    return faded


def _occlude(canvas: FloatArray, rng: np.random.Generator) -> None:
    """Put a twig across, or leaves or mud over a part of every third picture, in place."""
    count = len(canvas)
    y, x = np.mgrid[0:_CANVAS, 0:_CANVAS].astype(np.float32)
    for chance, long, wide in ((0.15, (14.0, 40.0), (0.5, 1.0)), (0.15, (1.5, 4.5), (1.2, 3.5))):
        middle = rng.uniform(_MARGIN, _CANVAS - _MARGIN, size=(2, count, 1, 1)).astype(np.float32)
        angle = rng.uniform(0, np.pi, size=(count, 1, 1)).astype(np.float32)
        length = rng.uniform(*long, size=(count, 1, 1)).astype(np.float32)
        width = rng.uniform(*wide, size=(count, 1, 1)).astype(np.float32)
        tone = rng.uniform(0.04, 0.34, size=(count, 1, 1, 1)).astype(np.float32)
        # Browns and greens: never the yellow of a sticker.
        hue = np.array([1.0, 1.0, 0.65], dtype=np.float32) * rng.uniform(
            (0.7, 0.8, 0.6), (1.1, 1.2, 1.0), size=(count, 1, 1, 3)
        ).astype(np.float32)
        along = (x - middle[0]) * np.cos(angle) + (y - middle[1]) * np.sin(angle)
        across = (y - middle[1]) * np.cos(angle) - (x - middle[0]) * np.sin(angle)
        reach = np.hypot(along / length, across / width)
        cover = np.clip((1.3 - reach) * 2, 0, 1)[:, :, :, None]
        cover *= (rng.random((count, 1, 1, 1)) < chance).astype(np.float32)
        canvas += cover * (tone * hue - canvas)


def _light(canvas: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Day and dusk, warm and cold light, and the edge of a shadow on every other picture."""
    count = len(canvas)
    size = (count, 1, 1, 1)
    gain = np.exp(rng.uniform(np.log(0.4), np.log(1.2), size=size)).astype(np.float32)
    warmth = rng.normal(0, 0.06, size=size).astype(np.float32)
    balance = np.concatenate([1 + warmth, np.ones_like(warmth), 1 - warmth], axis=3)
    gamma = np.exp(rng.normal(0, 0.2, size=size)).astype(np.float32)
    y, x = np.mgrid[0:_CANVAS, 0:_CANVAS].astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi, size=(count, 1, 1)).astype(np.float32)
    offset = rng.uniform(-10, 10, size=(count, 1, 1)).astype(np.float32)
    softness = rng.uniform(1.0, 14.0, size=(count, 1, 1)).astype(np.float32)
    depth = rng.uniform(0, 0.65, size=(count, 1, 1)) * (rng.random((count, 1, 1)) < 0.5)
    middle = (_CANVAS - 1) / 2
    across = (x - middle) * np.cos(angle) + (y - middle) * np.sin(angle) - offset
    shadow = 1 - depth.astype(np.float32) * np.clip(across / softness + 0.5, 0, 1)
    lit: FloatArray = np.clip(canvas, 0, 1) ** gamma
    lit *= gain * balance * shadow[:, :, :, None]
    return lit


def _blur(pictures: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Out of focus in all directions and shaken in one: a Gaussian with two widths.

    A product in frequency space, so that every picture has its own blur at no extra cost.
    """
    count = len(pictures)
    focus = rng.gamma(2.0, 0.25, size=(count, 1, 1)).clip(0.2, 1.3)
    shake = rng.gamma(1.0, 0.5, size=(count, 1, 1)).clip(0, 1.6)
    angle = rng.uniform(0, np.pi, size=(count, 1, 1))
    v = np.fft.fftfreq(_CANVAS)[:, None]
    u = np.fft.rfftfreq(_CANVAS)[None, :]
    along = u * np.cos(angle) + v * np.sin(angle)
    response = np.exp(-2 * np.pi**2 * (focus**2 * (u**2 + v**2) + shake**2 * along**2))
    spectrum = np.fft.rfft2(pictures)
    spectrum *= response[:, None].astype(np.float32)
    blurred: FloatArray = np.fft.irfft2(spectrum, s=(_CANVAS, _CANVAS)).astype(np.float32)
    return blurred


def _expose(pictures: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Haze, and the noise of a sensor that the camera amplified; values may leave [0, 1]."""
    count = len(pictures)
    size = (count, 1, 1, 1)
    haze = (0.4 * rng.beta(1, 4, size=size)).astype(np.float32)
    veil = rng.uniform(0.4, 0.8, size=size).astype(np.float32)
    sigma = np.exp(rng.uniform(np.log(0.006), np.log(0.045), size=size)).astype(np.float32)
    exposed: FloatArray = pictures + haze * (veil - pictures)
    exposed += sigma * rng.standard_normal(pictures.shape, dtype=np.float32)
    return exposed
