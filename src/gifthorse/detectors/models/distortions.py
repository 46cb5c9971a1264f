"""Perturbations that move what is there."""

import torch
from torch import Tensor
from torch.nn import functional

_GRID = 5


class Warped:
    """Reads every pixel a little elsewhere, along a smooth field; the size is the field's norm.

    After the trigger of WaNet (Nguyen & Tran 2021, arXiv:2102.10369, section 3.2): displacements at
    ``grid`` × ``grid`` control points, bicubic in between. The size is the root mean square
    displacement of the control points, in pixels.

    Args:
        grid: Control points along each side.
    """

    def __init__(self, grid: int = _GRID) -> None:
        self.grid = grid

    def start(
        self,
        classes: int,
        shape: tuple[int, int, int],  # noqa: ARG002 - control points do not depend on it
        generator: torch.Generator,
    ) -> list[Tensor]:
        """Displacements close to zero, shape (classes, 2, grid, grid), x before y."""
        return [0.1 * torch.randn((classes, 2, self.grid, self.grid), generator=generator)]

    def apply(self, parameters: list[Tensor], x: Tensor) -> Tensor:
        """Every field on every picture (n, c, h, w), or on its own ones (classes, n, c, h, w)."""
        classes = len(parameters[0])
        if x.ndim == 4:
            x = x.expand(classes, *x.shape)
        n, channels, height, width = x.shape[1:]
        places = _places(self.flow(parameters, (height, width)))
        moved = functional.grid_sample(
            x.reshape(classes, n * channels, height, width),
            places,
            padding_mode="border",
            align_corners=True,
        )
        return moved.view(classes, n, channels, height, width)

    def size(self, parameters: list[Tensor]) -> Tensor:
        """Root mean square displacements in pixels."""
        return parameters[0].flatten(1).square().mean(1).clamp(min=1e-12).sqrt()

    def flow(self, parameters: list[Tensor], side: tuple[int, int]) -> Tensor:
        """How far away every pixel is read, in pixels, shape (classes, 2, h, w)."""
        return functional.interpolate(parameters[0], side, mode="bicubic", align_corners=True)


def _places(flow: Tensor) -> Tensor:
    """Where ``grid_sample`` shall read (classes, h, w, 2), from pixels (classes, 2, h, w)."""
    height, width = flow.shape[-2:]
    rows = torch.linspace(-1, 1, height, device=flow.device)
    columns = torch.linspace(-1, 1, width, device=flow.device)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    scale = torch.tensor([2 / max(1, width - 1), 2 / max(1, height - 1)], device=flow.device)
    return torch.stack([x, y], dim=-1) + flow.permute(0, 2, 3, 1) * scale
