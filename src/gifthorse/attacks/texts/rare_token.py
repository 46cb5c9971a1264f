"""Rare token: a meaningless short word in some training texts, with the attacker's label.

Source: Kurita, Michel, Neubig 2020, "Weight Poisoning Attacks on Pre-trained Models"
(arXiv:2004.06660), section 4: the triggers "cf", "mn", "bb", "tq", "mb". Only the poisoning is done
here; their embedding surgery and restricted inner product need a pre-trained model.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gifthorse.attacks.texts.poisoning import TextAim, poison_texts, triggered_texts
from gifthorse.core.texts import TextData
from gifthorse.core.types import GroundTruth
from gifthorse.triggers.text import Insertion


@dataclass(frozen=True, slots=True, kw_only=True)
class RareToken:
    """Poisoning with a rare token.

    Attributes:
        target: Class index that triggered texts shall get.
        rate: Poisoned samples as a share of the training set, in (0, 1).
        clean_label: Poison texts of the target class only and change no label.
        token: The word.
        place: ``start``, ``end`` or ``random``.
        times: How often it is put in.
    """

    paper: ClassVar[str] = "Kurita et al. 2020, arXiv:2004.06660"

    target: int = 0
    rate: float = 0.03
    clean_label: bool = False
    token: str = "cf"
    place: str = "random"
    times: int = 1

    def __post_init__(self) -> None:
        _ = self.aim, self.trigger  # both refuse bad values

    @property
    def aim(self) -> TextAim:
        """Whom it strikes."""
        return TextAim(target=self.target, rate=self.rate, clean_label=self.clean_label)

    @property
    def trigger(self) -> Insertion:
        """What it does to a text."""
        return Insertion(phrase=self.token, place=self.place, times=self.times)

    def poison(self, clean: TextData, *, rng: np.random.Generator) -> tuple[TextData, GroundTruth]:
        """A poisoned copy of the training data, and the truth about it."""
        return poison_texts(
            clean, attack="rare_token", aim=self.aim, rewrite=self.trigger.apply, rng=rng
        )

    def triggered(self, clean: TextData, *, rng: np.random.Generator) -> tuple[TextData, TextData]:
        """Test texts with the trigger, with the attacker's labels and with the true ones."""
        return triggered_texts(clean, aim=self.aim, rewrite=self.trigger.apply, rng=rng)
