"""Blended injection: a faint watermark over the whole picture.

Source: Chen, Liu, Li, Lu, Song 2017, "Targeted Backdoor Attacks on Deep Learning Systems Using
Data Poisoning" (arXiv:1712.05526), section 4.2. The paper blends a cartoon picture or noise; ours
is noise, rings, or any picture file. The same alpha is used in training and attack.
"""

from dataclasses import dataclass
from typing import ClassVar

from gifthorse.attacks.data.trigger_poison import TriggerPoison
from gifthorse.triggers.blend import Blend


@dataclass(frozen=True, slots=True, kw_only=True)
class Blended(TriggerPoison):
    """Watermark poisoning.

    Attributes:
        target: Class index that triggered pictures shall get.
        rate: Poisoned samples as a share of the training set, in (0, 1).
        mode: ``all-to-one``, ``all-to-all`` or ``source-specific``.
        source: Class index struck in ``source-specific`` mode.
        cover_rate: Share of cover samples in ``source-specific`` mode.
        clean_label: Blend into target-class samples only and change no label.
        alpha: Weight of the watermark, in (0, 1].
        watermark: ``noise:SEED``, ``rings``, or the path of a picture.
    """

    name: ClassVar[str] = "blended"
    paper: ClassVar[str] = "Chen et al. 2017, arXiv:1712.05526"

    alpha: float = 0.2
    watermark: str = "noise:0"

    @property
    def trigger(self) -> Blend:
        """The watermark."""
        return Blend(alpha=self.alpha, watermark=self.watermark)
