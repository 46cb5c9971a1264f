"""Where can one change send *all* pictures, whichever class that is? Independent of their number.

A backdoored network has a class that a small change leads every picture to: a sink. This search
does not go through the classes. It lets perturbations run to whichever class gains most on all
pictures, presses them small, and notes which class that was and how small the change became. Then
it forbids that class and searches again with the same effort, so that classes come roughly in the
order of how easily they are reached. A clean network's easiest sinks lie close together;
``metrics/spacings.py`` has the test for that.

A round has three heats: starts, which are only looked at (forward passes, once for all rounds);
``tries`` of them, half free to run to any class that is left and half to a few classes drawn at
random, by −log Σ_c exp(mean_x log p_c(x') − mean_x log p_c(x)); and the ``last`` of these, held to
the class that they found, while their size is pressed down. Sizes enter by their logarithm, so that
neither their unit nor the size of the pictures matters.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gifthorse.core.types import Progress
from gifthorse.detectors.models.inversion import Batches, Family, images_at_once
from gifthorse.detectors.models.trusted import Probe
from gifthorse.models.classifier import ImageClassifier

_FIRST, _UP, _DOWN, _MOST = 0.3, 1.25, 0.7, 30.0
"""Weight of the logarithm of the size: at first, after a hit, after a miss, and at most."""
_FAR = -1e4
_LITTLE, _STEEP = 1e-2, 6.0
_A_CLASS = 2
"""Starts a round that may run to one class: or all of them would."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is done a round.

    Attributes:
        tries: Starts that run free.
        free: Steps of these.
        last: How many of them are made small.
        steps: Steps of these.
        pictures: Pictures a step.
        look: Pictures that starts are looked at with.
        check_every: Steps between looks at all pictures.
        rounds: Sinks to find.
        goal: Share of pictures of other classes that must go to the class.
    """

    tries: int
    free: int
    last: int
    steps: int
    pictures: int
    look: int = 4
    check_every: int = 8
    rounds: int = 8
    goal: float = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Sink:
    """A class that one change leads to.

    Attributes:
        target: The class.
        size: Smallest size that reached the goal; infinite if none did.
        share: Share of the pictures of other classes that this change sends there; if none reached
            the goal, the largest share.
        parameters: Of this change, first axis (1,).
    """

    target: int
    size: float
    share: float
    parameters: list[Tensor]


class SinkSearch:
    """The easiest sinks of a network, for one family of perturbations.

    Args:
        classifier: The model.
        probe: Trusted pictures; those that the model puts in a class already do not count for it.
        family: The kind of perturbation.
        starts: Its starting points, parameters with first axis (s,).
        effort: How much is done.
        learning_rate: Of Adam.
        rng: For batches.
    """

    def __init__(
        self,
        classifier: ImageClassifier,
        probe: Probe,
        family: Family,
        starts: list[Tensor],
        effort: Effort,
        *,
        learning_rate: float,
        rng: np.random.Generator,
    ) -> None:
        self.classifier, self.probe, self.family, self.effort = classifier, probe, family, effort
        self.rate = learning_rate
        device = classifier.device
        self.starts = [p.detach().to(device) for p in starts]
        classes = torch.arange(classifier.n_classes, device=device)
        self.others = (probe.y[:, None] != classes).float()
        self.rng = rng
        self.batches = Batches(len(probe.x), effort.pictures, rng)
        self.open = self.others.sum(0) > 0
        few = torch.from_numpy(self.batches.draw()[: effort.look]).to(device)
        with torch.no_grad():
            parts = torch.split(probe.x, images_at_once(probe.x.shape))
            self.clean = torch.cat([classifier.logits(x).log_softmax(-1) for x in parts])
            self.usual = self.clean.mean(0)
            _, gains = self._seen(self.starts, few)
            self.promise = self._promise(self.starts, gains)

    def run(self, progress: Progress, what: str) -> list[Sink]:
        """Sinks in the order in which they were found, up to ``rounds``."""
        found: list[Sink] = []
        for turn in range(min(self.effort.rounds, int(self.open.sum()))):
            sink = self._round()
            self.open[sink.target] = False
            found.append(sink)
            progress(turn + 1, self.effort.rounds, what)
        return found

    def _round(self) -> Sink:
        """The easiest sink among the classes that are open."""
        allowed = self._allowed()
        chosen = self._chosen(allowed)
        moved, gains = self._free([p[chosen] for p in self.starts], allowed)
        rank, goals = self._promise(moved, gains).masked_fill(~allowed, _FAR).max(1)
        best = rank.argsort(descending=True)[: self.effort.last]
        sinks = self._pressed([p[best] for p in moved], goals[best])
        return min(sinks, key=lambda sink: (sink.size, -sink.share))

    def _allowed(self) -> Tensor:
        """Where each try may run to, shape (tries, classes): anywhere, or to its part of them."""
        anywhere = self.effort.tries // 2
        allowed = self.open.repeat(self.effort.tries, 1)
        parts = self.rng.integers(anywhere, self.effort.tries, len(self.open))
        for place in range(anywhere, self.effort.tries):
            mine = self.open & torch.from_numpy(parts == place).to(self.open.device)
            if bool(mine.any()):
                allowed[place] = mine
        return allowed

    def _chosen(self, allowed: Tensor) -> Tensor:
        """The most promising start for every try, few for one class."""
        value, target = self.promise.masked_fill(~self.open, _FAR).max(1)
        taken: dict[int, int] = {}
        chosen: list[int] = []
        for start in value.argsort(descending=True).tolist():
            c = int(target[start])
            taken[c] = taken.get(c, 0) + 1
            if taken[c] <= _A_CLASS and len(chosen) < len(allowed) // 2:
                chosen.append(start)
        rest = [self.promise.masked_fill(~mine, _FAR).amax(1) for mine in allowed[len(chosen) :]]
        chosen += [int(values.argmax()) for values in rest]
        return torch.tensor(chosen, device=value.device)

    def _free(self, parameters: list[Tensor], allowed: Tensor) -> tuple[list[Tensor], Tensor]:
        """Run to any allowed class; returns parameters and gains (k, classes) of the last steps."""
        descent = _Descent(parameters, self.rate, self.effort.goal)
        late: list[Tensor] = []
        for step in range(1, self.effort.free + 1):
            rows = self._rows()
            hits, gains = [], []
            for part in self._groups(len(descent.moving[0]), len(rows)):
                mine = [p[part] for p in descent.moving]
                logits, gain = self._seen(mine, rows)
                gain = gain.masked_fill(~allowed[part], _FAR)
                loss = descent.weights[part] * self._log_size(mine) - gain.logsumexp(1)
                loss.sum().backward()  # type: ignore[no-untyped-call]
                gains.append(gain.detach())
                hits.append(self._hit(logits.detach(), gain.detach().argmax(1), rows))
            descent.step(torch.cat(hits), len(rows))
            if step > self.effort.free * 2 // 3:
                late.append(torch.cat(gains))
        return [p.detach() for p in descent.moving], torch.stack(late).mean(0)

    def _pressed(self, parameters: list[Tensor], goals: Tensor) -> list[Sink]:
        """Held to one class each, and made small."""
        effort = self.effort
        descent = _Descent(parameters, self.rate, effort.goal)
        best = [Sink(target=int(c), size=np.inf, share=-1.0, parameters=[]) for c in goals]
        for step in range(1, effort.steps + 1):
            rows = self._rows()
            hits = []
            for part in self._groups(len(goals), len(rows)):
                mine = [p[part] for p in descent.moving]
                logits, gain = self._seen(mine, rows)
                own = gain.gather(1, goals[part, None])[:, 0]
                loss = descent.weights[part] * self._log_size(mine) - own
                loss.sum().backward()  # type: ignore[no-untyped-call]
                hits.append(self._hit(logits.detach(), goals[part], rows))
            descent.step(torch.cat(hits), len(rows))
            if step == effort.steps or (
                step % effort.check_every == 0 and step > effort.steps // 4
            ):
                best = [self._better(old, descent.moving, i) for i, old in enumerate(best)]
        return best

    def _better(self, old: Sink, moving: list[Tensor], place: int) -> Sink:
        """What one perturbation does now to *all* pictures, if that is better than ``old``."""
        mine = [p.detach()[place : place + 1].clone() for p in moving]
        every = torch.arange(len(self.probe.x), device=self.clean.device)
        with torch.inference_mode():
            logits, _ = self._seen(mine, every)
            goal = torch.tensor([old.target], device=logits.device)
            share = float(self._hit(logits, goal, every)[0])
            size = float(self.family.size(mine)[0]) if share >= self.effort.goal else np.inf
        if size < old.size or (not np.isfinite(old.size) and share > old.share):
            return Sink(target=old.target, size=size, share=share, parameters=mine)
        return old

    def _seen(self, mine: list[Tensor], rows: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (k, n, classes), and mean gains of log p over pictures of other classes."""
        x, others = self.probe.x[rows], self.others[rows]
        width = images_at_once(x.shape)
        parts = []
        for part in self._groups(len(mine[0]), len(rows)):
            stamped = self.family.apply([p[part] for p in mine], x).flatten(0, 1)
            parts += [self.classifier.logits(some) for some in torch.split(stamped, width)]
        out = torch.cat(parts).view(len(mine[0]), len(rows), -1)
        gain = ((out.log_softmax(-1) - self.clean[rows]) * others).sum(1)
        return out, gain / others.sum(0).clamp(min=1)

    def _hit(self, logits: Tensor, goals: Tensor, rows: Tensor) -> Tensor:
        """Share of the pictures of other classes that go to each perturbation's goal (k,)."""
        counts = self.others[rows][:, goals].T
        sent = (logits.argmax(-1) == goals[:, None]).float()
        return (sent * counts).sum(1) / counts.sum(1).clamp(min=1)

    def _promise(self, parameters: list[Tensor], gains: Tensor) -> Tensor:
        """−log of a size at which each class might be reached, shape (k, classes).

        As if the gain of log p grew with the sixth root of the size: what is nearly reached counts
        for much more than what is small and far from it.
        """
        need = (-self.usual).clamp(min=_LITTLE) / gains.clamp(min=_LITTLE)
        return -_STEEP * need.clamp(min=0.1).log() - self._log_size(parameters)[:, None]

    def _log_size(self, parameters: list[Tensor]) -> Tensor:
        return self.family.size(parameters).clamp(min=1e-6).log()

    def _rows(self) -> Tensor:
        return torch.from_numpy(self.batches.draw()).to(self.clean.device)

    def _groups(self, count: int, pictures: int) -> list[slice]:
        width = max(1, images_at_once(self.probe.x.shape) // pictures)
        return [slice(i, i + width) for i in range(0, count, width)]


class _Descent:
    """Adam, and a weight of the size that follows what is reached."""

    def __init__(self, parameters: list[Tensor], rate: float, goal: float) -> None:
        self.moving = [p.detach().clone().requires_grad_(True) for p in parameters]
        self.weights = torch.full((len(parameters[0]),), _FIRST, device=parameters[0].device)
        self._optimizer = torch.optim.Adam(self.moving, lr=rate, betas=(0.5, 0.9))
        self._goal = goal

    def step(self, hits: Tensor, pictures: int) -> None:
        """Move on; ``hits`` are shares of that many pictures, so half a picture is forgiven."""
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        enough = hits >= self._goal - 0.5 / pictures
        factor = torch.where(enough, _UP, _DOWN)
        self.weights = (self.weights * factor).clamp(max=_MOST)
