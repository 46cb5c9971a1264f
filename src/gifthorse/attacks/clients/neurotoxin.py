"""Neurotoxin: plant the backdoor where honest clients hardly write.

Source: Zhang et al. 2022, "Neurotoxin: Durable Backdoors in Federated Learning" (ICML;
arXiv:2206.10341), algorithm 1: the coordinates with the largest *magnitude* in the last global step
are closed in every poisoned gradient; the result is projected to a norm.

Deviation: the norm is a multiple of that of the attacker's own honest update.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gifthorse.attacks.clients.local import check, honest_delta, poisoned_delta, within
from gifthorse.core.clients import AttackTask
from gifthorse.core.types import BoolArray, ScoreArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Neurotoxin:
    """Trains on the coordinates that the others leave alone.

    Attributes:
        share: Of poisoned samples in the local set, in (0, 1).
        epochs: Of local training.
        closed: Share of coordinates that are closed, in [0, 1).
        bound: Norm of the update, as a multiple of the honest one, > 0.
    """

    paper: ClassVar[str] = "Zhang et al. 2022, arXiv:2206.10341"

    share: float = 0.5
    epochs: int = 6
    closed: float = 0.05
    bound: float = 1.5

    def __post_init__(self) -> None:
        check(self)
        if not 0 <= self.closed < 1 or not 0 < self.bound < 1e6:
            raise ValueError(
                f"closed must be in [0, 1) and bound positive, got {self.closed}, {self.bound}"
            )

    def craft(self, task: AttackTask, *, rng: np.random.Generator) -> ScoreArray:
        """The masked and projected update."""
        free = open_coordinates(task.previous, self.closed)
        length = self.bound * float(np.linalg.norm(honest_delta(task, rng)))
        delta = poisoned_delta(
            task, share=self.share, epochs=self.epochs, rng=rng, adjust=lambda _, g: g * free
        )
        return within(delta, length)


def open_coordinates(step: ScoreArray, closed: float) -> BoolArray:
    """All but the share ``closed`` of coordinates with the largest magnitude, shape (d,)."""
    free = np.ones(len(step), dtype=np.bool_)
    count = int(closed * len(step))
    if count and np.any(step):
        free[np.argsort(-np.abs(step), kind="stable")[:count]] = False
    return free
