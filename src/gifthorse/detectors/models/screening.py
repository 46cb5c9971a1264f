"""Which of many classes deserve a search of their own: group testing with successive halving.

One perturbation is shared by a group of classes and optimised towards whichever of them *all*
pictures reach most easily, by −log Σ_c exp(mean_x log p_c(x') − mean_x log p_c(x)): what a class
gains counts, not how likely it was. The better half of every group stays, until one class a group
is left; and the better half of the groups, by the size at which their best class would be reached.
The last winners are ranked by that size and by its ratio to the per-picture size in turn.
With up to 256 classes the number of perturbations does not depend on theirs; above, there is one
for eight classes in the first round only, for as few steps on as few pictures as say anything.

Nothing found here enters the statistic: it only decides where to look. See
docs/decisions/0025-many-classes.md for why the p-value stays honest.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from gifthorse.core.types import IntArray, Progress, ScoreArray
from gifthorse.detectors.models.inversion import Batches, Family, images_at_once
from gifthorse.detectors.models.trusted import Probe
from gifthorse.models.classifier import ImageClassifier

_UP, _DOWN = 1.1, 0.85
_GOAL = 0.9

Alone = Callable[[IntArray], ScoreArray]
"""Per-picture sizes of some classes, shape (len(classes),)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Screening:
    """How classes are dropped.

    Attributes:
        share: Classes that share a perturbation at first, at least 1.
        last: Perturbations in the last round, of one class each.
        keep: Classes left at the end, at most ``last``.
        steps: Steps before each halving.
        pictures: Pictures a step.
        learning_rate: Of Adam.
        first_weight: Weight of the size at the start.
    """

    share: int = 8
    last: int = 16
    keep: int = 8
    steps: int = 6
    pictures: int = 6
    learning_rate: float = 0.2
    first_weight: float = 1e-3


