"""Attackers that know the defence: one against each family.

Our own, after the constrained attacks of Baruch et al. 2019 (arXiv:1902.06156, "A Little Is
Enough"), Fang et al. 2020 (arXiv:1911.11815) and Wang et al. 2020 (arXiv:2007.05084). Each uses
only what a malicious client has: the global model, its last step, and its own data, from which it
computes honest updates to see how those vary.

    norm         clipping, FLAME's bound      exactly the length of an honest update
    coordinate   median, trimmed mean         within mean ± z·deviation of honest updates
    distance     Krum, Bulyan, multi-metrics  no farther from honest than honest ones are apart
    direction    FLTrust, FLAME's clusters    a cosine with the honest update that passes
    similarity   FoolsGold                    noise that makes the attackers differ
    output       DeepSight                    the last layer as an honest client would have it
    span         explained                    what its own samples' gradients span, and no more
    history      FLDetector                   half of it repeats the last step, so it is predictable
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gifthorse.attacks.clients.local import check, honest_delta, poisoned_delta, within
from gifthorse.core.clients import AttackTask
from gifthorse.core.types import ScoreArray
from gifthorse.models.local import sample_span, train_locally

FAMILIES = (
    "norm",
    "coordinate",
    "distance",
    "direction",
    "similarity",
    "output",
    "span",
    "history",
)
_SAMPLES = 5
_SPANNED = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Adaptive:
    """A poisoned update, bent to what a family of defences lets pass.

    Attributes:
        share: Of poisoned samples in the local set, in (0, 1).
        epochs: Of local training.
        against: norm, coordinate, distance, direction, similarity, output, span or history.
        slack: How far it goes within what should pass, > 0.
    """

    paper: ClassVar[str] = "own; after Baruch et al. 2019, arXiv:1902.06156"

    share: float = 0.5
    epochs: int = 6
    against: str = "norm"
    slack: float = 1.0

    def __post_init__(self) -> None:
        check(self)
        if self.against not in FAMILIES:
            raise ValueError(f"no family {self.against!r}; known: {', '.join(FAMILIES)}")
        if not 0 < self.slack < 1e6:
            raise ValueError(f"slack must be positive, got {self.slack}")

    def craft(self, task: AttackTask, *, rng: np.random.Generator) -> ScoreArray:
        """The bent update, never longer than ``slack`` honest ones."""
        good = honest_delta(task, rng)
        closed = np.ones(len(good), dtype=np.float64)
        if self.against == "output":
            for name in (task.learner.layout.output_weight, task.learner.layout.output_bias):
                closed[task.learner.layout.place(name)] = 0
        bad = poisoned_delta(
            task, share=self.share, epochs=self.epochs, rng=rng, adjust=lambda _, g: g * closed
        )
        length = self.slack * float(np.linalg.norm(good))
        return within(self._bent(task, good, bad, rng), length)

    def _bent(
        self, task: AttackTask, good: ScoreArray, bad: ScoreArray, rng: np.random.Generator
    ) -> ScoreArray:
        if self.against == "coordinate":
            some = _honest_sample(task, rng)
            spread = self.slack * some.std(axis=0)
            return np.clip(bad, some.mean(axis=0) - spread, some.mean(axis=0) + spread)
        if self.against == "distance":
            some = _honest_sample(task, rng)
            reach = self.slack * float(np.linalg.norm(some - some.mean(axis=0), axis=1).mean())
            return good + within(bad - good, reach)
        if self.against == "direction":
            return _turned(bad, good, cosine=0.5)
        if self.against == "similarity":
            noise = rng.normal(0, 1, len(bad))
            return bad + noise * (self.slack * np.linalg.norm(bad) / np.linalg.norm(noise))
        if self.against == "output":
            last = 1.0 * good
            for name in task.learner.layout.names:
                if name not in (task.learner.layout.output_weight, task.learner.layout.output_bias):
                    last[task.learner.layout.place(name)] = 0
            return bad + last
        if self.against == "span":
            rows = rng.permutation(len(task.y))[:_SPANNED]
            span = sample_span(task.learner, task.current, task.x[rows], task.y[rows])
            return (bad @ span.T) @ span
        if self.against == "history":
            return 0.5 * bad + 0.5 * task.previous
        return bad


def _honest_sample(task: AttackTask, rng: np.random.Generator) -> ScoreArray:
    """Honest updates on resampled halves of the client's own data, shape (5, d)."""
    found = []
    for _ in range(_SAMPLES):
        rows = rng.choice(len(task.y), size=max(1, len(task.y) // 2), replace=False)
        after = train_locally(
            task.learner, task.current, task.x[rows], task.y[rows], task.plan, rng=rng
        )
        found.append(after - task.current)
    return np.stack(found)


def _turned(bad: ScoreArray, good: ScoreArray, *, cosine: float) -> ScoreArray:
    """``bad`` turned in the plane with ``good`` until it has at least this cosine with it."""
    axis = good / max(float(np.linalg.norm(good)), 1e-12)
    along = float(bad @ axis)
    across = bad - along * axis
    least = cosine / np.sqrt(1 - cosine**2) * float(np.linalg.norm(across))
    return np.asarray(across + max(along, least) * axis)
