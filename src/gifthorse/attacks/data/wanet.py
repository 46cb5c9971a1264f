"""WaNet: a smooth, hardly visible warp of the whole picture.

Source: Nguyen and Tran 2021, "WaNet: Imperceptible Warping-based Backdoor Attack" (ICLR 2021,
arXiv:2102.10369), section 3, with the noise mode of section 3.3: samples under the same warp plus
random displacements keep their label, so that the network has to learn the warp itself.

Deviations: the paper controls training and warps anew in every batch; here a fixed share of the
data set is poisoned once. The default strength is higher than the paper's 0.5, because small
networks trained for a few epochs do not find the weaker warp (measured: docs/results.md).
"""

from dataclasses import dataclass
from typing import ClassVar

from gifthorse.attacks.data.poisoning import Cover
from gifthorse.attacks.data.trigger_poison import TriggerPoison
from gifthorse.triggers.warp import Warp


@dataclass(frozen=True, slots=True, kw_only=True)
class WaNet(TriggerPoison):
    """Poisoning by warping.

    Attributes:
        target: Class index that triggered pictures shall get.
        rate: Poisoned samples as a share of the training set, in (0, 1).
        mode: ``all-to-one``, ``all-to-all`` or ``source-specific``.
        source: Class index struck in ``source-specific`` mode.
        cover_rate: Share of cover samples in ``source-specific`` mode.
        clean_label: Stamp target-class samples only and change no label.
        strength: Mean displacement at the control points, in half pixels, > 0.
        grid: The warp has grid × grid control points, 2 to 64.
        field: Seed of the warp.
        noise_rate: Samples of the noise mode as a share of the training set, in [0, 1).
    """

    name: ClassVar[str] = "wanet"
    paper: ClassVar[str] = "Nguyen and Tran 2021, arXiv:2102.10369"

    rate: float = 0.1
    strength: float = 2.0
    grid: int = 4
    field: int = 0
    noise_rate: float = 0.1

    @property
    def trigger(self) -> Warp:
        """The warp."""
        return Warp(grid=self.grid, strength=self.strength, field=self.field)

    @property
    def cover(self) -> Cover:
        """The noise mode."""
        noisy = Warp(grid=self.grid, strength=self.strength, field=self.field, noise=True)
        return Cover(rate=self.noise_rate, stamp=noisy.apply)