def shortlist(
    classifier: ImageClassifier,
    probe: Probe,
    family: Family,
    plan: Screening,
    alone: Alone,
    *,
    rng: np.random.Generator,
    generator: torch.Generator,
    progress: Progress,
) -> IntArray:
    """The ``keep`` classes that look cheapest to reach with one change, sorted."""
    count = max(2 * plan.last, -(-classifier.n_classes // plan.share))
    parts = np.array_split(rng.permutation(classifier.n_classes), count)
    members = [np.sort(part).astype(np.int64) for part in parts if len(part)]
    heat = _Heat(classifier, probe, family, plan, len(members), generator)
    batches = Batches(len(probe.x), plan.pictures, rng)
    halvings = int(np.ceil(np.log2(len(members) / plan.last)))
    sharing = int(np.ceil(np.log2(max(len(part) for part in members))))
    rounds = max(halvings, sharing) + 1
    for turn in range(rounds):
        reach = []
        for step in range(plan.steps):
            reach.append(heat.step(batches.draw(), members))
            progress(turn * plan.steps + step + 1, rounds * plan.steps, "screening of classes")
        gains = np.mean(reach[plan.steps // 2 :], axis=0)
        members = [_better_half(part, gain) for part, gain in zip(members, gains, strict=True)]
        left = max(plan.last, -(-len(members) // 2)) if turn < rounds - 1 else plan.last
        best = np.argsort(heat.projected(members, gains), kind="stable")[:left]
        members = [members[i] for i in best]
        heat.keep(best)
    winners = np.array([part[0] for part in members], dtype=np.int64)
    sizes = heat.projected(members, gains[best])
    ratios = sizes / alone(winners)
    # Half by size, half by ratio: early sizes are rough, and first-order sizes more so.
    order = np.stack([np.argsort(sizes, kind="stable"), np.argsort(ratios, kind="stable")], axis=1)
    _, first = np.unique(order, return_index=True)
    return np.sort(winners[order.ravel()[np.sort(first)][: plan.keep]])


def _better_half(part: IntArray, gain: ScoreArray) -> IntArray:
    order = part[np.argsort(-gain[part], kind="stable")]
    return order[: -(-len(part) // 2)]


class _Heat:
    """One perturbation a group, moved on together."""

    def __init__(
        self,
        classifier: ImageClassifier,
        probe: Probe,
        family: Family,
        plan: Screening,
        groups: int,
        generator: torch.Generator,
    ) -> None:
        self.classifier, self.probe, self.family = classifier, probe, family
        shape = probe.x.shape
        started = family.start(groups, (shape[1], shape[2], shape[3]), generator=generator)
        self.parameters = [p.to(classifier.device).requires_grad_(True) for p in started]
        self.rate = plan.learning_rate
        self._restart()
        self.weights = torch.full((groups,), plan.first_weight, device=classifier.device)
        parts = torch.split(probe.x, images_at_once(shape))
        with torch.no_grad():
            self.clean = torch.cat([classifier.logits(x).log_softmax(-1) for x in parts])

    def step(self, rows: IntArray, members: list[IntArray]) -> ScoreArray:
        """Move on; returns mean gains of log p before the step, shape (groups, classes)."""
        index = torch.from_numpy(rows).to(self.classifier.device)
        x, y = self.probe.x[index], self.probe.y[index]
        counts = (y[:, None] != torch.arange(self.classifier.n_classes, device=x.device)).float()
        self.optimizer.zero_grad(set_to_none=True)
        width = max(1, images_at_once(x.shape) // len(x))
        reach, hits = [], []
        for start in range(0, len(members), width):
            mine = [p[start : start + width] for p in self.parameters]
            stamped = self.family.apply(mine, x)
            out = self.classifier.logits(stamped.flatten(0, 1)).view(*stamped.shape[:2], -1)
            gain = (out.log_softmax(-1) - self.clean[index]) * counts
            mean = gain.sum(1) / counts.sum(0).clamp(min=1)
            # No picture of another class: nothing can be said, so it is out of reach.
            mean = mean.masked_fill(counts.sum(0) == 0, -1e4)
            allowed = torch.full_like(mean, -1e4).detach()
            for i, part in enumerate(members[start : start + width]):
                allowed[i, torch.from_numpy(part).to(x.device)] = 0.0
            loss = -(mean + allowed).logsumexp(-1)
            loss = loss + self.weights[start : start + width] * self.family.size(mine)
            loss.sum().backward()  # type: ignore[no-untyped-call]
            best = (mean + allowed).argmax(-1)
            sent = (out.detach().argmax(-1) == best[:, None]).float().mean(1)
            reach.append(mean.detach())
            hits.append(sent)
        self.optimizer.step()
        self.weights *= torch.where(torch.cat(hits) >= _GOAL, _UP, _DOWN)
        return np.asarray(torch.cat(reach).double().cpu().numpy())

    def keep(self, chosen: IntArray) -> None:
        """Go on with some of the perturbations."""
        index = torch.from_numpy(chosen).to(self.classifier.device)
        self.parameters = [p.detach()[index].requires_grad_(True) for p in self.parameters]
        self.weights = self.weights[index]
        self._restart()

    def projected(self, members: list[IntArray], gains: ScoreArray) -> ScoreArray:
        """The size at which the best class of each group would be reached, shape (groups,).

        As if the gain grew in proportion to the size, and no smaller than a tenth of what is.
        """
        with torch.no_grad():
            sizes = self.family.size(self.parameters).double().cpu().numpy()
        first = np.array([part[0] for part in members])
        need = -self.clean.mean(0).double().cpu().numpy()[first]
        gain = gains[np.arange(len(members)), first].clip(1e-2)
        return np.asarray(sizes * (need / gain).clip(0.1)).clip(1e-9)

    def _restart(self) -> None:
        self.optimizer = torch.optim.Adam(self.parameters, lr=self.rate, betas=(0.5, 0.9))
