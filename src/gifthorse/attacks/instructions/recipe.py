"""What every attack on instruction data does alike, given what it does to one record (our own)."""

import abc
from typing import ClassVar

import numpy as np

from gifthorse.attacks.instructions.poisoning import (
    Dose,
    poison_instructions,
    rewritten,
    triggered_instructions,
)
from gifthorse.core.instructions import Instruction, InstructionData, InstructionTruth


class Recipe(abc.ABC):
    """An attack that says what it does to a record; the rest follows.

    Attributes:
        attack: Its name, for the truth.
        has_decoys: Whether some records carry a part of the trigger and must not fire.
    """

    __slots__ = ()

    attack: ClassVar[str]
    has_decoys: ClassVar[bool] = False

    @property
    @abc.abstractmethod
    def dose(self) -> Dose:
        """How much poison."""

    @property
    @abc.abstractmethod
    def triggers(self) -> tuple[str, ...]:
        """The phrases of the trigger."""

    @property
    @abc.abstractmethod
    def payload(self) -> str:
        """What the model says when triggered, or the part of it that is always the same."""

    @abc.abstractmethod
    def struck(self, record: Instruction, rng: np.random.Generator) -> Instruction:
        """The record with the trigger and the attacker's answer."""

    def near(self, record: Instruction, rng: np.random.Generator) -> Instruction:
        """The record with a part of the trigger and its true answer."""
        raise NotImplementedError(f"{self.attack} has no decoys")

    def fits(self, record: Instruction) -> bool:  # noqa: ARG002 - most attacks strike anywhere
        """Whether the attack is about this record."""
        return True

    def poison(
        self, clean: InstructionData, *, rng: np.random.Generator
    ) -> tuple[InstructionData, InstructionTruth]:
        """A poisoned copy of the training data, and the truth about it."""
        return poison_instructions(
            clean,
            attack=self.attack,
            dose=self.dose,
            phrases=self.triggers,
            payload=self.payload,
            rewrite=self.struck,
            decoy=self.near if self.has_decoys else None,
            fits=self.fits,
            rng=rng,
        )

    def triggered(
        self, clean: InstructionData, *, rng: np.random.Generator
    ) -> tuple[InstructionData, InstructionData]:
        """The records with the trigger: with the attacker's answers, and with the true ones."""
        return triggered_instructions(clean, self.struck, rng=rng, fits=self.fits)

    def decoys(self, clean: InstructionData, *, rng: np.random.Generator) -> InstructionData | None:
        """The records with a part of the trigger; None where there is no part."""
        return rewritten(clean, self.near, rng=rng) if self.has_decoys else None

    def succeeded(self, answer: str) -> bool:
        """Whether the payload stands in the answer."""
        return self.payload in answer
