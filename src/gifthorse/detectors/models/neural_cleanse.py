"""Neural Cleanse: the smallest patch that sends every picture to a class, for every class.

Source: Wang, Yao, Shan, Li, Viswanath, Zheng, Zhao 2019, "Neural Cleanse: Identifying and
Mitigating Backdoor Attacks in Neural Networks", IEEE S&P, sections IV-B and V; schedule of the
weight of the mask after the authors' code.

Deviations:
- All classes are optimised in one batch, on the same pictures; each has its own weight, its own
  best mask and stops on its own.
- Pictures that the model puts in the class already do not count for it.
- A pass is one round through the probe (some hundred pictures), not 31 batches, and there are at
  most ``passes`` of them; the paper uses a training-set-sized probe and up to 1,000.
- The decision is not "anomaly index > 2" but the index that a clean model with this many classes
  exceeds at the stated rate; with ten classes, 2 is exceeded by a third of all *clean* models.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from gifthorse.core.rng import draw_seed
from gifthorse.core.types import Evidence, Need, Null, Progress, RecoveredTrigger, Subject, Unit
from gifthorse.detectors.models.inversion import Batches, Masked, Race
from gifthorse.detectors.models.pictures import class_bars, trigger_pictures
from gifthorse.detectors.models.trusted import probe_of
from gifthorse.metrics.outliers import AnomalyIndexNull, anomaly_indices

_RAISE, _LOWER = 2.0, 2.0**1.5  # the authors' cost multipliers


@dataclass(frozen=True, slots=True, kw_only=True)
class NeuralCleanse:
    """Recovers a mask and pattern for every class and looks for one that is too small.

    Attributes:
        passes: Most rounds through the probe pictures.
        samples: Trusted pictures used.
        batch_size: Pictures a step.
        goal: Share of pictures that a mask must send to the class.
        first_weight: Weight of the mask's L1 norm when it is first switched on.
        patience: Rounds before the weight changes; a class stops after four times as many
            rounds without a smaller mask.
        learning_rate: Of Adam.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.LOGITS, Need.GRADIENTS, Need.TRUSTED})
    unit: ClassVar[Unit] = Unit.CLASS
    paper: ClassVar[str] = "Wang et al. 2019, IEEE S&P, Neural Cleanse"

    passes: int = 120
    samples: int = 200
    batch_size: int = 32
    goal: float = 0.99
    first_weight: float = 1e-3
    patience: int = 5
    learning_rate: float = 0.1

    def __post_init__(self) -> None:
        if min(self.passes, self.samples, self.batch_size, self.patience) < 1:
            raise ValueError("passes, samples, batch_size and patience must be at least 1")
        if not 0 < self.goal <= 1 or self.first_weight <= 0 or self.learning_rate <= 0:
            raise ValueError("goal must be in (0, 1], first_weight and learning_rate positive")

    def inspect(
        self, subject: Subject, *, rng: np.random.Generator, progress: Progress
    ) -> Evidence:
        """Signed anomaly index of every class's mask norm; the largest is the statistic."""
        classifier, probe = probe_of(subject, samples=self.samples, rng=rng)
        family = Masked(start_opacity=0.5)
        generator = torch.Generator().manual_seed(draw_seed(rng))
        race = Race(
            classifier, probe, family, learning_rate=self.learning_rate, generator=generator
        )
        schedule = _Schedule(self, race, family)
        batches = Batches(len(probe.x), self.batch_size, rng)
        rounds = max(1, len(probe.x) // batches.size)
        for done in range(self.passes):
            hits, sizes = [], []
            for _ in range(rounds):
                hit, size = race.step(batches.draw(), schedule.weights)
                hits.append(hit)
                sizes.append(size)
            schedule.after(torch.stack(hits).mean(0), torch.stack(sizes).mean(0))
            progress(done + 1, self.passes, "Neural Cleanse")
            if bool(schedule.stopped.all()):
                break
        progress(self.passes, self.passes, "Neural Cleanse")
        norms = schedule.norms()
        indices = anomaly_indices(norms)
        order = np.argsort(-indices, kind="stable")
        triggers = tuple(schedule.trigger(int(k)) for k in order[:3])
        names = classifier.class_names
        return Evidence(
            unit=Unit.CLASS,
            scores=indices,
            statistic=float(indices.max()),
            suspects=order[:1].astype(np.int64),
            triggers=triggers,
            exhibits=(
                trigger_pictures(probe, triggers[0], names, "Neural Cleanse"),
                class_bars(
                    names, indices, int(order[0]), "anomaly index (smaller masks to the right)"
                ),
                class_bars(
                    names, norms, int(order[0]), "L1 norm of the mask in pixels", judged=False
                ),
            ),
            notes=schedule.notes(names),
        )

    def null(self, evidence: Evidence) -> Null:
        """Largest anomaly index of as many normal values, simulated."""
        return AnomalyIndexNull(len(evidence.scores))


class _Schedule:
    """The authors' schedule of the weight, for all classes at once."""

    def __init__(self, options: NeuralCleanse, race: Race, family: Masked) -> None:
        count = race.classifier.n_classes
        self.options, self.race, self.family = options, race, family
        self.weights = torch.zeros(count)
        self.stopped = torch.zeros(count, dtype=torch.bool)
        self._waiting, self._good, self._bad, self._idle = torch.zeros(4, count)
        self._best = torch.full((count,), float("inf"))
        self._kept = [p.detach().clone() for p in race.parameters]

    def after(self, hits: torch.Tensor, sizes: torch.Tensor) -> None:
        """Account for one round: keep better masks, then move the weights."""
        hits, sizes = hits.cpu(), sizes.cpu()
        reached, running = hits >= self.options.goal, ~self.stopped
        better = reached & (sizes < self._best) & running
        self._idle = torch.where(better, torch.zeros(()), self._idle + 1)
        self._best = torch.where(better, sizes, self._best)
        for kept, now in zip(self._kept, self.race.parameters, strict=True):
            kept[better.to(kept.device)] = now.detach()[better.to(now.device)]
        off = self.weights == 0
        self._waiting = torch.where(off & reached, self._waiting + 1, torch.zeros(()))
        start = off & (self._waiting >= self.options.patience)
        self._good = torch.where(~off & reached, self._good + 1, torch.zeros(()))
        self._bad = torch.where(~off & ~reached, self._bad + 1, torch.zeros(()))
        up, down = self._good >= self.options.patience, self._bad >= self.options.patience
        self.weights[start] = self.options.first_weight
        self.weights[up] *= _RAISE
        self.weights[down] /= _LOWER
        self._good[up], self._bad[down] = 0, 0
        found = torch.isfinite(self._best)
        self.stopped |= found & ~off & (self._idle >= 4 * self.options.patience)

    def norms(self) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """L1 norm of the best mask of each class; the last one where none reached the goal."""
        last = self.family.size(self.race.parameters).detach().cpu()
        norms = torch.where(torch.isfinite(self._best), self._best, last)
        return np.asarray(norms.double().numpy())

    def notes(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Which classes no mask could reach."""
        lost = [names[i] for i in torch.nonzero(~torch.isfinite(self._best)).flatten().tolist()]
        if not lost:
            return ()
        return (f"no mask reached the goal for: {', '.join(lost[:5])}",)

    def trigger(self, target: int) -> RecoveredTrigger:
        """The best mask and pattern for a class."""
        found = bool(torch.isfinite(self._best[target]))
        source = self._kept if found else [p.detach() for p in self.race.parameters]
        mask, pattern = self.family.opened([p[target : target + 1] for p in source])
        return RecoveredTrigger(
            target=target, mask=mask[0, 0].cpu().numpy(), pattern=pattern[0].cpu().numpy()
        )
