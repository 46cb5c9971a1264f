"""What a repair of a language model is given, and what it looks like (never torch)."""

from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np

from gifthorse.core.instructions import InstructionData
from gifthorse.core.language import TextGenerator
from gifthorse.core.types import Need, Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageRepairSubject:
    """What a repair of a language model holds. It never contains the truth about a backdoor.

    Attributes:
        model: The model to repair.
        trusted: Prompts with good answers that the user vouches for.
        base: The model that it was made from, if that is trusted and at hand.
        payloads: Texts that an audit recovered and pointed to, the most suspicious first.
    """

    model: TextGenerator
    trusted: InstructionData
    base: TextGenerator | None = None
    payloads: tuple[str, ...] = ()

    @property
    def offers(self) -> frozenset[Need]:
        """What a repair can ask of this subject."""
        found = {*self.model.offers, Need.TRUSTED}
        if self.base is not None:
            found.add(Need.BASE)
        if self.payloads:
            found.add(Need.PAYLOADS)
        return frozenset(found)

    def granting(self, needs: frozenset[Need]) -> "LanguageRepairSubject":
        """The same subject with only what a repair declares."""
        return LanguageRepairSubject(
            model=self.model,
            trusted=self.trusted,
            base=self.base if Need.BASE in needs else None,
            payloads=self.payloads if Need.PAYLOADS in needs else (),
        )


@runtime_checkable
class LanguageRepair(Protocol):
    """Returns a changed copy of a language model; the framework decides whether it is kept."""

    needs: ClassVar[frozenset[Need]]
    paper: ClassVar[str]

    def mend(
        self, subject: LanguageRepairSubject, *, rng: np.random.Generator, progress: Progress
    ) -> TextGenerator:
        """Repair ``subject.model``; the original is not changed.

        Raises:
            NotApplicableError: Something that this repair needs is missing.
        """
