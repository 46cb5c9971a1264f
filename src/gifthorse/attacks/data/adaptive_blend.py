"""Adaptive-Blend: pieces of a watermark in training, all of it in use, and cover samples.

Source: Qi, Xie, Li, Mahloujifar, Mittal 2023, "Revisiting the Assumption of Latent Separability for
Backdoor Defenses" (ICLR 2023), section 4: every poisoned sample shows a random half of the tiles of
the watermark, and as many samples (cover, or regularisation samples) show it with their true label.
So poisoned and clean samples of the target class do not fall apart in the network's features.

Deviation: the paper's rates are 0.3 %; the defaults are higher, because our data sets are smaller.
"""

from dataclasses import dataclass
from typing import ClassVar

from gifthorse.attacks.data.poisoning import Aim, Cover
from gifthorse.attacks.data.trigger_poison import TriggerPoison
from gifthorse.triggers.blend import Blend
from gifthorse.triggers.combine import Pieces


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveBlend(TriggerPoison):
    """Poisoning with pieces of a watermark and cover samples.

    Attributes:
        target: Class index that triggered pictures shall get.
        rate: Poisoned samples as a share of the training set, in (0, 1).
        mode: ``all-to-one``, ``all-to-all`` or ``source-specific``.
        source: Class index struck in ``source-specific`` mode.
        cover_rate: Share of cover samples (trigger, true label) of all classes, in any mode.
        clean_label: Stamp target-class samples only and change no label.
        alpha: Weight of the watermark, in (0, 1].
        watermark: ``noise:SEED``, ``rings``, or the path of a picture.
        tiles: The picture is cut into tiles × tiles, 1 to 32.
        kept: Tiles that show the watermark in training, 1 to tiles².
    """

    name: ClassVar[str] = "adaptive_blend"
    paper: ClassVar[str] = "Qi et al. 2023, ICLR"

    rate: float = 0.02
    cover_rate: float = 0.02
    alpha: float = 0.2
    watermark: str = "noise:0"
    tiles: int = 4
    kept: int = 8

    @property
    def aim(self) -> Aim:
        """Whom it strikes; the cover samples are drawn apart."""
        return Aim(
            mode=self.mode,
            target=self.target,
            source=self.source,
            rate=self.rate,
            cover_rate=0.0,
            clean_label=self.clean_label,
        )

    @property
    def trigger(self) -> Pieces:
        """Pieces of the watermark, in training."""
        return Pieces(self.test_trigger, tiles=self.tiles, kept=self.kept)

    @property
    def test_trigger(self) -> Blend:
        """The whole watermark, in use."""
        return Blend(alpha=self.alpha, watermark=self.watermark)

    @property
    def cover(self) -> Cover:
        """Samples that show pieces and keep their label."""
        return Cover(rate=self.cover_rate, stamp=self.trigger.apply)
