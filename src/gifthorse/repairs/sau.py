"""SAU: unlearn the adversarial examples that the tuned network still shares with the bad one.

Wei, Zhang, Zhu, Fan & Wu 2023, "Shared Adversarial Unlearning: Backdoor Mitigation by Unlearning
Shared Adversarial Examples", NeurIPS, arXiv:2307.10562, Algorithm 1. For every batch: (1) find
perturbations (L∞ ball) that fool the network and its backdoored original *alike*; (2) tune so that
clean pictures keep their class and the class which the original gives a perturbed picture loses
probability.

Weights of the losses are those of the authors' code (.01 and 1 inside, 1 and 1 outside).
Deviations: statistics of batch normalisation stay as they are; pictures stay in [0, 1].
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gifthorse.core.types import Evidence, Need, Progress, Subject
from gifthorse.models.classifier import ImageClassifier
from gifthorse.repairs.loops import check_between, check_counts, finite, minibatches, student_of
from gifthorse.repairs.tuning import subject_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Sau:
    """Shared adversarial unlearning.

    Attributes:
        radius: Largest change of a pixel, in (0, 1].
        inner_steps: Steps of the search for shared examples, at least 1.
        adversarial: Weight of the adversarial loss in that search, in (0, 100].
        shared: Weight of agreement with the original in that search, in (0, 100].
        unlearning: Weight of unlearning beside clean pictures, in (0, 100].
        steps: Outer steps, at least 1.
        batch_size: Pictures a step, at least 2.
        learning_rate: Of Adam on the weights, in (0, 1].

    Raises:
        ValueError: An option out of its range.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.WEIGHTS, Need.GRADIENTS, Need.TRUSTED})
    paper: ClassVar[str] = "Wei et al. 2023, SAU, arXiv:2307.10562"

    radius: float = 0.2
    inner_steps: int = 5
    adversarial: float = 0.01
    shared: float = 1.0
    unlearning: float = 1.0
    steps: int = 200
    batch_size: int = 32
    learning_rate: float = 1e-4

    def __post_init__(self) -> None:
        check_counts(
            ("inner_steps", self.inner_steps, 1),
            ("steps", self.steps, 1),
            ("batch_size", self.batch_size, 2),
        )
        check_between(
            ("radius", self.radius, 0, 1),
            ("adversarial", self.adversarial, 0, 100),
            ("shared", self.shared, 0, 100),
            ("unlearning", self.unlearning, 0, 100),
            ("learning_rate", self.learning_rate, 0, 1),
        )

    def repair(
        self,
        subject: Subject,
        evidence: Sequence[Evidence],  # noqa: ARG002 - needs none
        *,
        rng: np.random.Generator,
        progress: Progress,
    ) -> ImageClassifier:
        """A copy of the model that shares no adversarial examples with it.

        Raises:
            NotApplicableError: No model, no trusted pictures, or they do not fit.
            ModelError: The loss became NaN.
        """
        classifier, trusted = subject_of(subject)
        original = classifier.replaced(classifier.module)
        with student_of(classifier, rng, frozen_statistics=True) as student:
            optimizer = torch.optim.Adam(student.module.parameters(), lr=self.learning_rate)
            for x, y in minibatches(
                student,
                trusted,
                steps=self.steps,
                batch_size=self.batch_size,
                rng=rng,
                progress=progress,
                what="shared adversarial unlearning",
            ):
                hostile = self.search(student, original, x, y)
                with torch.no_grad():
                    wrong = original.logits(hostile).argmax(1)
                both = student.logits(torch.cat([x, hostile]))
                clean = functional.cross_entropy(both[: len(x)], y)
                loss = clean + self.unlearning * unlearning_loss(both[len(x) :], wrong, y)
                optimizer.zero_grad()
                finite(loss).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
        student.meter.forward += original.meter.forward
        student.meter.backward += original.meter.backward
        return student

    def search(
        self, student: ImageClassifier, original: ImageClassifier, x: Tensor, y: Tensor
    ) -> Tensor:
        """Pictures (n, c, h, w) in [0, 1] within the radius that fool both networks alike."""
        hostile = x
        for _ in range(self.inner_steps):
            at = hostile.detach().requires_grad_(True)
            mine, theirs = student.logits(at), original.logits(at)
            loss = self.inner_loss(mine, theirs, y)
            (slope,) = torch.autograd.grad(loss, at)
            # One step may cross the ball, as in the authors' code (step = radius).
            moved = at.detach() - self.radius * slope.sign()
            hostile = torch.minimum(torch.maximum(moved, x - self.radius), x + self.radius)
            hostile = hostile.clamp(0, 1)
        return hostile

    def inner_loss(self, mine: Tensor, theirs: Tensor, y: Tensor) -> Tensor:
        """What the search minimises; examples that have arrived count no more."""
        n = len(y)
        fooled, also = mine.argmax(1) != y, theirs.argmax(1) != y
        alike = fooled & also & (mine.argmax(1) == theirs.argmax(1))
        adversarial = (
            functional.cross_entropy(mine, y, reduction="none")[~fooled].sum()
            + functional.cross_entropy(theirs, y, reduction="none")[~also].sum()
        ) / (2 * n)
        apart = jensen_shannon(mine, theirs)[~alike].sum() / n
        return self.shared * apart - self.adversarial * adversarial


def jensen_shannon(first: Tensor, second: Tensor) -> Tensor:
    """Jensen-Shannon divergence of two sets of logits (n, classes), shape (n,), in [0, ln 2]."""
    p, q = first.softmax(1).clamp(min=1e-8), second.softmax(1).clamp(min=1e-8)
    middle = ((p + q) / 2).log()
    return 0.5 * (p * (p.log() - middle) + q * (q.log() - middle)).sum(1)


def unlearning_loss(logits: Tensor, wrong: Tensor, y: Tensor) -> Tensor:
    """−log(1 − p of the wrong class), over pictures where the original is wrong; mean over all."""
    at = wrong != y
    given = logits.softmax(1).gather(1, wrong[:, None])[:, 0]
    return -(torch.log1p(-given.clamp(max=1 - 1e-6)) * at).sum() / max(1, len(y))
