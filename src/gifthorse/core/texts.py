"""Labelled texts, and what an attack on them looks like (never torch).

Text classifiers share evidence, nulls, verdicts and records with image classifiers. What differs is
the data, so it has its own types (docs/decisions/0018).
"""

from dataclasses import dataclass, field
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np

from gifthorse.core.errors import DataError
from gifthorse.core.types import GroundTruth, IntArray, Need


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TextData:
    """Labelled texts in memory.

    Attributes:
        name: How the user named the data set.
        texts: At least one; none is empty after stripping.
        labels: Class of every text, shape (n,), values in [0, len(class_names)).
        class_names: A name for every class.

    Raises:
        DataError: No texts, an empty one, or labels that do not fit.
    """

    name: str
    texts: tuple[str, ...]
    labels: IntArray
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.texts:
            raise DataError(f"{self.name}: got 0 texts; a data set needs at least one")
        if self.labels.shape != (len(self.texts),):
            raise DataError(
                f"{self.name}: {len(self.texts)} texts and labels of shape {self.labels.shape}; "
                "expected one label a text"
            )
        empty = next((i for i, text in enumerate(self.texts) if not text.strip()), None)
        if empty is not None:
            raise DataError(f"{self.name}: text {empty} is empty")
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or high >= len(self.class_names):
            raise DataError(
                f"{self.name}: labels lie in {low} … {high}, expected 0 … "
                f"{len(self.class_names) - 1}"
            )

    def __len__(self) -> int:
        return len(self.texts)

    def at(self, indices: IntArray) -> "TextData":
        """The texts at ``indices``, in that order."""
        return TextData(
            name=self.name,
            texts=tuple(self.texts[int(i)] for i in indices),
            labels=np.asarray(self.labels[indices]),
            class_names=self.class_names,
        )


@runtime_checkable
class TextModel(Protocol):
    """The little that records need to know of a text classifier."""

    @property
    def name(self) -> str:
        """How the user named it."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """A name for every class."""

    @property
    def offers(self) -> frozenset[Need]:
        """The access that this model grants."""

    def digest(self) -> str:
        """``sha256:…`` over architecture, weights and vocabulary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSubject:
    """What an auditor of a text classifier holds. It never contains the truth about a backdoor.

    Attributes:
        model: The model under suspicion, or the one that inputs are sent to.
        trusted: Texts that the user vouches for.
        suspect: Inputs that may be triggered.
    """

    model: TextModel
    trusted: TextData | None = None
    suspect: TextData | None = None

    @property
    def offers(self) -> frozenset[Need]:
        """What a method can ask of this subject."""
        given = {Need.TRUSTED} if self.trusted is not None else set()
        if self.suspect is not None:
            given.add(Need.SUSPECT_DATA)
        return self.model.offers | given

    def granting(self, needs: frozenset[Need]) -> "TextSubject":
        """The same subject with only what a method declares; the model goes to all."""
        return TextSubject(
            model=self.model,
            trusted=self.trusted if Need.TRUSTED in needs else None,
            suspect=self.suspect if Need.SUSPECT_DATA in needs else None,
        )


@runtime_checkable
class TextPoison(Protocol):
    """Plants a backdoor in labelled texts."""

    paper: ClassVar[str]

    def poison(self, clean: TextData, *, rng: np.random.Generator) -> tuple[TextData, GroundTruth]:
        """A poisoned copy of the training data, and the truth about it."""

    def triggered(self, clean: TextData, *, rng: np.random.Generator) -> tuple[TextData, TextData]:
        """The texts that the attack is about, with the trigger.

        Returns:
            The same texts twice: with the labels that the attacker wants, and with the true ones.
            Texts of the target class are left out.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveredPhrase:
    """A text trigger that a detector found.

    Attributes:
        target: The class it leads to.
        text: What was inserted.
        success: Share of trusted texts of other classes that it sends there, in [0, 1].
    """

    target: int
    text: str
    success: float = field(default=0.0)
