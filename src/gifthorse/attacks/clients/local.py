"""What all attackers share: their poisoned data, and the updates that they compute from it."""

from typing import Any

import numpy as np

from gifthorse.core.clients import AttackTask, LocalPlan
from gifthorse.core.types import FloatArray, IntArray, ScoreArray
from gifthorse.models.local import Adjust, Project, train_locally


def poisoned_data(
    task: AttackTask, share: float, rng: np.random.Generator, *, part: int = 0, parts: int = 1
) -> tuple[FloatArray, IntArray]:
    """The client's pictures, and so many poisoned copies that they make up ``share`` of the set."""
    copies = task.backdoor.poison(task.x, task.y, part=part, parts=parts)
    if not len(copies):
        return task.x, task.y
    count = max(1, round(share / (1 - share) * len(task.x)))
    rows = rng.choice(len(copies), size=count, replace=count > len(copies))
    wanted = np.full(count, task.backdoor.target, dtype=np.int64)
    return np.concatenate([task.x, copies[rows]]), np.concatenate([task.y, wanted])


def honest_delta(task: AttackTask, rng: np.random.Generator) -> ScoreArray:
    """What the client would send if it were honest, shape (d,)."""
    after = train_locally(task.learner, task.current, task.x, task.y, task.plan, rng=rng)
    return after - task.current


def poisoned_delta(
    task: AttackTask,
    *,
    share: float,
    epochs: int,
    rng: np.random.Generator,
    part: int = 0,
    parts: int = 1,
    adjust: Adjust | None = None,
    project: Project | None = None,
) -> ScoreArray:
    """Local training on poisoned data from the global model, shape (d,)."""
    x, y = poisoned_data(task, share, rng, part=part, parts=parts)
    plan = LocalPlan(
        epochs=epochs, batch_size=task.plan.batch_size, learning_rate=task.plan.learning_rate
    )
    after = train_locally(
        task.learner, task.current, x, y, plan, rng=rng, adjust=adjust, project=project
    )
    return after - task.current


def within(delta: ScoreArray, bound: float) -> ScoreArray:
    """A vector shortened to at most ``bound``."""
    length = float(np.linalg.norm(delta))
    return delta if length <= bound else delta * (bound / length)


def check(attack: Any) -> None:
    """Refuse options that every attack has in common and that make no sense."""
    if not 0 < attack.share < 1:
        raise ValueError(f"share must be in (0, 1), got {attack.share}")
    if not 1 <= attack.epochs <= 1000:
        raise ValueError(f"epochs must be in [1, 1000], got {attack.epochs}")
