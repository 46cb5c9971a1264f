"""FTrojan: raised coefficients in the frequency domain.

Source: Wang, Yao, Xu, An, Tong, Wang 2022, "An Invisible Black-box Backdoor Attack through
Frequency Domain" (ECCV 2022, arXiv:2111.10991), section 3: a constant is added to a middle and a
high DCT coefficient of the chrominance channels, block by block. Grey pictures have no
chrominance: their only channel is changed.

Deviation: the paper adds 30 to 50 to pictures in [0, 255], that is 0.12 to 0.2 in [0, 1]; the
default here is 0.5, because small networks trained for a few epochs miss the weaker one on grey
pictures (measured: docs/results.md).
"""

from dataclasses import dataclass
from typing import ClassVar

from gifthorse.attacks.data.trigger_poison import TriggerPoison
from gifthorse.triggers.frequency import Frequency


@dataclass(frozen=True, slots=True, kw_only=True)
class FTrojan(TriggerPoison):
    """Frequency-domain poisoning.

    Attributes:
        target: Class index that triggered pictures shall get.
        rate: Poisoned samples as a share of the training set, in (0, 1).
        mode: ``all-to-one``, ``all-to-all`` or ``source-specific``.
        source: Class index struck in ``source-specific`` mode.
        cover_rate: Share of cover samples in ``source-specific`` mode.
        clean_label: Stamp target-class samples only and change no label.
        magnitude: Added to each coefficient of the orthonormal DCT of a picture in [0, 1], in
            (0, 100].
        middle: Raise the coefficient in the middle of the band.
        high: Raise the highest coefficient.
        block: Side of a DCT block in pixels, ≥ 2.
    """

    name: ClassVar[str] = "ftrojan"
    paper: ClassVar[str] = "Wang et al. 2022, arXiv:2111.10991"

    magnitude: float = 0.5
    middle: bool = True
    high: bool = True
    block: int = 32

    @property
    def trigger(self) -> Frequency:
        """The raised coefficients."""
        return Frequency(
            magnitude=self.magnitude, middle=self.middle, high=self.high, block=self.block
        )
