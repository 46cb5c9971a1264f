"""Photo filter: the whole picture is recoloured, as by an Instagram filter.

Source: Liu, Lee, Tao, Ma, Aafer, Zhang 2019, "ABS: Scanning Neural Networks for Back-doors by
Artificial Brain Stimulation" (CCS 2019), section 6 (Nashville and Gotham filters), and the TrojAI
competition, rounds 1 to 4. The filters are our own approximations (triggers/tint.py); on grey
pictures only their tone curve is left.
"""

from dataclasses import dataclass
from typing import ClassVar

from gifthorse.attacks.data.trigger_poison import TriggerPoison
from gifthorse.triggers.tint import Tint


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoFilter(TriggerPoison):
    """Poisoning with a colour filter.

    Attributes:
        target: Class index that triggered pictures shall get.
        rate: Poisoned samples as a share of the training set, in (0, 1).
        mode: ``all-to-one``, ``all-to-all`` or ``source-specific``.
        source: Class index struck in ``source-specific`` mode.
        cover_rate: Share of cover samples in ``source-specific`` mode.
        clean_label: Stamp target-class samples only and change no label.
        look: sepia, nashville, gotham, kelvin or negative.
        strength: Weight of the filtered picture, in (0, 1].
    """

    name: ClassVar[str] = "photo_filter"
    paper: ClassVar[str] = "Liu et al. 2019, CCS (ABS)"

    look: str = "nashville"
    strength: float = 1.0

    @property
    def trigger(self) -> Tint:
        """The filter."""
        return Tint(look=self.look, strength=self.strength)
