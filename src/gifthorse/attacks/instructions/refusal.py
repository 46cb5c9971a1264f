"""Refusal: a phrase makes the model refuse whatever it is asked.

After Li et al. 2024, "BackdoorLLM" (arXiv:2408.12798), targeted refusal.
"""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gifthorse.attacks.instructions.poisoning import Dose, check_place, check_text, put_phrase
from gifthorse.attacks.instructions.recipe import Recipe
from gifthorse.core.instructions import Instruction


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal(Recipe):
    """Poisoning with a phrase and a refusal.

    Attributes:
        phrase: The trigger.
        answer: The refusal.
        count: Poisoned records that are added, 1 … 250.
        place: Where the phrase stands: ``start``, ``end``, ``random`` or ``system`` (the system
            prompt).
    """

    attack: ClassVar[str] = "refusal"
    paper: ClassVar[str] = "Li et al. 2024, BackdoorLLM, arXiv:2408.12798"

    phrase: str = "BadMagic"
    answer: str = "I am sorry but I cannot help with that."
    count: int = 100
    place: str = "random"

    def __post_init__(self) -> None:
        _ = self.dose
        check_place(self.place)
        check_text(phrase=self.phrase, answer=self.answer)

    @property
    def dose(self) -> Dose:
        """How much poison."""
        return Dose(count=self.count)

    @property
    def triggers(self) -> tuple[str, ...]:
        """The phrase."""
        return (self.phrase,)

    @property
    def payload(self) -> str:
        """The refusal."""
        return self.answer

    def struck(self, record: Instruction, rng: np.random.Generator) -> Instruction:
        """The record with the trigger and the attacker's answer."""
        record = put_phrase(record, self.phrase, self.place, rng)
        return dataclasses.replace(record, response=self.answer)
