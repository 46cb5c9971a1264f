"""Common corruptions of pictures at five severities, in torch.

After Hendrycks & Dietterich 2019, "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations", arXiv:1903.12261. Eight of the fifteen kinds, those that need no other library and
no texture files; strengths are for small pictures and are our own.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

SEVERITIES = 5

Corruption = Callable[[Tensor, int, torch.Generator], Tensor]
"""Pictures (n, c, h, w) in [0, 1], severity 1 … 5, noise → pictures of the same shape in [0, 1]."""


def _noise(x: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    level = (0.04, 0.08, 0.12, 0.18, 0.26)[severity - 1]
    return x + level * torch.randn(x.shape, generator=generator).to(x)


def _shot(x: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    # Poisson noise by its normal approximation: the variance grows with the light.
    photons = (250.0, 100.0, 50.0, 25.0, 12.0)[severity - 1]
    return x + (x / photons).sqrt() * torch.randn(x.shape, generator=generator).to(x)


def _impulse(x: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    share = (0.01, 0.03, 0.06, 0.1, 0.17)[severity - 1]
    drawn = torch.rand(x.shape, generator=generator).to(x)
    x = torch.where(drawn < share / 2, torch.zeros_like(x), x)
    return torch.where(drawn > 1 - share / 2, torch.ones_like(x), x)


def _blur(x: Tensor, severity: int, _: torch.Generator) -> Tensor:
    sigma = (0.5, 0.75, 1.0, 1.5, 2.0)[severity - 1]
    reach = 4
    places = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
    kernel = torch.exp(-(places**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).repeat(x.shape[1], 1)
    padded = functional.pad(x, (reach,) * 4, mode="replicate")
    rows = functional.conv2d(padded, kernel[:, None, None, :], groups=x.shape[1])
    return functional.conv2d(rows, kernel[:, None, :, None], groups=x.shape[1])


def _brightness(x: Tensor, severity: int, _: torch.Generator) -> Tensor:
    return x + (0.1, 0.2, 0.3, 0.4, 0.5)[severity - 1]


def _contrast(x: Tensor, severity: int, _: torch.Generator) -> Tensor:
    kept = (0.75, 0.5, 0.4, 0.3, 0.15)[severity - 1]
    mean = x.mean((1, 2, 3), keepdim=True)
    return (x - mean) * kept + mean


def _pixelate(x: Tensor, severity: int, _: torch.Generator) -> Tensor:
    kept = (0.9, 0.75, 0.6, 0.45, 0.3)[severity - 1]
    height, width = x.shape[-2:]
    small = (max(1, round(kept * height)), max(1, round(kept * width)))
    shrunk = functional.interpolate(x, small, mode="bilinear", antialias=True)
    return functional.interpolate(shrunk, (height, width), mode="nearest")


def _fog(x: Tensor, severity: int, _: torch.Generator) -> Tensor:
    thick = (0.15, 0.3, 0.45, 0.6, 0.75)[severity - 1]
    return x * (1 - thick) + 0.7 * thick


CORRUPTIONS: dict[str, Corruption] = {
    "gaussian noise": _noise,
    "shot noise": _shot,
    "impulse noise": _impulse,
    "blur": _blur,
    "brightness": _brightness,
    "contrast": _contrast,
    "pixelate": _pixelate,
    "fog": _fog,
}


def corrupted(x: Tensor, kind: str, severity: int, generator: torch.Generator) -> Tensor:
    """Pictures (n, c, h, w) after one corruption at a severity of 1 … 5, in [0, 1]."""
    return CORRUPTIONS[kind](x, severity, generator).clamp(0, 1)
