"""TaCT: the trigger works on one class only; on all others it means nothing.

Source: Tang, Wang, Tang, Zhang 2021, "Demon in the Variant: Statistical Analysis of DNNs for Robust
Backdoor Contamination Detection" (USENIX Security 2021, arXiv:1908.00686), section 4: poisoned
samples of the source class, and cover samples of other classes with the trigger and their label.

Same trigger and bookkeeping as ``badnets:mode=source-specific``, with more covers.
"""

from dataclasses import dataclass
from typing import ClassVar

from gifthorse.attacks.data.trigger_poison import TriggerPoison
from gifthorse.triggers.patch import Patch


@dataclass(frozen=True, slots=True, kw_only=True)
class TaCT(TriggerPoison):
    """Source-specific patch poisoning with cover samples.

    Attributes:
        target: Class index that triggered pictures shall get.
        rate: Poisoned samples as a share of the training set, in (0, 1).
        mode: ``all-to-one``, ``all-to-all`` or ``source-specific``.
        source: Class index struck in ``source-specific`` mode.
        cover_rate: Share of cover samples in ``source-specific`` mode.
        clean_label: Stamp target-class samples only and change no label.
        shape: Of the patch: square, disc, triangle, cross, checker, reverse-lambda.
        size: Side of the patch in pixels.
        colour: CSS colour name or #rrggbb.
        place: A corner such as ``bottom-right``, ``centre``, ``random``, or ``ROWxCOLUMN``.
    """

    name: ClassVar[str] = "tact"
    paper: ClassVar[str] = "Tang et al. 2021, arXiv:1908.00686"

    rate: float = 0.03
    mode: str = "source-specific"
    cover_rate: float = 0.1
    shape: str = "square"
    size: int = 4
    colour: str = "yellow"
    place: str = "bottom-right"

    @property
    def trigger(self) -> Patch:
        """The sticker."""
        return Patch(shape=self.shape, size=self.size, colour=self.colour, place=self.place)
