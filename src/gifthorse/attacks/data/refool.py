"""Refool: a reflection, as in a window pane, over samples of the target class.

Source: Liu, Ma, Bailey, Lu 2020, "Reflection Backdoor: A Natural Backdoor Attack on Deep Neural
Networks" (ECCV 2020, arXiv:2007.02343), section 3: reflections in focus, out of focus, or doubled
(ghost), added to samples of the target class whose label stays.

Deviations: the reflected scenes are drawn, not photographs of another data set, and they are not
selected by how well they work on a validation set (section 3.3). Hence ``refool`` in the paper is
stronger than here at the same visibility; with ``clean_label`` off it is strong here as well.
"""

from dataclasses import dataclass
from typing import ClassVar

from gifthorse.attacks.data.trigger_poison import TriggerPoison
from gifthorse.triggers.reflection import Reflection


@dataclass(frozen=True, slots=True, kw_only=True)
class Refool(TriggerPoison):
    """Poisoning with reflections.

    Attributes:
        target: Class index that triggered pictures shall get.
        rate: Poisoned samples as a share of the training set, in (0, 1).
        mode: ``all-to-one``, ``all-to-all`` or ``source-specific``.
        source: Class index struck in ``source-specific`` mode.
        cover_rate: Share of cover samples in ``source-specific`` mode.
        clean_label: Reflect over target-class samples only, and change no label.
        kind: ``focus``, ``blur`` or ``ghost``.
        weight: Of the reflection, in (0, 1).
        scenes: Different reflected scenes, ≥ 1; every picture draws one.
        seed: Of the scenes.
    """

    name: ClassVar[str] = "refool"
    paper: ClassVar[str] = "Liu et al. 2020, arXiv:2007.02343"

    rate: float = 0.03
    clean_label: bool = True
    kind: str = "ghost"
    weight: float = 0.4
    scenes: int = 1
    seed: int = 0

    @property
    def trigger(self) -> Reflection:
        """The reflection."""
        return Reflection(kind=self.kind, weight=self.weight, scenes=self.scenes, seed=self.seed)
