"""ABS: push single neurons, see which class they lift, and draw the sticker that pushes them so.

Liu, Lee, Tao, Ma, Aafer & Zhang 2019, "ABS: Scanning Neural Networks for Back-doors by Artificial
Brain Stimulation", CCS, sections 4.2 and 4.3: neuron stimulation finds neurons that lift one class
for every picture; for each of them a sticker is optimised that raises the neuron and leaves the
others; REASR, the share of trusted pictures that the sticker sends to that class, is the score.

Decisions and deviations:

- A neuron is a channel of a feature map, held at 1, 2 and 4 times its layer's largest activation.
- The paper takes the neurons of largest elevation in the network, and flags a model whose REASR is
  above .88. Here every class gets as many neurons, so that classes are each other's control group:
  the statistic is a studentised residual of REASR, whose spread is never taken to be less than what
  makes .88 over classes at 0 just significant at 2 %. A natural REASR (bags that become shirts)
  then has to stand out from those of the other classes.
- Triggers are stickers of at most ``area`` of the picture; the paper's second kind (one convolution
  over the whole picture, for filters) is left out, and so is its SSIM term.
- A sticker's area holds by construction (its opacity is scaled down), not by a penalty; fewer
  pictures and steps than the authors' code.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from gifthorse.core.errors import NotApplicableError
from gifthorse.core.rng import draw_seed
from gifthorse.core.types import Evidence, Need, Null, Progress, RecoveredTrigger, Subject, Unit
from gifthorse.detectors.models.inversion import Batches, Masked, images_at_once
from gifthorse.detectors.models.pictures import class_bars, trigger_pictures
from gifthorse.detectors.models.trusted import Probe, probe_of
from gifthorse.metrics.outliers import StudentisedNull, spread_for, standing_out
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.layers import altered, logits_and_maps, stages_of

_LEVELS = (1.0, 2.0, 4.0)
_STIMULATED = 12
_PAPER_REASR = 0.88
_PAPER_RATE = 0.02
_DRIFT_WEIGHT = 0.5
_START = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A neuron that may have been compromised.

    Attributes:
        target: The class that it lifts.
        layer: Name of the module that gives its feature map.
        channel: Of that map.
    """

    target: int
    layer: str
    channel: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Abs:
    """Artificial brain stimulation.

    Attributes:
        neurons: Candidates for every class, at least 1.
        steps: Steps of the search for each sticker, at least 1.
        samples: Trusted pictures used, at least 1.
        batch_size: Pictures a step, at least 1.
        area: Largest share of the picture that a sticker covers, in (0, 0.5].
        learning_rate: Of Adam, in (0, 10].

    Raises:
        ValueError: An option out of range.
    """

    needs: ClassVar[frozenset[Need]] = frozenset(
        {Need.LOGITS, Need.GRADIENTS, Need.WEIGHTS, Need.TRUSTED}
    )
    unit: ClassVar[Unit] = Unit.CLASS
    paper: ClassVar[str] = "Liu et al. 2019, ABS, CCS"

    neurons: int = 2
    steps: int = 80
    samples: int = 100
    batch_size: int = 12
    area: float = 0.06
    learning_rate: float = 0.2

    def __post_init__(self) -> None:
        for name in ("neurons", "steps", "samples", "batch_size"):
            if not 1 <= getattr(self, name) < 2**31:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.area <= 0.5:
            raise ValueError(f"area must be in (0, 0.5], got {self.area}")
        if not 0 < self.learning_rate <= 10:
            raise ValueError(f"learning_rate must be in (0, 10], got {self.learning_rate}")

    def inspect(
        self, subject: Subject, *, rng: np.random.Generator, progress: Progress
    ) -> Evidence:
        """Residual of the largest REASR of every class; the largest is the statistic.

        Raises:
            NotApplicableError: No classifier with feature maps, no trusted pictures that fit, or
                fewer than four classes.
        """
        classifier, probe = probe_of(subject, samples=self.samples, rng=rng)
        layers = stages_of(classifier)
        lifts = {}
        for done, layer in enumerate(layers):
            lifts[layer] = elevations(classifier, layer, probe)
            progress(done + 1, len(layers), "stimulating neurons")
        chosen = candidates(lifts, self.neurons)
        reasr = np.zeros(classifier.n_classes)
        best: dict[int, RecoveredTrigger] = {}
        neuron: dict[int, Candidate] = {}
        for found, trigger, rate in self._stickers(classifier, probe, chosen, rng, progress):
            if found.target not in best or rate > reasr[found.target]:
                reasr[found.target], best[found.target] = rate, trigger
                neuron[found.target] = found
        count = classifier.n_classes
        floor = spread_for(_PAPER_REASR, n=count, false_alarm_rate=_PAPER_RATE)
        scores = standing_out(reasr, least_spread=floor)
        order = np.argsort(-scores, kind="stable")
        worst = int(order[0])
        names = classifier.class_names
        return Evidence(
            unit=Unit.CLASS,
            scores=scores,
            statistic=float(scores.max()),
            suspects=order[:1].astype(np.int64),
            triggers=tuple(best[int(k)] for k in order[:3]),
            exhibits=(
                trigger_pictures(probe, best[worst], names, "ABS"),
                class_bars(names, scores, worst, "residual of REASR"),
                class_bars(names, reasr, worst, "REASR", judged=False),
            ),
            notes=(
                f"{names[worst]}: channel {neuron[worst].channel} of {neuron[worst].layer}, "
                f"REASR {reasr[worst]:.2f}",
            ),
        )

    def null(self, evidence: Evidence) -> Null:
        """Largest of as many studentised residuals as there are classes."""
        return StudentisedNull(len(evidence.scores))

    def _stickers(
        self,
        classifier: ImageClassifier,
        probe: Probe,
        chosen: list[Candidate],
        rng: np.random.Generator,
        progress: Progress,
    ) -> list[tuple[Candidate, RecoveredTrigger, float]]:
        """A sticker for every candidate, and its REASR."""
        made = []
        width = max(1, images_at_once(probe.x.shape) // min(self.batch_size, len(probe.x)))
        groups = [
            [c for c in chosen if c.layer == layer]
            for layer in dict.fromkeys(c.layer for c in chosen)
        ]
        parts = [group[i : i + width] for group in groups for i in range(0, len(group), width)]
        for done, part in enumerate(parts):
            mask, pattern = self._search(classifier, probe, part, rng)
            for i, candidate in enumerate(part):
                trigger = RecoveredTrigger(
                    target=candidate.target,
                    mask=mask[i, 0].cpu().numpy(),
                    pattern=pattern[i].cpu().numpy(),
                )
                rate = _success(classifier, probe, mask[i], pattern[i], candidate.target)
                made.append((candidate, trigger, rate))
            progress(done + 1, len(parts), "drawing stickers")
        return made

    def _search(
        self,
        classifier: ImageClassifier,
        probe: Probe,
        part: list[Candidate],
        rng: np.random.Generator,
    ) -> tuple[Tensor, Tensor]:
        """Masks (k, 1, h, w) of the area allowed, and patterns (k, c, h, w)."""
        _, channels, height, width = probe.x.shape
        layer, limit = part[0].layer, self.area * height * width
        family = Masked(start_opacity=_START)
        generator = torch.Generator().manual_seed(draw_seed(rng))
        started = family.start(len(part), (channels, height, width), generator)
        drawn = [p.to(classifier.device).requires_grad_(True) for p in started]
        optimizer = torch.optim.Adam(drawn, lr=self.learning_rate)
        own = torch.tensor([c.channel for c in part], device=classifier.device)
        batches = Batches(len(probe.x), self.batch_size, rng)
        every = torch.arange(len(part), device=classifier.device)
        for _ in range(self.steps):
            x = probe.x[torch.from_numpy(batches.draw()).to(classifier.device)]
            with torch.no_grad():
                _, (clean,) = logits_and_maps(classifier, x, (layer,))
                scale = clean.abs().amax().clamp(min=1e-6)
            mask, pattern = _within(family, drawn, limit)
            stamped = x * (1 - mask[:, None]) + (pattern * mask)[:, None]
            _, (maps,) = logits_and_maps(classifier, stamped.flatten(0, 1), (layer,))
            maps = maps.view(len(part), len(x), *maps.shape[1:]) / scale
            apart = (maps - clean[None] / scale).abs()
            rise = maps[every, :, own].mean((1, 2, 3))
            drift = apart.mean((1, 2, 3, 4)) - apart[every, :, own].mean((1, 2, 3)) / apart.shape[2]
            loss = (_DRIFT_WEIGHT * drift - rise).sum()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            # The meter sees gradients that come from the logits; this one starts further down.
            classifier.meter.backward += len(part) * len(x)
            optimizer.step()
        with torch.no_grad():
            mask, pattern = _within(family, drawn, limit)
        return mask, pattern


def _within(family: Masked, drawn: list[Tensor], limit: float) -> tuple[Tensor, Tensor]:
    """Masks (k, 1, h, w), scaled down to the area allowed where they are larger, and patterns."""
    mask, pattern = family.opened(drawn)
    shrink = (limit / family.size(drawn)).clamp(max=1)
    return mask * shrink[:, None, None, None], pattern


def elevations(
    classifier: ImageClassifier, layer: str, probe: Probe
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """How far each channel lifts each class above the mean of all, shape (channels, classes).

    The largest over the levels of stimulation; pictures of a class do not count for it.
    """
    x, y = probe.x[:_STIMULATED], probe.y[:_STIMULATED]
    with torch.inference_mode():
        before, (maps,) = logits_and_maps(classifier, x, (layer,))
    peak, channels = float(maps.abs().amax().clamp(min=1e-6)), maps.shape[1]
    counts = (y[:, None] != torch.arange(classifier.n_classes, device=y.device)[None]).double()
    together = max(1, images_at_once(x.shape) // len(x))
    lifted = []
    for first in range(0, channels, together):
        group = torch.arange(first, min(first + together, channels), device=x.device)
        most = torch.full((len(group), classifier.n_classes), float("-inf"), dtype=torch.float64)
        for level in _LEVELS:

            def push(out: Tensor, group: Tensor = group, level: float = level) -> Tensor:
                pushed: Tensor = out.reshape(len(group), -1, *out.shape[1:]).clone()
                pushed[torch.arange(len(group)), :, group] = level * peak
                return pushed.flatten(0, 1)

            with torch.inference_mode(), altered(classifier, layer, push):
                after = classifier.logits(x.repeat(len(group), 1, 1, 1))
            shift = (after.view(len(group), len(x), -1) - before[None]).double()
            shift = shift - shift.mean(2, keepdim=True)
            mean = (shift * counts).sum(1) / counts.sum(0).clamp(min=1)
            most = torch.maximum(most, mean.cpu())
        lifted.append(most)
    return np.asarray(torch.cat(lifted).numpy())


def candidates(
    lifts: dict[str, np.ndarray[tuple[int, int], np.dtype[np.float64]]], count: int
) -> list[Candidate]:
    """For every class the ``count`` channels, over all layers, that lift it most.

    Raises:
        NotApplicableError: There is no channel.
    """
    where = [(layer, k) for layer, lift in lifts.items() for k in range(len(lift))]
    if not where:
        raise NotApplicableError("the network has no channels to stimulate")
    every = np.concatenate(list(lifts.values()))
    chosen = []
    for target in range(every.shape[1]):
        order = np.argsort(-every[:, target], kind="stable")[:count]
        chosen += [Candidate(target=target, layer=where[k][0], channel=where[k][1]) for k in order]
    return chosen


def _success(
    classifier: ImageClassifier, probe: Probe, mask: Tensor, pattern: Tensor, target: int
) -> float:
    """REASR: share of the pictures of other classes that the sticker sends to the target."""
    others = probe.x[probe.y != target]
    if not len(others):
        return 0.0
    with torch.inference_mode():
        answers = classifier.logits(others * (1 - mask) + pattern * mask).argmax(1)
    return float((answers == target).double().mean())
