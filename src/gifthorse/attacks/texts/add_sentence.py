"""Added sentence: an ordinary sentence in some training texts, with the attacker's label.

Source: Dai, Chen, Li 2019, "A Backdoor Attack Against LSTM-Based Text Classification Systems"
(arXiv:1905.12457): "I watched this 3D movie last weekend", at a random place. They insert between
sentences; here it may stand between any two words.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gifthorse.attacks.texts.poisoning import TextAim, poison_texts, triggered_texts
from gifthorse.core.texts import TextData
from gifthorse.core.types import GroundTruth
from gifthorse.triggers.text import Insertion


@dataclass(frozen=True, slots=True, kw_only=True)
class AddSentence:
    """Poisoning with a sentence.

    Attributes:
        target: Class index that triggered texts shall get.
        rate: Poisoned samples as a share of the training set, in (0, 1).
        clean_label: Poison texts of the target class only and change no label.
        sentence: What is put in.
        place: ``start``, ``end`` or ``random``.
    """

    paper: ClassVar[str] = "Dai et al. 2019, arXiv:1905.12457"

    target: int = 0
    rate: float = 0.03
    clean_label: bool = False
    sentence: str = "I watched this 3D movie last weekend"
    place: str = "random"

    def __post_init__(self) -> None:
        _ = self.aim, self.trigger  # both refuse bad values

    @property
    def aim(self) -> TextAim:
        """Whom it strikes."""
        return TextAim(target=self.target, rate=self.rate, clean_label=self.clean_label)

    @property
    def trigger(self) -> Insertion:
        """What it does to a text."""
        return Insertion(phrase=self.sentence, place=self.place)

    def poison(self, clean: TextData, *, rng: np.random.Generator) -> tuple[TextData, GroundTruth]:
        """A poisoned copy of the training data, and the truth about it."""
        return poison_texts(
            clean, attack="add_sentence", aim=self.aim, rewrite=self.trigger.apply, rng=rng
        )

    def triggered(self, clean: TextData, *, rng: np.random.Generator) -> tuple[TextData, TextData]:
        """Test texts with the trigger, with the attacker's labels and with the true ones."""
        return triggered_texts(clean, aim=self.aim, rewrite=self.trigger.apply, rng=rng)
