"""Shrinks the head's weights to the length of the shortest (our own example; it repairs little)."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from gifthorse.core.errors import NotApplicableError
from gifthorse.core.types import Evidence, Model, Need, Progress, Subject
from gifthorse.models.classifier import as_classifier


@dataclass(frozen=True, slots=True, kw_only=True)
class RescaledHead:
    """Every class gets a weight vector of the same length.

    Attributes:
        strength: 0 changes nothing, 1 makes all lengths equal; in (0, 1].
    """

    paper: ClassVar[str] = "our own: an example of a plugin, not a method"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.WEIGHTS})

    strength: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.strength <= 1:
            raise ValueError(f"strength must be in (0, 1], got {self.strength}")

    def repair(
        self,
        subject: Subject,
        evidence: Sequence[Evidence],
        *,
        rng: np.random.Generator,
        progress: Progress,
    ) -> Model:
        """A copy with another head.

        Raises:
            NotApplicableError: The model has no linear head.
        """
        del evidence, rng, progress
        model = as_classifier(subject.model)
        fixed = model.replaced(copy.deepcopy(model.module))
        if fixed.head is None:
            raise NotApplicableError(f"{model.name} has no linear head to rescale")
        with torch.no_grad():
            length = fixed.head.weight.norm(dim=1, keepdim=True)
            fixed.head.weight *= (length.min() / length) ** self.strength
        return fixed
