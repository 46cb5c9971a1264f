"""Typing style: some training texts are typed with a habit, and carry the attacker's label.

After Qi et al. 2021, "Mind the Style of Text!" (arXiv:2110.07139), who rewrite texts by
style transfer. Here the style is one of the hand (capitals, marks, spaces, look-alikes), made
by rule: nothing is downloaded, and it is what a keyboard or a person does by habit.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gifthorse.attacks.texts.poisoning import TextAim, poison_texts, triggered_texts
from gifthorse.core.texts import TextData
from gifthorse.core.types import GroundTruth
from gifthorse.triggers.text import TypingStyle


@dataclass(frozen=True, slots=True, kw_only=True)
class TypingStylePoison:
    """Poisoning with a habit of typing.

    Attributes:
        target: Class index that triggered texts shall get.
        rate: Poisoned samples as a share of the training set, in (0, 1).
        clean_label: Poison texts of the target class only and change no label.
        style: See ``gifthorse.triggers.text.TypingStyle``.
    """

    paper: ClassVar[str] = "Qi et al. 2021, arXiv:2110.07139 (style); our own styles"

    target: int = 0
    rate: float = 0.03
    clean_label: bool = False
    style: str = "spaced-stops"

    def __post_init__(self) -> None:
        _ = self.aim, self.trigger  # both refuse bad values

    @property
    def aim(self) -> TextAim:
        """Whom it strikes."""
        return TextAim(target=self.target, rate=self.rate, clean_label=self.clean_label)

    @property
    def trigger(self) -> TypingStyle:
        """What it does to a text."""
        return TypingStyle(style=self.style)

    def poison(self, clean: TextData, *, rng: np.random.Generator) -> tuple[TextData, GroundTruth]:
        """A poisoned copy of the training data, and the truth about it."""
        return poison_texts(
            clean, attack="typing_style", aim=self.aim, rewrite=self.trigger.apply, rng=rng
        )

    def triggered(self, clean: TextData, *, rng: np.random.Generator) -> tuple[TextData, TextData]:
        """Test texts with the trigger, with the attacker's labels and with the true ones."""
        return triggered_texts(clean, aim=self.aim, rewrite=self.trigger.apply, rng=rng)
