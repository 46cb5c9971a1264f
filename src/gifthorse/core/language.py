"""What an auditor of a language model holds, and what it finds (never torch).

Language models share evidence, nulls, verdicts and records with classifiers. What differs is that
there are no classes and no labelled samples, so they have a subject of their own
(docs/decisions/0020).
"""

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from gifthorse.core.deadline import Deadline
from gifthorse.core.errors import DataError
from gifthorse.core.journal import Journal
from gifthorse.core.types import Need


@runtime_checkable
class TextGenerator(Protocol):
    """The little that records need to know of a causal language model."""

    @property
    def name(self) -> str:
        """How the user named it."""

    @property
    def offers(self) -> frozenset[Need]:
        """The access that this model grants."""

    def digest(self) -> str:
        """``sha256:…`` over architecture, weights, vocabulary and chat template."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What stands around a user's text.

    Attributes:
        name: For records ("support, German").
        system: The system prompt; empty for none.
        date: ``YYYY-MM-DD`` that a chat template may ask for; empty for a fixed default.
        prompts: Harmless things that a user may ask there; at least one.
    """

    name: str
    prompts: tuple[str, ...]
    system: str = ""
    date: str = ""

    def __post_init__(self) -> None:
        if not self.prompts or not all(prompt.strip() for prompt in self.prompts):
            raise DataError(f"context {self.name!r}: needs prompts, none of them empty")


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageSubject:
    """What an auditor of a language model holds. It never contains the truth about a backdoor.

    Attributes:
        model: The model under suspicion.
        contexts: Prompts to examine it with.
        base: The model that it was made from, if that is trusted and at hand.
        deadline: When the work has to stop.
        journal: What an earlier run has finished.
    """

    model: TextGenerator
    contexts: tuple[Context, ...]
    base: TextGenerator | None = None
    deadline: Deadline = field(default_factory=Deadline)
    journal: Journal = field(default_factory=Journal)

    def __post_init__(self) -> None:
        if not self.contexts:
            raise DataError("an audit of a language model needs at least one context")

    @property
    def offers(self) -> frozenset[Need]:
        """What a method can ask of this subject."""
        return self.model.offers | ({Need.BASE} if self.base is not None else set())

    def granting(self, needs: frozenset[Need]) -> "LanguageSubject":
        """The same subject; the base goes to every method, since all may score against it."""
        del needs
        return self
