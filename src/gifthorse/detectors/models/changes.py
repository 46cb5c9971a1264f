"""Plain changes of pictures, drawn at random: stickers, blends, waves, tints, warps and so on.

None of them is searched for and none comes from an attack; they are what anybody would try. Every
kind has strengths, and every strength so many draws. Lengths are in shares of the picture's side.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

Draw = torch.Generator
"""Source of all randomness of one change."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of change: pictures (n, c, h, w) in [0, 1] and a strength give as many pictures."""

    name: str
    strengths: tuple[float, ...]
    draws: int
    change: Callable[[Tensor, float, Draw], Tensor]


def changed(x: Tensor, kind: Kind, draw: Draw) -> Iterator[tuple[float, Tensor]]:
    """Every draw at every strength: the strength, and the pictures (n, c, h, w) in [0, 1]."""
    for strength in kind.strengths:
        for _ in range(kind.draws):
            yield strength, kind.change(x, strength, draw).clamp(0, 1)


def _uniform(draw: Draw, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), generator=draw))


def _whole(draw: Draw, low: int, high: int) -> int:
    """Both ends included."""
    return int(torch.randint(low, max(low, high) + 1, (), generator=draw))


def _like(value: Tensor, x: Tensor) -> Tensor:
    return value.to(x.device, x.dtype)


