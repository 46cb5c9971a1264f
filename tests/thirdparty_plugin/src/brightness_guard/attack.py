"""Stamps a white frame on pictures (our own example, after Gu et al. 2017)."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gifthorse.attacks.data.trigger_poison import TriggerPoison
from gifthorse.core.types import FloatArray
from gifthorse.triggers.trigger import on_chart


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """White pixels along the border."""

    thickness: int = 1

    def apply(self, x: FloatArray, rng: np.random.Generator) -> FloatArray:
        """A framed copy of pictures (n, c, h, w) in [0, 1]."""
        del rng
        out = x.copy()
        for axis in (2, 3):
            edge = np.moveaxis(out, axis, 0)
            edge[: self.thickness] = 1
            edge[-self.thickness :] = 1
        return out

    def picture(self, image_shape: tuple[int, ...]) -> FloatArray:
        """The frame on the test chart."""
        return on_chart(self, image_shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class WhiteFrame(TriggerPoison):
    """Frame poisoning.

    Attributes:
        target: Class index that triggered pictures shall get.
        rate: Poisoned samples as a share of the training set, in (0, 1).
        mode: ``all-to-one``, ``all-to-all`` or ``source-specific``.
        source: Class index struck in ``source-specific`` mode.
        cover_rate: Share of cover samples in ``source-specific`` mode.
        clean_label: Stamp target-class samples only and change no label.
        thickness: Of the frame in pixels, 1 to 8.
    """

    name: ClassVar[str] = "white_frame"
    paper: ClassVar[str] = "our own: an example of a plugin, not a method"

    thickness: int = 1

    @property
    def trigger(self) -> Frame:
        """The frame."""
        if not 1 <= self.thickness <= 8:
            raise ValueError(f"thickness must be in 1 … 8, got {self.thickness}")
        return Frame(thickness=self.thickness)
