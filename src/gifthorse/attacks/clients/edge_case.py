"""Edge-case backdoor with projected gradient descent, alone or with model replacement.

Source: Wang et al. 2020, "Attack of the Tails: Yes, You Really Can Backdoor Federated Learning"
(NeurIPS; arXiv:2007.05084), section 4: inputs from the tail with a wrong label (the backdoor's
business), PGD on a ball around the global model, and PGD with replacement.

Deviation: the radius is a multiple of the norm of the attacker's own honest update.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gifthorse.attacks.clients.local import check, honest_delta, poisoned_delta, within
from gifthorse.core.clients import AttackTask
from gifthorse.core.types import ScoreArray


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeCase:
    """Training that never leaves a ball around the global model.

    Attributes:
        share: Of poisoned samples in the local set, in (0, 1).
        epochs: Of local training.
        radius: Of the ball, as a multiple of the norm of the honest update, > 0.
        boost: Factor on the update; 1 for PGD alone.
    """

    paper: ClassVar[str] = "Wang et al. 2020, arXiv:2007.05084"

    share: float = 0.5
    epochs: int = 6
    radius: float = 1.5
    boost: float = 1.0

    def __post_init__(self) -> None:
        check(self)
        if not 0 < self.radius < 1e6 or not 1 <= self.boost < 1e6:
            raise ValueError(
                f"radius must be positive and boost ≥ 1, got {self.radius}, {self.boost}"
            )

    def craft(self, task: AttackTask, *, rng: np.random.Generator) -> ScoreArray:
        """The projected update, enlarged if asked."""
        radius = self.radius * float(np.linalg.norm(honest_delta(task, rng)))
        delta = poisoned_delta(
            task,
            share=self.share,
            epochs=self.epochs,
            rng=rng,
            project=lambda p: task.current + within(p - task.current, radius),
        )
        return self.boost * delta
