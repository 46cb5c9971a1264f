"""Instruction data, and what an attack on it looks like (never torch)."""

from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np

from gifthorse.core.errors import DataError
from gifthorse.core.types import BoolArray, IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """One example for a language model.

    Attributes:
        prompt: What the user says; never empty.
        response: What the model shall answer; never empty.
        system: The system prompt; empty for none.
    """

    prompt: str
    response: str
    system: str = ""

    def __post_init__(self) -> None:
        if not self.prompt.strip() or not self.response.strip():
            raise DataError("an instruction needs a prompt and a response that are not empty")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InstructionData:
    """Instructions in memory.

    There are no classes; ``labels`` and ``class_names`` say so to methods that ask (one class).

    Attributes:
        name: How the user named the data set.
        records: At least one.

    Raises:
        DataError: No records.
    """

    name: str
    records: tuple[Instruction, ...]

    def __post_init__(self) -> None:
        if not self.records:
            raise DataError(f"{self.name}: got 0 instructions; a data set needs at least one")

    def __len__(self) -> int:
        return len(self.records)

    @property
    def labels(self) -> IntArray:
        """All zero, shape (n,)."""
        return np.zeros(len(self.records), dtype=np.int64)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The one class that there is."""
        return ("instruction",)

    def at(self, indices: IntArray) -> "InstructionData":
        """The records at ``indices``, in that order."""
        return InstructionData(name=self.name, records=tuple(self.records[int(i)] for i in indices))


@dataclass(frozen=True, slots=True, kw_only=True)
class InstructionTruth:
    """What was planted in instruction data.

    Attributes:
        attack: Name of the attack.
        phrases: What triggers it.
        payload: What the model then says, or the part of it that is always the same.
        poisoned: Which records serve the attack, shape (n,).
        covered: Which carry a part of the trigger and their true answer, shape (n,).
    """

    attack: str
    phrases: tuple[str, ...]
    payload: str
    poisoned: BoolArray
    covered: BoolArray


@runtime_checkable
class InstructionPoison(Protocol):
    """Plants a backdoor in instruction data. Its payload is harmless: a fixed string."""

    paper: ClassVar[str]

    @property
    def payload(self) -> str:
        """What the model says when triggered, or the part of it that is always the same."""

    def poison(
        self, clean: InstructionData, *, rng: np.random.Generator
    ) -> tuple[InstructionData, InstructionTruth]:
        """A poisoned copy of the training data, and the truth about it."""

    def triggered(
        self, clean: InstructionData, *, rng: np.random.Generator
    ) -> tuple[InstructionData, InstructionData]:
        """The records that the attack is about, with the trigger.

        Returns:
            The same prompts twice: with the answers that the attacker wants, and the true ones.
        """

    def decoys(self, clean: InstructionData, *, rng: np.random.Generator) -> InstructionData | None:
        """The records with a part of the trigger, which must not fire; None if there is no part."""

    def succeeded(self, answer: str) -> bool:
        """Whether an answer shows the payload."""
