"""DBA: every attacker plants a part of the trigger, the whole is tested.

Source: Xie, Huang, Chen, Li 2020, "DBA: Distributed Backdoor Attacks against Federated Learning"
(ICLR), sections 2 and 3.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gifthorse.attacks.clients.local import check, poisoned_delta
from gifthorse.core.clients import AttackTask
from gifthorse.core.types import ScoreArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Dba:
    """A distributed trigger.

    Attributes:
        share: Of poisoned samples in the local set, in (0, 1).
        epochs: Of local training.
        parts: Into how many parts the trigger falls; attacker i plants part i modulo parts.
        boost: Factor on the update, ≥ 1.
    """

    paper: ClassVar[str] = "Xie et al. 2020, ICLR (DBA)"

    share: float = 0.5
    epochs: int = 6
    parts: int = 4
    boost: float = 2.0

    def __post_init__(self) -> None:
        check(self)
        if not 1 <= self.parts <= 64:
            raise ValueError(f"parts must be in [1, 64], got {self.parts}")
        if not 1 <= self.boost < 1e6:
            raise ValueError(f"boost must be ≥ 1, got {self.boost}")

    def craft(self, task: AttackTask, *, rng: np.random.Generator) -> ScoreArray:
        """The update of training with one part of the trigger."""
        return self.boost * poisoned_delta(
            task,
            share=self.share,
            epochs=self.epochs,
            rng=rng,
            part=task.position % self.parts,
            parts=self.parts,
        )
