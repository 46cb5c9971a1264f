"""A smooth, fixed distortion of the whole picture (Nguyen and Tran 2021, WaNet, section 3.2)."""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from gifthorse.core.types import FloatArray
from gifthorse.triggers.trigger import checked, on_chart


@dataclass(frozen=True, slots=True, kw_only=True)
class Warp:
    """Moves every pixel along a smooth random field.

    Attributes:
        grid: The field is drawn at grid × grid control points, 2 to 64.
        strength: Mean displacement along one axis at the control points, in half pixels, > 0.
        field: Seed of the field: another seed is another trigger.
        noise: Adds a random displacement of up to half a pixel at every pixel, new for every
            picture: the paper's noise mode, in which a picture must keep its class.
    """

    grid: int = 4
    strength: float = 0.5
    field: int = 0
    noise: bool = False

    def __post_init__(self) -> None:
        if not 2 <= self.grid <= 64:
            raise ValueError(f"grid must be in 2 … 64, got {self.grid}")
        if not 0 < self.strength <= 1e3:
            raise ValueError(f"strength must be in (0, 1000], got {self.strength}")
        if not 0 <= self.field < 2**63:
            raise ValueError(f"field must be a seed from 0, got {self.field}")

    def places(self, height: int, width: int) -> FloatArray:
        """Where every pixel is read, shape (h, w, 2), x before y, in [-1, 1]."""
        drawn = np.random.default_rng(self.field).uniform(-1, 1, (1, 2, self.grid, self.grid))
        drawn /= np.abs(drawn).mean()
        flow = functional.interpolate(
            torch.from_numpy(drawn), (height, width), mode="bicubic", align_corners=True
        )[0].numpy()
        rows, columns = np.meshgrid(
            np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij"
        )
        x = columns + self.strength * flow[0] / width
        y = rows + self.strength * flow[1] / height
        return np.asarray(np.stack([x, y], axis=2).clip(-1, 1), dtype=np.float32)

    def apply(self, x: FloatArray, rng: np.random.Generator) -> FloatArray:
        """A warped copy of pictures (n, c, h, w) in [0, 1]; ``rng`` serves the noise alone."""
        n, _, height, width = x.shape
        places = np.repeat(self.places(height, width)[None], n, axis=0)
        if self.noise:
            shake = rng.uniform(-1, 1, (n, height, width, 2)).astype(np.float32)
            places = (places + shake / np.array([width, height], np.float32)).clip(-1, 1)
        moved = functional.grid_sample(
            torch.from_numpy(np.array(x, dtype=np.float32)),
            torch.from_numpy(places.astype(np.float32)),
            align_corners=True,
        )
        return checked(moved.numpy())

    def picture(self, image_shape: tuple[int, ...]) -> FloatArray:
        """The distorted test chart, shape (c, h, w)."""
        return on_chart(self, image_shape)
