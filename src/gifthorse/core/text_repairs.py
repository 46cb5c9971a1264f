"""What a repair of a text classifier is given, and what it looks like (never torch)."""

from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np

from gifthorse.core.texts import RecoveredPhrase, TextData, TextModel
from gifthorse.core.types import Need, Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRepairSubject:
    """What a repair of a text classifier holds. It never contains the truth about a backdoor.

    Attributes:
        model: The model to repair.
        trusted: Labelled texts that the user vouches for.
        base: The model that it was made from, if that is trusted and at hand, with the head of
            ``model`` where it has none that fits.
        triggers: What an audit recovered and pointed to, the most suspicious first.
    """

    model: TextModel
    trusted: TextData
    base: TextModel | None = None
    triggers: tuple[RecoveredPhrase, ...] = ()

    @property
    def offers(self) -> frozenset[Need]:
        """What a repair can ask of this subject."""
        found = {*self.model.offers, Need.TRUSTED}
        if self.base is not None:
            found.add(Need.BASE)
        if self.triggers:
            found.add(Need.TRIGGERS)
        return frozenset(found)

    def granting(self, needs: frozenset[Need]) -> "TextRepairSubject":
        """The same subject with only what a repair declares."""
        return TextRepairSubject(
            model=self.model,
            trusted=self.trusted,
            base=self.base if Need.BASE in needs else None,
            triggers=self.triggers if Need.TRIGGERS in needs else (),
        )


@runtime_checkable
class TextRepair(Protocol):
    """Returns a changed copy of a text classifier; the framework decides whether it is kept."""

    needs: ClassVar[frozenset[Need]]
    paper: ClassVar[str]

    def mend(
        self, subject: TextRepairSubject, *, rng: np.random.Generator, progress: Progress
    ) -> TextModel:
        """Repair ``subject.model``; the original is not changed.

        Raises:
            NotApplicableError: Something that this repair needs is missing.
        """
