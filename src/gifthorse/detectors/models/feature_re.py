"""FeatureRE: invert the trigger in feature space, for triggers that are no patch in pixel space.

Wang, Mei, Ding, Zhai & Ma 2022, "Rethinking the Reverse-engineering of Trojan Triggers", NeurIPS,
arXiv:2210.15127, section 3: a backdoor is a small set of features which, held at certain values,
decide the class whatever the others are. For every class a generator F over pictures and a mask m
over the last feature map are sought such that m · features(F(x)) + (1 − m) · features(another
picture) gives the class, with m small, F(x) close to x, the masked features nearly constant, and
features(F(x)) unlike those of honest pictures of that class. The score of a class is the success
rate minus that likeness, less what the bounds are exceeded by.

Decisions and deviations:

- Generators are small residual networks, not U-Nets; how far they move a picture (root mean square
  ``reach``) holds by construction instead of by a penalty. Features are in units of their root mean
  square.
- 60 steps of warm-up and 100 further ones instead of 100 and 400 epochs.
- The paper flags a model whose score is above .75 for some class. Here classes are compared with
  each other, as a studentised residual whose spread is never taken to be less than what makes .75
  over classes at 0 just significant at 2 %; scores below 0 count as 0.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gifthorse.core.types import Evidence, Need, Null, Progress, Subject, Unit
from gifthorse.detectors.models.pictures import class_bars, painted_pictures
from gifthorse.detectors.models.trusted import Probe, probe_of
from gifthorse.metrics.outliers import StudentisedNull, spread_for, standing_out
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.decoupling import Painter, last_map, painter_for, some_rows
from gifthorse.models.layers import altered, logits_and_maps

_PAPER_VALUE = 0.75
_RATE = 0.02
_SUCCESS = 0.9  # of the authors' code, as are the weights below
_LIKENESS_WEIGHT = 5.0
_BOUND_WEIGHT = 10.0
_MASK_RATE = 0.1
_GENERATOR_RATE = 2e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureRe:
    """Trigger inversion in feature space, class by class.

    Attributes:
        warmup: Steps in which the whole feature map must lead to the class, at least 1.
        steps: Steps with a mask over it, at least 1.
        samples: Trusted pictures used, at least 2.
        batch_size: Pictures a step, at least 2.
        area: Largest share of the feature map that the mask covers, in (0, 1].
        reach: Root mean square of the change of a pixel, in (0, 1].

    Raises:
        ValueError: An option out of range.
    """

    needs: ClassVar[frozenset[Need]] = frozenset(
        {Need.LOGITS, Need.GRADIENTS, Need.WEIGHTS, Need.TRUSTED}
    )
    unit: ClassVar[Unit] = Unit.CLASS
    paper: ClassVar[str] = "Wang et al. 2022, FeatureRE, arXiv:2210.15127"

    warmup: int = 60
    steps: int = 100
    samples: int = 200
    batch_size: int = 16
    area: float = 0.03
    reach: float = 0.1

    def __post_init__(self) -> None:
        for name, least in (("warmup", 1), ("steps", 1), ("samples", 2), ("batch_size", 2)):
            if not least <= getattr(self, name) < 2**31:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not 0 < self.area <= 1 or not 0 < self.reach <= 1:
            raise ValueError("area and reach must be in (0, 1]")

    def inspect(
        self, subject: Subject, *, rng: np.random.Generator, progress: Progress
    ) -> Evidence:
        """Residual of the score of every class; the largest is the statistic.

        Raises:
            NotApplicableError: No classifier with feature maps, no trusted pictures that fit, or
                fewer than four classes.
        """
        classifier, probe = probe_of(subject, samples=self.samples, rng=rng)
        layer, count = last_map(classifier), classifier.n_classes
        with torch.no_grad():
            _, (maps,) = logits_and_maps(classifier, probe.x, (layer,))
        values, painters = np.zeros(count), []
        for target in range(count):
            hunt = _Hunt(self, classifier, layer, probe, maps, target)
            values[target] = max(0.0, hunt.run(rng))
            painters.append(hunt.painter)
            progress(target + 1, count, "FeatureRE")
        floor = spread_for(_PAPER_VALUE, n=count, false_alarm_rate=_RATE)
        scores = standing_out(values, least_spread=floor)
        worst = int(scores.argmax())
        names = classifier.class_names
        return Evidence(
            unit=Unit.CLASS,
            scores=scores,
            statistic=float(scores.max()),
            suspects=np.array([worst], dtype=np.int64),
            exhibits=(
                painted_pictures(probe, painters[worst], names[worst]),
                class_bars(names, scores, worst, "residual of the score in feature space"),
                class_bars(names, values, worst, "score in feature space", judged=False),
            ),
        )

    def null(self, evidence: Evidence) -> Null:
        """Largest of as many studentised residuals as there are classes."""
        return StudentisedNull(len(evidence.scores))


class _Hunt:
    """Generator and mask for one class."""

    def __init__(
        self,
        options: FeatureRe,
        classifier: ImageClassifier,
        layer: str,
        probe: Probe,
        maps: Tensor,
        target: int,
    ) -> None:
        self.options, self.classifier, self.layer, self.target = options, classifier, layer, target
        others = probe.y != target
        self.x = probe.x[others]
        self.maps = maps
        own = maps[~others]
        # A class without a trusted picture is unlike anything; likeness then says nothing.
        self.honest = own.mean(0).flatten() if len(own) else torch.zeros_like(maps[0]).flatten()
        self.scale = maps.square().mean().sqrt().clamp(min=1e-6)
        self.painter: Painter

    def run(self, rng: np.random.Generator) -> float:
        """The score: success − likeness − excesses; the best of any step after the warm-up."""
        if not len(self.x):
            return 0.0
        self.painter = painter_for(self.x, reach=self.options.reach, rng=rng)
        drawn = torch.ones((1, *self.maps.shape[1:]), device=self.x.device, requires_grad=True)
        generator = torch.optim.Adam(
            self.painter.parameters(), lr=_GENERATOR_RATE, betas=(0.5, 0.9)
        )
        masker = torch.optim.Adam([drawn], lr=_MASK_RATE, betas=(0.5, 0.9))
        options, best = self.options, float("-inf")
        for _ in range(options.warmup):
            painted = self.painter(self._batch(rng))
            _step(generator, self._error(self.classifier.logits(painted)))
        value = float("-inf")
        for _ in range(options.steps):
            x, reference = self._batch(rng), self._reference(rng)
            value = self._generator_step(generator, drawn.detach(), x, reference)
            best = max(best, value)
            self._mask_step(masker, drawn, x, reference)
        self.painter.eval().requires_grad_(False)
        return best

    def _generator_step(
        self, optimizer: torch.optim.Optimizer, drawn: Tensor, x: Tensor, reference: Tensor
    ) -> float:
        """One step of the generator; the score before it."""
        mask = opened(drawn)
        painted = self.painter(x)
        logits, maps = self._mixed(painted, mask, reference[: len(x)])
        success = float((logits.argmax(1) == self.target).double().mean())
        likeness = functional.cosine_similarity(self.honest, maps.mean(0).flatten(), dim=0)
        spread = (maps * mask).std(0).sum() / mask.sum() / self.scale
        cover = float(mask.mean() / self.options.area)
        loss = _LIKENESS_WEIGHT * likeness.clamp(min=0)
        if float(spread.detach()) > 1:
            loss = loss + _BOUND_WEIGHT * spread
        if success < _SUCCESS:
            loss = loss + (2 - success / _SUCCESS) * self._error(logits)
        _step(optimizer, loss)
        excess = sum(max(0.0, float(one) - 1) for one in (spread.detach(), cover))
        return success - float(likeness.detach()) - excess

    def _mask_step(
        self, optimizer: torch.optim.Optimizer, drawn: Tensor, x: Tensor, reference: Tensor
    ) -> None:
        with torch.no_grad():
            painted = self.painter(x)
        mask = opened(drawn)
        logits, _ = self._mixed(painted, mask, reference[: len(x)])
        loss = self._error(logits)
        if float(mask.detach().mean()) > self.options.area:
            loss = loss + mask.sum()
        _step(optimizer, loss)

    def _mixed(self, painted: Tensor, mask: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of masked features over those of other pictures, and the unmixed features."""
        seen: list[Tensor] = []

        def mix(out: Tensor) -> Tensor:
            seen.append(out)
            return mask * out + (1 - mask) * reference

        with altered(self.classifier, self.layer, mix):
            logits = self.classifier.logits(painted)
        return logits, seen[0]

    def _error(self, logits: Tensor) -> Tensor:
        goal = torch.full((len(logits),), self.target, device=logits.device)
        return functional.cross_entropy(logits, goal)

    def _batch(self, rng: np.random.Generator) -> Tensor:
        return self.x[some_rows(len(self.x), self.options.batch_size, rng).to(self.x.device)]

    def _reference(self, rng: np.random.Generator) -> Tensor:
        rows = rng.integers(len(self.maps), size=self.options.batch_size)
        return self.maps[torch.from_numpy(rows).to(self.maps.device)]


def opened(drawn: Tensor) -> Tensor:
    """The mask in (0, 1): tanh / 2 + ½, after the authors' code."""
    return torch.tanh(drawn) / 2 + 0.5


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
