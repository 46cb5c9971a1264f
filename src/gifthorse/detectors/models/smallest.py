"""The smallest perturbation that reaches its goal: the schedule that searches share."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gifthorse.core.types import Progress
from gifthorse.detectors.models.inversion import Batches, Race

_UP, _DOWN = 1.1, 0.85
_CHECK_EVERY = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long to search, on how many pictures a step, and when a perturbation counts.

    Attributes:
        steps: Of the optimiser.
        batch_size: Pictures a step.
        goal: Share of pictures that a perturbation must move.
        first_weight: Weight of the size at the start; then up 10 % when the goal is met, and down
            15 % when it is not.
    """

    steps: int
    batch_size: int
    goal: float
    first_weight: float


def smallest(
    race: Race, plan: Schedule, *, rng: np.random.Generator, progress: Progress, what: str
) -> tuple[Tensor, list[Tensor]]:
    """Smallest sizes (k,) that reached the goal, infinite if none did, and their parameters."""
    count = len(race.probe.x) if race.pools is None else race.pools.shape[1]
    weights = torch.full((len(race.classes),), plan.first_weight, device=race.classes.device)
    batches = Batches(count, plan.batch_size, rng)
    best = torch.full_like(weights, float("inf"))
    kept = [p.detach().clone() for p in race.parameters]
    for step in range(1, plan.steps + 1):
        hits, _ = race.step(batches.draw(), weights)
        weights = torch.where(hits >= plan.goal, weights * _UP, weights * _DOWN)
        checked = step % _CHECK_EVERY == 0 and step >= plan.steps // 3
        if checked or step == plan.steps:
            hits, sizes = race.success()
            better = (hits >= plan.goal) & (sizes < best)
            best = torch.where(better, sizes, best)
            for old, new in zip(kept, race.parameters, strict=True):
                old[better] = new.detach()[better]
        progress(step, plan.steps, what)
    return best, kept
