"""ANP: prune the channels that, when disturbed in the worst way, bring the backdoor out.

Wu & Wang 2021, "Adversarial Neuron Pruning Purifies Backdoored Deep Models", NeurIPS,
arXiv:2110.14430, section 4: masks m in [0, 1] on the weights of batch normalisation are learnt by
min_m α·L(m) + (1 − α)·max L(m + δ, 1 + ξ) with |δ|, |ξ| ≤ ε; channels with a small mask are pruned.

Decisions and deviations:

- How many are pruned is chosen on a part of the trusted pictures: as many as keep clean accuracy.
  Published tables choose the threshold, and ε and α, by the attack success rate on test data,
  which no defender sees.
- Statistics of batch normalisation stay as they are while masks are learnt, so that the result is
  what is pruned.
- As in the authors' code the bias of a pruned channel stays.
- 400 steps of 32 pictures instead of 2,000 of 128.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gifthorse.core.rng import draw_seed
from gifthorse.core.types import Evidence, ImageData, Need, Progress, Subject
from gifthorse.data.splits import split
from gifthorse.models.classifier import ImageClassifier
from gifthorse.repairs.loops import check_between, check_counts, finite, minibatches
from gifthorse.repairs.normalisation import Gates, prune_while_accurate
from gifthorse.repairs.tuning import subject_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Anp:
    """Adversarial neuron pruning, its threshold chosen on clean data only.

    Attributes:
        epsilon: How far weights and biases are disturbed, relative to themselves, in (0, 1].
        alpha: Weight of the undisturbed loss, in (0, 1].
        steps: Optimisation steps, at least 1.
        batch_size: Pictures a step, at least 2.
        learning_rate: Of SGD on the masks, in (0, 10].
        highest: Channels with a mask of at least this are never pruned, in (0, 1].
        allowed_drop: How much accuracy on the validation part pruning may cost, in (0, 1].
        validation: Share of the trusted pictures that chooses the threshold, in (0, 0.9].

    Raises:
        ValueError: An option out of its range.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.WEIGHTS, Need.GRADIENTS, Need.TRUSTED})
    paper: ClassVar[str] = "Wu & Wang 2021, ANP, arXiv:2110.14430"

    epsilon: float = 0.4
    alpha: float = 0.2
    steps: int = 400
    batch_size: int = 32
    learning_rate: float = 0.2
    highest: float = 0.9
    allowed_drop: float = 0.04
    validation: float = 0.5

    def __post_init__(self) -> None:
        check_counts(("steps", self.steps, 1), ("batch_size", self.batch_size, 2))
        check_between(
            ("epsilon", self.epsilon, 0, 1),
            ("alpha", self.alpha, 0, 1),
            ("learning_rate", self.learning_rate, 0, 10),
            ("highest", self.highest, 0, 1),
            ("allowed_drop", self.allowed_drop, 0, 1),
            ("validation", self.validation, 0, 0.9),
        )

    def repair(
        self,
        subject: Subject,
        evidence: Sequence[Evidence],  # noqa: ARG002 - needs none
        *,
        rng: np.random.Generator,
        progress: Progress,
    ) -> ImageClassifier:
        """A pruned copy of the model; the evidence is not used.

        Raises:
            NotApplicableError: No model, no trusted pictures, or no batch normalisation.
            ModelError: The loss became NaN.
        """
        classifier, trusted = subject_of(subject)
        validation, tuning = split(trusted, self.validation, rng)
        gates = Gates(classifier.replaced(classifier.module))
        masks = self.learn(gates, tuning, rng, progress)
        repaired, _ = prune_while_accurate(
            classifier,
            dict(zip(gates.names, masks, strict=True)),
            validation,
            highest=self.highest,
            allowed_drop=self.allowed_drop,
        )
        repaired.meter.forward += gates.classifier.meter.forward
        repaired.meter.backward += gates.classifier.meter.backward
        return repaired

    def learn(
        self, gates: Gates, data: ImageData, rng: np.random.Generator, progress: Progress
    ) -> list[Tensor]:
        """The mask of every channel, one tensor (channels,) a layer, in [0, 1]."""
        masks = [mask.requires_grad_(True) for mask in gates.full(1.0)]
        generator = torch.Generator().manual_seed(draw_seed(rng))
        optimizer = torch.optim.SGD(masks, lr=self.learning_rate, momentum=0.9)
        for x, y in minibatches(
            gates.classifier,
            data,
            steps=self.steps,
            batch_size=self.batch_size,
            rng=rng,
            progress=progress,
            what="adversarial pruning",
        ):
            scale, shift = self._worst(gates, masks, x, y, generator)
            natural = functional.cross_entropy(gates.logits(x, masks, gates.full(1.0)), y)
            moved = [mask + step for mask, step in zip(masks, scale, strict=True)]
            robust = functional.cross_entropy(gates.logits(x, moved, shift), y)
            loss = finite(self.alpha * natural + (1 - self.alpha) * robust)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            with torch.no_grad():
                for mask in masks:
                    mask.clamp_(0, 1)
        return [mask.detach() for mask in masks]

    def _worst(
        self,
        gates: Gates,
        masks: list[Tensor],
        x: Tensor,
        y: Tensor,
        generator: torch.Generator,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """δ and 1 + ξ after one signed step from a random start, as in the authors' code."""
        drawn = [
            (self.epsilon * (2 * torch.rand(mask.shape, generator=generator) - 1))
            .to(mask)
            .requires_grad_(True)
            for mask in [*masks, *masks]
        ]
        scale, shift = drawn[: len(masks)], drawn[len(masks) :]
        moved = [mask.detach() + step for mask, step in zip(masks, scale, strict=True)]
        loss = functional.cross_entropy(gates.logits(x, moved, [1 + step for step in shift]), y)
        slopes = torch.autograd.grad(loss, drawn)
        with torch.no_grad():
            ended = [
                (start + self.epsilon * slope.sign()).clamp(-self.epsilon, self.epsilon)
                for start, slope in zip(drawn, slopes, strict=True)
            ]
        return ended[: len(masks)], [1 + step for step in ended[len(masks) :]]
