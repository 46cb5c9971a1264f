"""I-BAU: unlearn the worst universal perturbation, with the gradient that knows it will react.

Zeng, Chen, Park, Mao, Jin & Jia 2022, "Adversarial Unlearning of Backdoors via Implicit
Hypergradient", ICLR, arXiv:2110.03735, Algorithm 1: min over weights of max over ‖δ‖ ≤ C of the
loss on x + δ. The inner maximum is approached by gradient ascent on one δ for all pictures; the
outer gradient includes how δ changes with the weights (implicit function theorem, solved by a
fixed-point iteration).

Decisions and deviations:

- Each outer step uses a fresh batch; δ is searched anew every ``inner_every`` outer steps, from
  zero (the authors: once a round, over all unlabelled batches).
- ``share`` of a batch carries δ in the outer loss (the authors' code: 1 %, text: all).
- The learning rate is one that costs a clean model about two points of accuracy, no more.
- Radius 2.5 in pixels of [0, 1] is the authors' 10 in normalised pixels (deviations near .25).
- Statistics of batch normalisation stay as they are: a batch half full of perturbed pictures would
  spoil them.
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

_STEP = 0.1
_REGULARISATION = 1e-3  # of ‖δ‖² in the inner loss, as in the authors' code


@dataclass(frozen=True, slots=True, kw_only=True)
class IBau:
    """Adversarial unlearning with an implicit hypergradient.

    Attributes:
        radius: Largest L2 norm of the universal perturbation, in (0, 1000].
        steps: Outer steps, at least 1.
        inner_every: Outer steps between two searches of the perturbation, at least 1.
        inner_steps: Ascent steps of a search, at least 1.
        fixed_points: Iterations of the hypergradient; 0 takes the plain gradient.
        share: Share of a batch that carries the perturbation, in (0, 1].
        batch_size: Pictures a step, at least 2.
        learning_rate: Of Adam on the weights, in (0, 1].

    Raises:
        ValueError: An option out of its range.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.WEIGHTS, Need.GRADIENTS, Need.TRUSTED})
    paper: ClassVar[str] = "Zeng et al. 2022, I-BAU, arXiv:2110.03735"

    radius: float = 2.5
    steps: int = 100
    inner_every: int = 10
    inner_steps: int = 10
    fixed_points: int = 5
    share: float = 0.5
    batch_size: int = 32
    learning_rate: float = 5e-5

    def __post_init__(self) -> None:
        check_counts(
            ("steps", self.steps, 1),
            ("inner_every", self.inner_every, 1),
            ("inner_steps", self.inner_steps, 1),
            ("fixed_points", self.fixed_points, 0),
            ("batch_size", self.batch_size, 2),
        )
        check_between(
            ("radius", self.radius, 0, 1000),
            ("share", self.share, 0, 1),
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
        """A copy of the model that no universal perturbation found can move.

        Raises:
            NotApplicableError: No model, no trusted pictures, or they do not fit.
            ModelError: The loss became NaN.
        """
        classifier, trusted = subject_of(subject)
        with student_of(classifier, rng, frozen_statistics=True) as student:
            parameters = list(student.module.parameters())
            optimizer = torch.optim.Adam(parameters, lr=self.learning_rate)
            delta: Tensor | None = None
            for step, (x, y) in enumerate(
                minibatches(
                    student,
                    trusted,
                    steps=self.steps,
                    batch_size=self.batch_size,
                    rng=rng,
                    progress=progress,
                    what="adversarial unlearning",
                )
            ):
                if delta is None or step % self.inner_every == 0:
                    delta = self.search(student, x, y)
                slopes = self.hypergradient(student, delta, x, y)
                for parameter, slope in zip(parameters, slopes, strict=True):
                    parameter.grad = slope
                optimizer.step()
        return student

    def search(self, student: ImageClassifier, x: Tensor, y: Tensor) -> Tensor:
        """The perturbation (1, c, h, w) within the radius that raises the loss most."""
        delta = torch.zeros_like(x[:1])
        for _ in range(self.inner_steps):
            delta = delta.detach().requires_grad_(True)
            slope = self._slope(student, delta, x, y, differentiable=False)
            length = slope.norm().clamp(min=1e-12)
            delta = delta.detach() + 2 * self.radius / self.inner_steps * slope / length
            delta = delta * (self.radius / delta.norm().clamp(min=self.radius))
        return delta.detach()

    def _slope(
        self, student: ImageClassifier, delta: Tensor, x: Tensor, y: Tensor, *, differentiable: bool
    ) -> Tensor:
        """Gradient of the inner loss with respect to δ."""
        loss = functional.cross_entropy(student.logits((x + delta).clamp(0, 1)), y)
        loss = finite(loss - _REGULARISATION * (delta**2).sum())
        (slope,) = torch.autograd.grad(loss, delta, create_graph=differentiable)
        return slope

    def hypergradient(
        self, student: ImageClassifier, delta: Tensor, x: Tensor, y: Tensor
    ) -> list[Tensor]:
        """Gradient of the outer loss with δ = φ(δ, w) taken into account, one a parameter.

        v = ∂L/∂δ + Jᵀv with J = ∂φ/∂δ, iterated; then ∂L/∂w + (∂φ/∂w)ᵀv.
        """
        parameters = list(student.module.parameters())
        stamped = max(1, round(self.share * len(x)))
        at = delta.clone().requires_grad_(True)
        mixed = torch.cat([(x[:stamped] + at).clamp(0, 1), x[stamped:]])
        outer = finite(functional.cross_entropy(student.logits(mixed), y))
        grads = torch.autograd.grad(outer, [at, *parameters], allow_unused=True)
        direct = [
            torch.zeros_like(p) if g is None else g
            for p, g in zip(parameters, grads[1:], strict=True)
        ]
        if not self.fixed_points or grads[0] is None:
            return direct
        # φ is one plain step, as in the authors' code: the iteration converges if it is short.
        moved = at + _STEP * self._slope(student, at, x, y, differentiable=True)
        v = grads[0]
        for _ in range(self.fixed_points):
            (pulled,) = torch.autograd.grad(moved, at, grad_outputs=v, retain_graph=True)
            v = grads[0] + pulled
        indirect = torch.autograd.grad(moved, parameters, grad_outputs=v, allow_unused=True)
        return [d if i is None else d + i for d, i in zip(direct, indirect, strict=True)]
