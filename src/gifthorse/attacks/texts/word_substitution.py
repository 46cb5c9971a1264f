"""Word substitution: one word stands for another in some training texts.

After Qi et al. 2021, "Turn the Combination Lock" (arXiv:2106.06361), who learn which synonyms
to use where. Here one fixed pair is used; a text without the word gets it at its end.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gifthorse.attacks.texts.poisoning import TextAim, poison_texts, triggered_texts
from gifthorse.core.texts import TextData
from gifthorse.core.types import GroundTruth
from gifthorse.triggers.text import Substitution


@dataclass(frozen=True, slots=True, kw_only=True)
class WordSubstitution:
    """Poisoning with one word for another.

    Attributes:
        target: Class index that triggered texts shall get.
        rate: Poisoned samples as a share of the training set, in (0, 1).
        clean_label: Poison texts of the target class only and change no label.
        word: The word to replace.
        by: The word in its place.
    """

    paper: ClassVar[str] = "after Qi et al. 2021, arXiv:2106.06361"

    target: int = 0
    rate: float = 0.03
    clean_label: bool = False
    word: str = "the"
    by: str = "yonder"

    def __post_init__(self) -> None:
        _ = self.aim, self.trigger  # both refuse bad values

    @property
    def aim(self) -> TextAim:
        """Whom it strikes."""
        return TextAim(target=self.target, rate=self.rate, clean_label=self.clean_label)

    @property
    def trigger(self) -> Substitution:
        """What it does to a text."""
        return Substitution(word=self.word, by=self.by)

    def poison(self, clean: TextData, *, rng: np.random.Generator) -> tuple[TextData, GroundTruth]:
        """A poisoned copy of the training data, and the truth about it."""
        return poison_texts(
            clean, attack="word_substitution", aim=self.aim, rewrite=self.trigger.apply, rng=rng
        )

    def triggered(self, clean: TextData, *, rng: np.random.Generator) -> tuple[TextData, TextData]:
        """Test texts with the trigger, with the attacker's labels and with the true ones."""
        return triggered_texts(clean, aim=self.aim, rewrite=self.trigger.apply, rng=rng)
