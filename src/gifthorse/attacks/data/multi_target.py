"""Several triggers, each with a target of its own.

Source: Xue, He, Wang, Liu 2020, "One-to-N & N-to-One: Two Advanced Backdoor Attacks against Deep
Learning Models" (IEEE TDSC 2020), section 3 (one-to-N).

Deviation: the paper's N triggers are one patch in N intensities; ours are patches of N colours and
shapes in N places, as in TrojAI rounds with several triggers.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gifthorse.core.errors import DataError
from gifthorse.core.types import GroundTruth, ImageData
from gifthorse.data.images import ArrayImages, to_arrays, to_levels
from gifthorse.triggers.patch import Patch
from gifthorse.triggers.trigger import Chain

_LOOKS = (
    ("square", "yellow", "bottom-right"),
    ("checker", "white", "top-left"),
    ("cross", "red", "top-right"),
    ("disc", "lime", "bottom-left"),
    ("triangle", "magenta", "centre"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiTarget:
    """Patch poisoning with several triggers and targets.

    Attributes:
        target: Class index wanted by the first trigger; the next one wants the next class.
        triggers: How many there are, 1 to 5.
        rate: Poisoned samples of all triggers as a share of the training set, in (0, 1).
        size: Side of each patch in pixels.
    """

    paper: ClassVar[str] = "Xue et al. 2020, IEEE TDSC"

    target: int = 0
    triggers: int = 3
    rate: float = 0.09
    size: int = 4

    def __post_init__(self) -> None:
        if not 1 <= self.triggers <= len(_LOOKS):
            raise ValueError(f"triggers must be in 1 … {len(_LOOKS)}, got {self.triggers}")
        if not 0 < self.rate < 1:
            raise ValueError(f"rate must be in (0, 1), got {self.rate}")
        _ = self.patches

    @property
    def patches(self) -> tuple[Patch, ...]:
        """One sticker a target."""
        return tuple(
            Patch(shape=shape, colour=colour, place=place, size=self.size)
            for shape, colour, place in _LOOKS[: self.triggers]
        )

    @property
    def test_trigger(self) -> Chain:
        """All stickers at once, for a picture of them; a triggered picture carries one."""
        return Chain(self.patches)

    def poison(
        self, clean: ImageData, *, rng: np.random.Generator
    ) -> tuple[ImageData, GroundTruth]:
        """A poisoned copy of the training data, and the truth about it."""
        self._check(clean)
        count = round(self.rate * len(clean))
        pixels, labels = to_arrays(clean).pixels.copy(), clean.labels.copy()
        poisoned = np.zeros(len(clean), dtype=np.bool_)
        shares = [len(part) for part in np.array_split(np.arange(count), self.triggers)]
        for i, (patch, share) in enumerate(zip(self.patches, shares, strict=True)):
            wanted = (self.target + i) % len(clean.class_names)
            pool = np.flatnonzero(~poisoned & (clean.labels != wanted))
            if not 1 <= share <= len(pool):
                raise DataError(
                    f"cannot choose {share} poisoned samples for trigger {i + 1} in {clean.name}: "
                    f"{len(pool)} fit; change the rate"
                )
            rows = rng.choice(pool, share, replace=False)
            pixels[rows] = to_levels(self._stamped(patch, clean, rows, rng))
            labels[rows] = wanted
            poisoned[rows] = True
        truth = GroundTruth(
            attack="multi_target",
            mode="multi-target",
            target=self.target if self.triggers == 1 else None,
            source=None,
            poisoned=poisoned,
            covered=np.zeros_like(poisoned),
        )
        data = ArrayImages(
            name=f"{clean.name} + multi_target",
            pixels=pixels,
            labels=labels,
            class_names=clean.class_names,
        )
        return data, truth

    def triggered(
        self, clean: ImageData, *, rng: np.random.Generator
    ) -> tuple[ImageData, ImageData]:
        """Every picture with every trigger that does not want its own class."""
        self._check(clean)
        pixels, true, wanted = [], [], []
        for i, patch in enumerate(self.patches):
            target = (self.target + i) % len(clean.class_names)
            rows = np.flatnonzero(clean.labels != target)
            if not len(rows):
                raise DataError(f"{clean.name} has no picture that this attack would strike")
            pixels.append(to_levels(self._stamped(patch, clean, rows, rng)))
            true.append(clean.labels[rows])
            wanted.append(np.full(len(rows), target, dtype=np.int64))
        stamped, name = np.concatenate(pixels), f"{clean.name} with trigger"
        return (
            ArrayImages(
                name=name,
                pixels=stamped,
                labels=np.concatenate(wanted),
                class_names=clean.class_names,
            ),
            ArrayImages(
                name=name,
                pixels=stamped,
                labels=np.concatenate(true),
                class_names=clean.class_names,
            ),
        )

    def _stamped(
        self,
        patch: Patch,
        clean: ImageData,
        rows: np.ndarray[tuple[int], np.dtype[np.int64]],
        rng: np.random.Generator,
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        try:
            return patch.apply(clean.batch(rows), rng)
        except ValueError as error:
            raise DataError(f"the trigger does not fit {clean.name}: {error}") from error

    def _check(self, clean: ImageData) -> None:
        count = len(clean.class_names)
        if not 0 <= self.target < count:
            raise DataError(
                f"target {self.target} is no class of {clean.name}: it has 0 … {count - 1}"
            )
        if self.triggers > count:
            raise DataError(
                f"{self.triggers} triggers need as many classes; {clean.name} has {count}"
            )
