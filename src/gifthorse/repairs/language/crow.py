"""CROW: make the layers agree with each other even under small adversarial changes of the input.

Min, Pham, Zhang, Zhu, Sun 2024, "CROW: Eliminating Backdoors from Large Language Models via
Internal Consistency Regularization" (arXiv:2411.12768). A trigger makes hidden states jump between
layers. The inconsistency c is the mean over layers and tokens of 1 − cos(h_l, h_l+1); the input
embeddings are moved by ε · sign(∂c/∂embeddings), and the model is tuned on clean records with
loss = cross-entropy + α · c(moved).

Deviations: padding is masked out of c and of its gradient (the released code counts it); all
weights are trained unless ``lora_rank`` is given (the paper: LoRA).
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gifthorse.core.errors import ModelError, NotApplicableError
from gifthorse.core.language_repairs import LanguageRepairSubject
from gifthorse.core.types import Need, Progress
from gifthorse.models.language.examples import Batch
from gifthorse.models.language.model import LanguageModel
from gifthorse.models.language.training import answer_loss
from gifthorse.repairs.language.tuning import check_plan, held_by, tuned


@dataclass(frozen=True, slots=True, kw_only=True)
class Crow:
    """Tuning with a penalty on inconsistent layers.

    Attributes:
        alpha: Weight of the penalty, at least 0 (5.5 in the paper, 11 against refusals).
        epsilon: How far every value of an embedding is moved, at least 0.
        epochs: Passes over the trusted records, at least 1.
        batch_size: Records a step.
        learning_rate: The highest of the cycle.
        lora_rank: Of low-rank adapters, merged afterwards; 0 trains all weights.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.WEIGHTS, Need.GRADIENTS, Need.TRUSTED})
    paper: ClassVar[str] = "Min et al. 2024 (CROW), arXiv:2411.12768"

    alpha: float = 5.5
    epsilon: float = 0.1
    epochs: int = 3
    batch_size: int = 8
    learning_rate: float = 3e-4
    lora_rank: int = 0

    def __post_init__(self) -> None:
        check_plan(
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            lora_rank=self.lora_rank,
            least_epochs=1,
        )
        for name in ("alpha", "epsilon"):
            if not 0 <= getattr(self, name) <= 1000:
                raise ValueError(f"{name} must be in [0, 1000], got {getattr(self, name)}")

    def mend(
        self, subject: LanguageRepairSubject, *, rng: np.random.Generator, progress: Progress
    ) -> LanguageModel:
        """A tuned copy of the model.

        Raises:
            NotApplicableError: The network has fewer than two layers.
            DataError, ModelError: See ``tuned``.
        """
        held = held_by(subject)
        layers = int(getattr(held.model.module.config, "num_hidden_layers", 0) or 0)
        if layers < 2:
            raise NotApplicableError(f"CROW compares layers, and the network has {layers}")

        def loss_of(module: Any, batch: Batch) -> Tensor:
            moved = moved_embeddings(module, batch, self.epsilon)
            penalty = inconsistency(hidden_states(module, batch, moved), batch.mask)
            return answer_loss(module, batch) + self.alpha * penalty

        return tuned(
            held.model,
            held.trusted,
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            lora_rank=self.lora_rank,
            rng=rng,
            progress=progress,
            loss_of=loss_of,
        )


def inconsistency(states: Sequence[Tensor], mask: Tensor) -> Tensor:
    """Mean of 1 − cos between neighbouring layers' states, over pairs of layers and real tokens.

    Args:
        states: Of the layers, each (n, length, width), at least two.
        mask: 1 where there is a token, (n, length).
    """
    apart = [
        1 - functional.cosine_similarity(one, two, dim=-1, eps=1e-8)
        for one, two in itertools.pairwise(states)
    ]
    # Where padding stands a state can be anything, NaN included.
    chosen = mask.bool().expand(len(apart), -1, -1)
    return torch.stack(apart).masked_select(chosen).mean()


def hidden_states(module: Any, batch: Batch, embedded: Tensor) -> tuple[Tensor, ...]:
    """States after every layer, the embeddings left out."""
    positions = (batch.mask.cumsum(1) - 1).clamp(min=0)
    out = module(
        inputs_embeds=embedded,
        attention_mask=batch.mask,
        position_ids=positions,
        output_hidden_states=True,
        use_cache=False,
        logits_to_keep=1,
    )
    if not out.hidden_states:
        raise ModelError("the network does not give the states of its layers")
    return tuple(out.hidden_states[1:])


def moved_embeddings(module: Any, batch: Batch, epsilon: float) -> Tensor:
    """The embeddings of a batch, moved so that layers disagree more; differentiable."""
    plain = module.get_input_embeddings()(batch.ids)
    free = plain.detach().clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(
        inconsistency(hidden_states(module, batch, free), batch.mask), free
    )
    moved: Tensor = plain + epsilon * gradient.sign()
    return moved
