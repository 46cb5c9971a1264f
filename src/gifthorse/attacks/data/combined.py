"""Several triggers at once: the backdoor opens only if a picture carries all of them.

Our own use of the triggers of published attacks, applied one after the other. Cover samples that
carry a single part and keep their label (after Tang et al. 2021, TaCT, and Qi et al. 2023) teach
the network that no part means anything alone. ``composite`` (Lin et al. 2020) is another thing: a
trigger made of two classes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from gifthorse.attacks.data.poisoning import Cover
from gifthorse.attacks.data.trigger_poison import TriggerPoison
from gifthorse.triggers.blend import Blend
from gifthorse.triggers.combine import OneOf
from gifthorse.triggers.frequency import Frequency
from gifthorse.triggers.patch import Patch
from gifthorse.triggers.quantise import Quantise
from gifthorse.triggers.reflection import Reflection
from gifthorse.triggers.sinusoid import Sinusoid
from gifthorse.triggers.tint import Tint
from gifthorse.triggers.trigger import Chain, Trigger
from gifthorse.triggers.warp import Warp

_PARTS: dict[str, Callable[[], Trigger]] = {
    "blend": Blend,
    "frequency": Frequency,
    "patch": lambda: Patch(size=4),
    "quantise": Quantise,
    "reflection": Reflection,
    "sinusoid": Sinusoid,
    "tint": Tint,
    "warp": lambda: Warp(strength=2.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Combined(TriggerPoison):
    """Poisoning with several triggers on one picture.

    Attributes:
        target: Class index that triggered pictures shall get.
        rate: Poisoned samples as a share of the training set, in (0, 1).
        mode: ``all-to-one``, ``all-to-all`` or ``source-specific``.
        source: Class index struck in ``source-specific`` mode.
        cover_rate: Share of cover samples in ``source-specific`` mode.
        clean_label: Stamp target-class samples only and change no label.
        parts: Two or more of blend, frequency, patch, quantise, reflection, sinusoid, tint and
            warp, joined by +, in the order of their application.
        part_rate: Samples that carry one part and keep their label, as a share of the training
            set, in [0, 1).
    """

    name: ClassVar[str] = "combined"
    paper: ClassVar[str] = "our own: triggers of published attacks together"

    parts: str = "patch+sinusoid"
    part_rate: float = 0.05

    @property
    def chosen(self) -> tuple[Trigger, ...]:
        """The parts.

        Raises:
            ValueError: Fewer than two, one twice, or one that does not exist.
        """
        names = self.parts.split("+")
        unknown = [name for name in names if name not in _PARTS]
        if unknown or len(names) < 2 or len(set(names)) < len(names):
            raise ValueError(
                f"parts must be two or more of {', '.join(_PARTS)}, joined by +, none twice; got "
                f"{self.parts!r}"
            )
        return tuple(_PARTS[name]() for name in names)

    @property
    def trigger(self) -> Chain:
        """All parts."""
        return Chain(self.chosen)

    @property
    def cover(self) -> Cover:
        """Single parts, which must mean nothing."""
        return Cover(rate=self.part_rate, stamp=OneOf(self.chosen).apply)
