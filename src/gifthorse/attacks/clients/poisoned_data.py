"""Poisoned local data: a malicious client that trains honestly on a set with triggers in it.

Source: Bagdasaryan et al. 2020, "How To Backdoor Federated Learning" (AISTATS; arXiv:1807.00459),
section 4.1, the "naive approach" that their other attacks are compared with.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gifthorse.attacks.clients.local import check, poisoned_delta
from gifthorse.core.clients import AttackTask
from gifthorse.core.types import ScoreArray


@dataclass(frozen=True, slots=True, kw_only=True)
class PoisonedData:
    """Honest training on poisoned data, nothing else.

    Attributes:
        share: Of poisoned samples in the local set, in (0, 1).
        epochs: Of local training.
    """

    paper: ClassVar[str] = "Bagdasaryan et al. 2020, arXiv:1807.00459"

    share: float = 0.5
    epochs: int = 6

    def __post_init__(self) -> None:
        check(self)

    def craft(self, task: AttackTask, *, rng: np.random.Generator) -> ScoreArray:
        """The update as it comes out of training."""
        return poisoned_delta(task, share=self.share, epochs=self.epochs, rng=rng)
