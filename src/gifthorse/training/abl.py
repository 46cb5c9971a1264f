"""ABL: poisoned samples are learnt first; isolate them, train on, then unlearn them.

Li, Lyu, Koren, Lyu, Li & Ma 2021, "Anti-Backdoor Learning: Training Clean Models on Poisoned Data",
NeurIPS, arXiv:2110.11571, sections 3.2 and 3.3: (1) train for a few epochs with local gradient
ascent, sign(loss − γ) · loss, which keeps the loss of clean samples near γ while that of poisoned
ones falls; isolate the samples of smallest loss; (2) train on the rest; (3) gradient ascent on the
isolated ones.

Decisions and deviations: lengths are in epochs of the plan given (the paper: 20, 60 and 20 of 100);
gradient ascent stops counting a sample whose loss is above ``enough``, as the paper's would go on
to ruin the network; isolation can accuse clean samples that are easy, which costs little accuracy
as they are 1 % of the data.
"""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gifthorse.core.errors import DataError
from gifthorse.core.types import ImageData, IntArray, Progress, ScoreArray, silent
from gifthorse.data.images import subset
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.passes import predict_logits
from gifthorse.models.training import TrainingPlan, train


@dataclass(frozen=True, slots=True, kw_only=True)
class Isolated:
    """The network, and the samples isolated as probably poisoned, worst first, shape (k,)."""

    model: ImageClassifier
    isolated: IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Abl:
    """Anti-backdoor learning.

    Attributes:
        gamma: γ, the loss that gradient ascent keeps, in (0, 100].
        isolation: Share of the samples isolated, in (0, 0.5].
        isolation_epochs: Epochs before isolation, at least 1.
        unlearning_epochs: Epochs over the isolated samples, at least 1.
        unlearning_rate: The highest of the cycle while unlearning, in (0, 1].
        enough: Loss beyond which an isolated sample counts as unlearnt, in (0, 100].

    Raises:
        ValueError: An option out of its range.
    """

    paper: ClassVar[str] = "Li et al. 2021, ABL, arXiv:2110.11571"

    gamma: float = 0.5
    isolation: float = 0.01
    isolation_epochs: int = 2
    unlearning_epochs: int = 5
    unlearning_rate: float = 0.005
    enough: float = 5.0

    def __post_init__(self) -> None:
        for name, value, high in (
            ("gamma", self.gamma, 100),
            ("isolation", self.isolation, 0.5),
            ("unlearning_rate", self.unlearning_rate, 1),
            ("enough", self.enough, 100),
        ):
            if not 0 < value <= high:
                raise ValueError(f"{name} must be in (0, {high}], got {value}")
        if self.isolation_epochs < 1 or self.unlearning_epochs < 1:
            raise ValueError("isolation_epochs and unlearning_epochs must be at least 1")

    def train(
        self,
        classifier: ImageClassifier,
        data: ImageData,
        plan: TrainingPlan,
        *,
        rng: np.random.Generator,
        progress: Progress = silent,
    ) -> Isolated:
        """Isolate, train and unlearn, from a copy of the (untrained) ``classifier``.

        Raises:
            DataError: The pictures do not fit the model, or are too few to isolate two.
            ModelError: The loss became NaN.
        """
        count = round(self.isolation * len(data))
        if count < 2 or len(data) - count < 2:
            raise DataError(f"{data.name}: {self.isolation:g} of {len(data)} samples are too few")
        early = dataclasses.replace(plan, epochs=self.isolation_epochs)
        first = train(
            classifier, data, early, rng=rng, progress=progress, loss=self.ascent_at_gamma
        )
        losses = sample_losses(first, data)
        order = np.argsort(losses, kind="stable").astype(np.int64)
        isolated, rest = order[:count], np.sort(order[count:])
        # The isolated go on unseen; the network goes on from where isolation left it.
        second = train(first, subset(data, rest), plan, rng=rng, progress=progress)
        unlearning = dataclasses.replace(
            plan,
            epochs=self.unlearning_epochs,
            learning_rate=self.unlearning_rate,
            batch_size=min(plan.batch_size, count),
            frozen_statistics=True,
        )
        last = train(
            second,
            subset(data, isolated),
            unlearning,
            rng=rng,
            progress=progress,
            loss=self.unlearning_loss,
        )
        last.meter.forward += first.meter.forward + second.meter.forward
        last.meter.backward += first.meter.backward + second.meter.backward
        return Isolated(model=last, isolated=isolated)

    def ascent_at_gamma(self, logits: Tensor, y: Tensor) -> Tensor:
        """Mean of sign(loss − γ) · loss."""
        losses = functional.cross_entropy(logits, y, reduction="none")
        return (torch.sign(losses.detach() - self.gamma) * losses).mean()

    def unlearning_loss(self, logits: Tensor, y: Tensor) -> Tensor:
        """Minus the mean loss; samples that are unlearnt already give no gradient."""
        losses = functional.cross_entropy(logits, y, reduction="none")
        return -losses.clamp(max=self.enough).mean()


def sample_losses(classifier: ImageClassifier, data: ImageData) -> ScoreArray:
    """Cross-entropy of every sample, shape (n,)."""
    logits = predict_logits(classifier, data).astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    own = logits[np.arange(len(data)), data.labels]
    return np.asarray(np.log(np.exp(logits).sum(axis=1)) - own)
