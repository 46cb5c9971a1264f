"""What attackers in federated learning want: a trigger, whole or in parts, or a rare kind of input.

Sources: Gu et al. 2017 (arXiv:1708.06733) for the patch; Xie et al. 2020 (DBA, ICLR) for its
parts; Wang et al. 2020 (arXiv:2007.05084) for inputs from the tail.

Deviation: the tail inputs are mirrored pictures of one class. They are natural, keep their true
class, and no honest client has them; the paper collects rare photographs by hand.
"""

from dataclasses import dataclass

import numpy as np

from gifthorse.core.types import FloatArray, IntArray
from gifthorse.triggers.patch import Patch

_NO_RNG = np.random.default_rng(0)  # a patch in a fixed place draws nothing from it


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchBackdoor:
    """Pictures with a patch are to be answered with the target class.

    Attributes:
        target: The class wanted.
        patch: The trigger; its place must be fixed.
    """

    target: int
    patch: Patch

    def __post_init__(self) -> None:
        if self.patch.place == "random":
            raise ValueError("a trigger that clients share needs a fixed place")

    def stamp(self, x: FloatArray, *, part: int = 0, parts: int = 1) -> FloatArray:
        """Pictures (m, c, h, w) with one part of the trigger: bands of its rows and columns."""
        stamped = self.patch.apply(x, _NO_RNG)
        if parts == 1:
            return stamped
        size = self.patch.size
        corner = self._corner(x.shape[2], x.shape[3])
        pixels = np.arange(size * size)
        mine = (pixels * parts // (size * size) == part).reshape(size, size)
        mask = np.zeros(x.shape[2:], dtype=np.bool_)
        mask[corner[0] : corner[0] + size, corner[1] : corner[1] + size] = mine
        return np.where(mask, stamped, x).astype(np.float32)

    def _corner(self, height: int, width: int) -> tuple[int, int]:
        """Top left pixel of the patch, found where black and white pictures both change."""
        changed = np.zeros((height, width), dtype=np.bool_)
        for level in (0.0, 1.0):
            blank = np.full((1, 1, height, width), level, dtype=np.float32)
            changed |= (self.patch.apply(blank, _NO_RNG) != blank)[0, 0]
        rows, columns = np.nonzero(changed)
        return int(rows.min()), int(columns.min())

    def poison(self, x: FloatArray, y: IntArray, *, part: int = 0, parts: int = 1) -> FloatArray:
        """Stamped copies of the pictures that are not of the target class."""
        return self.stamp(x[y != self.target], part=part, parts=parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class TailBackdoor:
    """Mirrored pictures of one class are to be answered with the target class.

    Attributes:
        target: The class wanted.
        source: The class whose mirrored pictures are the tail.
    """

    target: int
    source: int

    def __post_init__(self) -> None:
        if self.source == self.target:
            raise ValueError("source and target must differ")

    def poison(self, x: FloatArray, y: IntArray, *, part: int = 0, parts: int = 1) -> FloatArray:  # noqa: ARG002
        """Mirrored copies of the pictures of the source class."""
        return np.ascontiguousarray(x[y == self.source][..., ::-1])
