"""What a plugin looks like.

A plugin is a frozen dataclass whose fields are its configuration (scalars and strings only), found
by entry point. It declares what it needs; the framework measures and judges.
"""

from collections.abc import Sequence
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np

from gifthorse.core.types import (
    Evidence,
    GroundTruth,
    ImageData,
    Model,
    Need,
    Null,
    Progress,
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
    """Plants a backdoor in training data."""

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
