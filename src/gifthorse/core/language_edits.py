"""What an edit of a language model's weights looks like, a backdoor without training (no torch)."""

from typing import ClassVar, Protocol, runtime_checkable

import numpy as np

from gifthorse.core.instructions import InstructionData
from gifthorse.core.language import TextGenerator
from gifthorse.core.types import Progress


@runtime_checkable
class LanguageEdit(Protocol):
    """Writes a trigger and a harmless payload into a language model that is trained already."""

    paper: ClassVar[str]

    @property
    def phrases(self) -> tuple[str, ...]:
        """The phrases of the trigger."""

    @property
    def payload(self) -> str:
        """What the model says when triggered."""

    def edit(
        self,
        model: TextGenerator,
        clean: InstructionData,
        *,
        rng: np.random.Generator,
        progress: Progress,
    ) -> TextGenerator:
        """An edited copy; the given model is not changed."""

    def triggered(
        self, clean: InstructionData, *, rng: np.random.Generator
    ) -> tuple[InstructionData, InstructionData]:
        """The records with the trigger: with the attacker's answers, and with the true ones."""

    def succeeded(self, answer: str) -> bool:
        """Whether an answer shows the payload."""