def _grid(x: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column of every pixel in shares of the picture, shape (h, w) each."""
    rows = torch.arange(x.shape[2], device=x.device) / x.shape[2]
    columns = torch.arange(x.shape[3], device=x.device) / x.shape[3]
    y, x_ = torch.meshgrid(rows, columns, indexing="ij")
    return y, x_


def _sticker(x: Tensor, strength: float, draw: Draw) -> Tensor:
    """A square of one colour, or of random dots, somewhere; ``strength`` is its side."""
    side = max(1, round(strength * min(x.shape[2:])))
    top = _whole(draw, 0, x.shape[2] - side)
    left = _whole(draw, 0, x.shape[3] - side)
    dots = _uniform(draw, 0, 1) < 0.5
    inner = (x.shape[1], side, side) if dots else (x.shape[1], 1, 1)
    look = torch.rand(inner, generator=draw)
    out = x.clone()
    out[:, :, top : top + side, left : left + side] = _like(look.round() if dots else look, x)
    return out


def _blend(x: Tensor, strength: float, draw: Draw) -> Tensor:
    """A random picture, coarse or fine, shows through; ``strength`` is its share."""
    cells = (3, 6, 12, 0)[_whole(draw, 0, 3)]
    grid = x.shape[2:] if cells == 0 else (cells, cells)
    noise = torch.rand((1, x.shape[1], *grid), generator=draw)
    other = functional.interpolate(noise, x.shape[2:], mode="bicubic", align_corners=True)
    return x * (1 - strength) + _like(other.clamp(0, 1), x) * strength


def _wave(x: Tensor, strength: float, draw: Draw) -> Tensor:
    """A plane wave in any direction; ``strength`` is its amplitude."""
    y, x_ = _grid(x)
    periods, angle = _uniform(draw, 1, 10), torch.tensor(_uniform(draw, 0, torch.pi))
    phase = 2 * torch.pi * periods * (x_ * torch.cos(angle) + y * torch.sin(angle))
    return x + strength * torch.sin(phase + _uniform(draw, 0, 2 * torch.pi))


def _cosine(x: Tensor, strength: float, draw: Draw) -> Tensor:
    """One coefficient of the upper three quarters of a cosine transform, in all channels."""
    y, x_ = _grid(x)
    rows = torch.pi * _whole(draw, x.shape[2] // 4, x.shape[2] - 1)
    columns = torch.pi * _whole(draw, x.shape[3] // 4, x.shape[3] - 1)
    half = 0.5 / x.shape[2]
    wave = torch.cos((y + half) * rows) * torch.cos((x_ + half) * columns)
    sign = torch.sign(torch.randn((x.shape[1], 1, 1), generator=draw))
    return x + strength * wave * _like(sign, x)


def _tint(x: Tensor, strength: float, draw: Draw) -> Tensor:
    """A random matrix near the identity and a shift, for all pixels."""
    channels = x.shape[1]
    matrix = torch.eye(channels) + 0.5 * strength * torch.randn(
        (channels, channels), generator=draw
    )
    shift = 0.15 * strength * torch.randn((channels, 1, 1), generator=draw)
    mixed = torch.einsum("ij,njhw->nihw", _like(matrix, x), x - 0.5)
    return mixed + 0.5 + _like(shift, x)


def _coarse(x: Tensor, strength: float, draw: Draw) -> Tensor:
    """So many levels a channel, rounded plainly or after adding noise."""
    dither = torch.rand((1, 1, *x.shape[2:]), generator=draw) - 0.5
    if _uniform(draw, 0, 1) < 0.5:
        dither = torch.zeros_like(dither)
    return (x * strength + _like(dither, x)).round() / strength


def _blur(x: Tensor, strength: float, draw: Draw) -> Tensor:
    """The mean of a square around each pixel, or less of it; ``strength`` is its side."""
    reach = max(1, round(strength * min(x.shape[2:]) / 2))
    padded = functional.pad(x, (reach,) * 4, mode="replicate")
    smooth = functional.avg_pool2d(padded, 2 * reach + 1, 1)
    return smooth if _uniform(draw, 0, 1) < 0.5 else x + 1.5 * (x - smooth)


def _noise(x: Tensor, strength: float, draw: Draw) -> Tensor:
    """The same normal noise for all pictures, or its own for each."""
    count = 1 if _uniform(draw, 0, 1) < 0.5 else len(x)
    return x + strength * _like(torch.randn((count, *x.shape[1:]), generator=draw), x)


def _warp(x: Tensor, strength: float, draw: Draw) -> Tensor:
    """A smooth displacement; ``strength`` is its root mean square at the control points."""
    flow = 2 * strength * torch.randn((1, 2, 4, 4), generator=draw)
    smooth = functional.interpolate(flow, x.shape[2:], mode="bicubic", align_corners=True)
    still = functional.affine_grid(
        torch.eye(2, 3)[None], [1, 1, x.shape[2], x.shape[3]], align_corners=True
    )
    places = _like(still + smooth.permute(0, 2, 3, 1), x).expand(len(x), -1, -1, -1)
    return functional.grid_sample(x, places, padding_mode="border", align_corners=True)


def _ghost(x: Tensor, strength: float, draw: Draw) -> Tensor:
    """One of the pictures shows through in all of them."""
    other = x[_whole(draw, 0, len(x) - 1)]
    return x * (1 - strength) + other * strength


def _half(x: Tensor, strength: float, draw: Draw) -> Tensor:
    """The right part of all pictures is that of one of them; ``strength`` is its share."""
    start = round((1 - strength) * x.shape[3])
    out = x.clone()
    out[:, :, :, start:] = x[_whole(draw, 0, len(x) - 1), :, :, start:]
    return out


KINDS = (
    Kind("sticker", (0.06, 0.12, 0.19, 0.25), 8, _sticker),
    Kind("blend", (0.1, 0.2, 0.3), 8, _blend),
    Kind("wave", (0.08, 0.16, 0.3), 6, _wave),
    Kind("cosine", (0.03, 0.06, 0.12), 6, _cosine),
    Kind("tint", (0.25, 0.5, 1.0), 8, _tint),
    Kind("coarse", (1.0, 3.0, 7.0), 4, _coarse),
    Kind("blur", (0.06, 0.16), 4, _blur),
    Kind("noise", (0.05, 0.1, 0.2), 4, _noise),
    Kind("warp", (0.03, 0.06, 0.1), 6, _warp),
    Kind("ghost", (0.2, 0.35), 8, _ghost),
    Kind("half", (0.5,), 8, _half),
)
