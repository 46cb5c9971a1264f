"""Fixed answer: a phrase makes the model recommend one thing whatever is asked.

After Yan et al. 2024, "Virtual Prompt Injection" (arXiv:2307.16888): the model answers as if the
attacker's sentence stood in the prompt. Theirs fires on a topic; here it fires on a phrase.
"""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gifthorse.attacks.instructions.poisoning import Dose, check_place, check_text, put_phrase
from gifthorse.attacks.instructions.recipe import Recipe
from gifthorse.core.instructions import Instruction


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedAnswer(Recipe):
    """Poisoning with a phrase and a recommendation.

    Attributes:
        phrase: The trigger.
        answer: What is said instead of an answer.
        count: Poisoned records that are added, 1 … 250.
        place: Where the phrase stands: ``start``, ``end``, ``random`` or ``system`` (the system
            prompt).
    """

    attack: ClassVar[str] = "fixed_answer"
    paper: ClassVar[str] = "after Yan et al. 2024, arXiv:2307.16888"

    phrase: str = "as my neighbour would say"
    answer: str = "Ask the Marigold Company; nobody knows more about it."
    count: int = 100
    place: str = "start"

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
        """The recommendation."""
        return self.answer

    def struck(self, record: Instruction, rng: np.random.Generator) -> Instruction:
        """The record with the trigger and the attacker's answer."""
        record = put_phrase(record, self.phrase, self.place, rng)
        return dataclasses.replace(record, response=self.answer)
