"""A faint picture over the whole image (Chen et al. 2017, blended injection, section 4.2)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from gifthorse.core.types import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Blend:
    """x · (1 − alpha) + watermark · alpha.

    Attributes:
        alpha: Weight of the watermark, in (0, 1].
        watermark: Path of a picture, resized to the images; or ``noise:SEED`` for uniform noise;
            or ``rings`` for concentric rings drawn on the spot.
    """

    alpha: float = 0.2
    watermark: str = "noise:0"

    def __post_init__(self) -> None:
        if not 0 < self.alpha <= 1:
            raise ValueError(f"alpha must be in (0, 1], got {self.alpha}")
        kind, _, seed = self.watermark.partition(":")
        if kind == "noise" and not seed.isdigit():
            raise ValueError(f"expected noise:SEED, got {self.watermark!r}")

    def apply(self, x: FloatArray, rng: np.random.Generator) -> FloatArray:
        """A blended copy of pictures (n, c, h, w) in [0, 1]; ``rng`` is not used."""
        del rng
        mark = self.picture(x.shape[1:])
        return np.asarray(x * (1 - self.alpha) + mark * self.alpha, dtype=np.float32)

    def picture(self, image_shape: tuple[int, ...]) -> FloatArray:
        """The watermark in the shape (c, h, w) of the images, in [0, 1].

        Raises:
            ValueError: The picture file cannot be read.
        """
        channels, height, width = image_shape
        kind, _, seed = self.watermark.partition(":")
        if kind == "noise":
            return np.random.default_rng(int(seed)).random(image_shape, dtype=np.float32)
        if kind == "rings":
            rows, columns = np.mgrid[:height, :width]
            distance = np.hypot(rows - (height - 1) / 2, columns - (width - 1) / 2)
            rings = (0.5 + 0.5 * np.cos(distance * 2 * np.pi / 6)).astype(np.float32)
            return np.broadcast_to(rings, image_shape).copy()
        try:
            with Image.open(Path(self.watermark)) as opened:
                mode = "L" if channels == 1 else "RGB"
                small = opened.convert(mode).resize((width, height), Image.Resampling.BILINEAR)
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
            raise ValueError(f"cannot read the watermark {self.watermark}: {error}") from error
        pixels = np.asarray(np.asarray(small) / 255, dtype=np.float32)
        return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1).copy()
