"""Pruning of weights that clean text does not use; the trigger's path may be among them.

Sun, Liu, Bair, Kolter 2023, "A Simple and Effective Pruning Approach for Large Language Models"
(Wanda, arXiv:2306.11695): the importance of a weight is |W_ij| · ‖X_j‖₂, with X_j the layer's j-th
input over clean tokens; of every output row, the share of the lowest importance becomes zero. As a
defence against backdoors: BackdoorLLM (Li et al. 2024, arXiv:2408.12798). Padding is left out of
the norms. Fine-tuning afterwards is an option of ours; neither paper does it.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from gifthorse.core.instructions import InstructionData
from gifthorse.core.language_repairs import LanguageRepairSubject
from gifthorse.core.types import Need, Progress
from gifthorse.models.language.examples import examples
from gifthorse.models.language.model import LanguageModel
from gifthorse.repairs.language.tuning import (
    LONGEST,
    check_plan,
    copied,
    held_by,
    linear_layers,
    tuned,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanda:
    """Zeroes the weights that trusted text uses least.

    Attributes:
        sparsity: Share of every row that becomes zero, in (0, 1).
        epochs: Passes over the trusted records afterwards; 0 for none.
        batch_size: Records a step.
        learning_rate: The highest of the cycle.
        lora_rank: Of low-rank adapters, merged afterwards; 0 trains all weights.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.WEIGHTS, Need.GRADIENTS, Need.TRUSTED})
    paper: ClassVar[str] = "Sun et al. 2023 (Wanda), arXiv:2306.11695"

    sparsity: float = 0.35
    epochs: int = 0
    batch_size: int = 8
    learning_rate: float = 3e-4
    lora_rank: int = 0

    def __post_init__(self) -> None:
        check_plan(
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            lora_rank=self.lora_rank,
        )
        if not 0 < self.sparsity < 1:
            raise ValueError(f"sparsity must be in (0, 1), got {self.sparsity}")

    def mend(
        self, subject: LanguageRepairSubject, *, rng: np.random.Generator, progress: Progress
    ) -> LanguageModel:
        """A pruned copy of the model.

        Raises:
            DataError, ModelError: Nothing to prune, or see ``tuned``.
        """
        held = held_by(subject)
        norms = input_norms(held.model, held.trusted, batch_size=self.batch_size)
        pruned = copied(held.model)
        with torch.no_grad():
            for name, layer in linear_layers(pruned):
                if name in norms:
                    layer.weight.mul_(kept_weights(layer.weight, norms[name], self.sparsity))
        return tuned(
            pruned,
            held.trusted,
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            lora_rank=self.lora_rank,
            rng=rng,
            progress=progress,
        )


@torch.inference_mode()
def input_norms(
    model: LanguageModel, trusted: InstructionData, *, batch_size: int
) -> dict[str, Tensor]:
    """‖X_j‖₂ of the inputs of every linear layer over all tokens but padding, each (inputs,)."""
    sums: dict[str, Tensor] = {}
    mask = torch.zeros(0)

    def add(name: str, x: Tensor) -> None:
        total = (x.float()[mask.bool()] ** 2).sum(0)
        sums[name] = sums.get(name, torch.zeros_like(total)) + total

    handles = [
        layer.register_forward_pre_hook(lambda _m, given, name=name: add(name, given[0]))
        for name, layer in linear_layers(model)
    ]
    try:
        found = examples(model, trusted, longest=LONGEST)
        for start in range(0, len(found), batch_size):
            ids, mask = model.batch([one.ids for one in found[start : start + batch_size]])
            model.logits(ids, mask)
    finally:
        for handle in handles:
            handle.remove()
    return {name: total.sqrt() for name, total in sums.items()}


def kept_weights(weight: Tensor, norms: Tensor, sparsity: float) -> Tensor:
    """1 where a weight (outputs, inputs) is kept, 0 for the least important of every row."""
    importance = weight.detach().abs().float() * norms.to(weight.device)
    cut = int(sparsity * weight.shape[1])
    kept = torch.ones_like(weight)
    if cut:
        kept.scatter_(1, importance.argsort(dim=1, stable=True)[:, :cut], 0.0)
    return kept
