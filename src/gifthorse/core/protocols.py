"""What a plugin looks like.

A plugin is a frozen dataclass whose fields are its configuration (scalars and strings only), found
by entry point. It declares what it needs; the framework measures and judges.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from gifthorse.core.types import (
    Evidence,
    GroundTruth,
    ImageData,
    Model,
    Need,
    Null,
    Planting,
    Progress,
    Reach,
    Subject,
    Unit,
)


@runtime_checkable
class Detector(Protocol):
    """Examines a subject and returns evidence."""

    needs: ClassVar[frozenset[Need]]
    unit: ClassVar[Unit]
    paper: ClassVar[str]

    def inspect(
        self, subject: Subject, *, rng: np.random.Generator, progress: Progress
    ) -> Evidence:
        """Look at the subject.

        Raises:
            NotApplicableError: The method cannot say anything about such a subject.
        """

    def null(self, evidence: Evidence) -> Null:
        """How ``evidence.statistic`` would be distributed if the subject were clean."""


@runtime_checkable
class Repair(Protocol):
    """Returns a changed copy of a model; the framework decides whether it may replace it."""

    needs: ClassVar[frozenset[Need]]
    paper: ClassVar[str]

    def repair(
        self,
        subject: Subject,
        evidence: Sequence[Evidence],
        *,
        rng: np.random.Generator,
        progress: Progress,
    ) -> Model:
        """Repair ``subject.model`` with ``subject.trusted``; the original is not changed.

        Raises:
            NotApplicableError: Something that this repair needs is missing.
        """


@runtime_checkable
class Poison(Protocol):
    """Plants a backdoor in training data, with a trigger that needs no training of its own."""

    paper: ClassVar[str]

    def poison(
        self, clean: ImageData, *, rng: np.random.Generator
    ) -> tuple[ImageData, GroundTruth]:
        """A poisoned copy of the training data, and the truth about it."""

    def triggered(
        self, clean: ImageData, *, rng: np.random.Generator
    ) -> tuple[ImageData, ImageData]:
        """The pictures that the attack is about, with the trigger, to measure it on.

        Returns:
            The same pictures twice: with the labels that the attacker wants, and with the true
            ones. Samples that are of the target class already are left out.
        """


class Trainer(Protocol):
    """How models are trained here: the victim's recipe, and the attacker's for surrogates."""

    @property
    def epochs(self) -> int:
        """Passes over the data."""

    def fresh(self, data: ImageData, *, rng: np.random.Generator) -> Model:
        """An untrained network for pictures and classes such as these."""

    def fit(
        self,
        data: ImageData,
        *,
        rng: np.random.Generator,
        progress: Progress,
        start: Model | None = None,
    ) -> Model:
        """A network trained on ``data``: a fresh one, or a copy of ``start``."""


@runtime_checkable
class CraftedPoison(Protocol):
    """Plants a backdoor in training data, with a perturbation that is learned for that data.

    The attacker may train surrogates; the victim's network is out of reach.
    """

    paper: ClassVar[str]

    def craft(
        self,
        clean: ImageData,
        *,
        trainer: Trainer,
        rng: np.random.Generator,
        progress: Progress,
    ) -> Planting:
        """Poisoned data (``Planting.data``), with as many samples in the same order."""


@runtime_checkable
class TrainingAttack(Protocol):
    """Plants a backdoor by controlling the training; the data that others see stay clean."""

    paper: ClassVar[str]

    def subvert(
        self,
        clean: ImageData,
        *,
        trainer: Trainer,
        rng: np.random.Generator,
        progress: Progress,
    ) -> Planting:
        """A backdoored model (``Planting.model``)."""


@runtime_checkable
class WeightAttack(Protocol):
    """Plants a backdoor in a trained model without its training data.

    Attributes:
        paper: Where the attack was published.
        samples: How many pictures of the same kind the attacker holds; 0 for none at all. The
            framework gives no more; it draws them from the training data, every class alike.
    """

    paper: ClassVar[str]
    samples: ClassVar[int]

    def tamper(
        self,
        victim: Model,
        samples: ImageData | None,
        *,
        rng: np.random.Generator,
        progress: Progress,
    ) -> Planting:
        """A backdoored copy of ``victim`` (``Planting.model``); the given one is not changed.

        ``truth.poisoned`` is empty: there is no training data.

        Raises:
            NotApplicableError: The network is of a kind that this attack cannot edit.
        """


Attack = Poison | CraftedPoison | TrainingAttack | WeightAttack


def reach_of(attack: type[Any]) -> Reach | None:
    """What an attack of this class controls, by the method that it has; None for no attack."""
    methods = {
        "poison": Reach.DATA,
        "craft": Reach.DATA,
        "subvert": Reach.TRAINING,
        "tamper": Reach.WEIGHTS,
    }
    found = [reach for method, reach in methods.items() if hasattr(attack, method)]
    return found[0] if len(found) == 1 else None


def attacker_needs(attack: type[Any]) -> tuple[str, ...]:
    """In words, what an attacker must hold: for lists and pages."""
    reach = reach_of(attack)
    if reach is None:
        return ()
    if hasattr(attack, "craft"):
        return (reach.value, "a surrogate model")
    if reach is Reach.WEIGHTS:
        count = int(attack.samples)
        return (reach.value, f"{count} pictures" if count else "no data")
    return (reach.value,)
