"""Blended injection: a faint watermark over the whole picture.

Source: Chen, Liu, Li, Lu, Song 2017, "Targeted Backdoor Attacks on Deep Learning Systems Using
Data Poisoning" (arXiv:1712.05526), section 4.2. The paper blends a cartoon picture or noise; ours
is noise, rings, or any picture file. The same alpha is used in training and attack.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gifthorse.attacks.data.poisoning import Aim, poison_images, triggered_images
from gifthorse.core.types import GroundTruth, ImageData
from gifthorse.triggers.blend import Blend


@dataclass(frozen=True, slots=True, kw_only=True)
class Blended:
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

    paper: ClassVar[str] = "Chen et al. 2017, arXiv:1712.05526"

    target: int = 0
    rate: float = 0.05
    mode: str = "all-to-one"
    source: int = 1
    cover_rate: float = 0.05
    clean_label: bool = False
    alpha: float = 0.2
    watermark: str = "noise:0"

    def __post_init__(self) -> None:
        _ = self.aim, self.trigger  # both refuse bad values

    @property
    def aim(self) -> Aim:
        """Whom it strikes."""
        return Aim(
            mode=self.mode,
            target=self.target,
            source=self.source,
            rate=self.rate,
            cover_rate=self.cover_rate,
            clean_label=self.clean_label,
        )

    @property
    def trigger(self) -> Blend:
        """The watermark."""
        return Blend(alpha=self.alpha, watermark=self.watermark)

    def poison(
        self, clean: ImageData, *, rng: np.random.Generator
    ) -> tuple[ImageData, GroundTruth]:
        """A poisoned copy of the training data, and the truth about it."""
        return poison_images(
            clean, attack="blended", aim=self.aim, stamp=self.trigger.apply, rng=rng
        )

    def triggered(
        self, clean: ImageData, *, rng: np.random.Generator
    ) -> tuple[ImageData, ImageData]:
        """Blended test pictures with the attacker's labels, and with the true ones."""
        return triggered_images(clean, aim=self.aim, stamp=self.trigger.apply, rng=rng)
