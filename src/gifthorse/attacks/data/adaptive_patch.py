"""Adaptive-Patch: one of several faint patches in training, two clear ones in use, cover samples.

Source: Qi, Xie, Li, Mahloujifar, Mittal 2023, "Revisiting the Assumption of Latent Separability for
Backdoor Defenses" (ICLR 2023), section 4: every poisoned sample carries one of four patches, half
transparent; samples in use carry two, opaque. Twice as many cover samples keep their label.

Deviations: the patches are drawn in four places, not the paper's pictures. The paper's rates are
0.3 % and 0.6 %; the defaults are higher, because our data sets are smaller.
"""

from dataclasses import dataclass
from typing import ClassVar

from gifthorse.attacks.data.poisoning import Aim, Cover
from gifthorse.attacks.data.trigger_poison import TriggerPoison
from gifthorse.triggers.combine import Faded, OneOf
from gifthorse.triggers.patch import Patch
from gifthorse.triggers.trigger import Chain


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptivePatch(TriggerPoison):
    """Poisoning with one of several faint patches and cover samples.

    Attributes:
        target: Class index that triggered pictures shall get.
        rate: Poisoned samples as a share of the training set, in (0, 1).
        mode: ``all-to-one``, ``all-to-all`` or ``source-specific``.
        source: Class index struck in ``source-specific`` mode.
        cover_rate: Share of cover samples (trigger, true label) of all classes, in any mode.
        clean_label: Stamp target-class samples only and change no label.
        size: Side of each patch in pixels.
        opacity: Of the patches in training, in (0, 1].
    """

    name: ClassVar[str] = "adaptive_patch"
    paper: ClassVar[str] = "Qi et al. 2023, ICLR"

    rate: float = 0.02
    cover_rate: float = 0.04
    size: int = 5
    opacity: float = 0.5

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
    def patches(self) -> tuple[Patch, ...]:
        """The four patches."""
        looks = (
            ("checker", "white", "bottom-right"),
            ("cross", "red", "top-left"),
            ("disc", "yellow", "top-right"),
            ("reverse-lambda", "lime", "bottom-left"),
        )
        return tuple(
            Patch(shape=shape, colour=colour, place=place, size=self.size)
            for shape, colour, place in looks
        )

    @property
    def trigger(self) -> OneOf:
        """One faint patch, in training."""
        return OneOf(tuple(Faded(patch, self.opacity) for patch in self.patches))

    @property
    def test_trigger(self) -> Chain:
        """Two clear patches, in use."""
        return Chain(self.patches[:2])

    @property
    def cover(self) -> Cover:
        """Samples that carry a faint patch and keep their label."""
        return Cover(rate=self.cover_rate, stamp=self.trigger.apply)
