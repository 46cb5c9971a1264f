"""Model replacement: the update is enlarged until it survives the averaging.

Source: Bagdasaryan et al. 2020, "How To Backdoor Federated Learning" (AISTATS; arXiv:1807.00459),
section 4: G + γ(X − G) with γ = n/η; constrain-and-scale with the loss αL_class + (1 − α)L_ano,
where L_ano is the squared distance to G, with its gradient; train-and-scale with γ = S/‖X − G‖.

Deviation: with several attackers each takes its share of γ. The bound S of train-and-scale is a
multiple of the norm of the attacker's own honest update.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gifthorse.attacks.clients.local import check, honest_delta, poisoned_delta
from gifthorse.core.clients import AttackTask
from gifthorse.core.types import ScoreArray


def _check_boost(boost: float) -> None:
    if not 0 <= boost < 1e6:
        raise ValueError(f"boost must be ≥ 0, got {boost}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReplacement:
    """Trains on poisoned data and multiplies the update.

    Attributes:
        share: Of poisoned samples in the local set, in (0, 1).
        epochs: Of local training.
        boost: γ; 0 for replies/attackers, which replaces the global model.
    """

    paper: ClassVar[str] = "Bagdasaryan et al. 2020, arXiv:1807.00459"

    share: float = 0.5
    epochs: int = 6
    boost: float = 0.0

    def __post_init__(self) -> None:
        check(self)
        _check_boost(self.boost)

    def craft(self, task: AttackTask, *, rng: np.random.Generator) -> ScoreArray:
        """γ(X − G)."""
        gamma = self.boost or task.replies / task.attackers
        return gamma * poisoned_delta(task, share=self.share, epochs=self.epochs, rng=rng)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConstrainAndScale:
    """Model replacement that stays near the global model while it trains.

    Attributes:
        share: Of poisoned samples in the local set, in (0, 1).
        epochs: Of local training.
        boost: γ; 0 for replies/attackers.
        alpha: Weight of the class loss; the rest goes to the distance, in (0, 1].
    """

    paper: ClassVar[str] = "Bagdasaryan et al. 2020, arXiv:1807.00459"

    share: float = 0.5
    epochs: int = 6
    boost: float = 0.0
    alpha: float = 0.7

    def __post_init__(self) -> None:
        check(self)
        _check_boost(self.boost)
        if not 0 < self.alpha <= 1:
            raise ValueError(f"alpha must be in (0, 1], got {self.alpha}")

    def craft(self, task: AttackTask, *, rng: np.random.Generator) -> ScoreArray:
        """γ(X − G) with X trained on αL_class + (1 − α)‖X − G‖²."""

        def constrained(parameters: ScoreArray, gradient: ScoreArray) -> ScoreArray:
            apart = 2 * (parameters - task.current)
            return self.alpha * gradient + (1 - self.alpha) * apart

        gamma = self.boost or task.replies / task.attackers
        return gamma * poisoned_delta(
            task, share=self.share, epochs=self.epochs, rng=rng, adjust=constrained
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainAndScale:
    """Model replacement with a length that an anomaly detector would just allow.

    Attributes:
        share: Of poisoned samples in the local set, in (0, 1).
        epochs: Of local training.
        bound: S, as a multiple of the norm of the attacker's own honest update, > 0.
    """

    paper: ClassVar[str] = "Bagdasaryan et al. 2020, arXiv:1807.00459"

    share: float = 0.5
    epochs: int = 6
    bound: float = 1.5

    def __post_init__(self) -> None:
        check(self)
        if not 0 < self.bound < 1e6:
            raise ValueError(f"bound must be positive, got {self.bound}")

    def craft(self, task: AttackTask, *, rng: np.random.Generator) -> ScoreArray:
        """(X − G) at the length S."""
        length = self.bound * float(np.linalg.norm(honest_delta(task, rng)))
        delta = poisoned_delta(task, share=self.share, epochs=self.epochs, rng=rng)
        return delta * (length / max(float(np.linalg.norm(delta)), 1e-12))
