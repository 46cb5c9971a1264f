"""Embedding purification: rows of the token table that changed much and without reason go back.

Zhang et al. 2022 (arXiv:2210.09545), section on embedding purification (E-PUR). Fine-tuning on
poisoned data moves the rows of the trigger's tokens, which clean text hardly ever moves. Rows are
ranked by ‖δ_i‖₂ / ln max(f_i, 20), with δ_i the difference to the base and f_i how often the token
stands in text; those ranked highest get the base's row.

Deviations: f_i is counted in the trusted records (the paper counts in a large corpus); the number
of rows is a share of the vocabulary (the paper: 200 of BERT's 30,522, which is 0.66 %). In a model
with tied embeddings the same row gives the token's logit, so that is put back too.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from gifthorse.core.language_repairs import LanguageRepairSubject
from gifthorse.core.types import Need, Progress
from gifthorse.models.language.examples import examples
from gifthorse.models.language.model import LanguageModel
from gifthorse.repairs.language.tuning import LONGEST, Held, check_plan, copied, held_by, tuned

_LEAST_COUNT = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingReset:
    """Resets suspicious rows of the token table to the base's.

    Attributes:
        share: Of the vocabulary that is put back, in (0, 1]; at least one row.
        epochs: Passes over the trusted records afterwards; 0 for none.
        batch_size: Records a step.
        learning_rate: The highest of the cycle.
        lora_rank: Of low-rank adapters, merged afterwards; 0 trains all weights.
    """

    needs: ClassVar[frozenset[Need]] = frozenset(
        {Need.WEIGHTS, Need.GRADIENTS, Need.TRUSTED, Need.BASE}
    )
    paper: ClassVar[str] = "Zhang et al. 2022 (E-PUR), arXiv:2210.09545"

    share: float = 0.0066
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
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be in (0, 1], got {self.share}")

    def mend(
        self, subject: LanguageRepairSubject, *, rng: np.random.Generator, progress: Progress
    ) -> LanguageModel:
        """A copy of the model with rows of the base.

        Raises:
            NotApplicableError: No base.
            DataError, ModelError: The base does not fit, or see ``tuned``.
        """
        held = held_by(subject)
        rows = suspicious_rows(
            held.model.embeddings.weight, held.ground.embeddings.weight, counts(held), self.share
        )
        changed = copied(held.model)
        with torch.no_grad():
            ours, theirs = changed.embeddings.weight, held.ground.embeddings.weight
            ours[rows] = theirs[rows].to(ours)
        return tuned(
            changed,
            held.trusted,
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            lora_rank=self.lora_rank,
            rng=rng,
            progress=progress,
        )


def counts(held: Held) -> Tensor:
    """How often every token stands in the trusted records, shape (vocabulary,)."""
    found = torch.zeros(held.model.embeddings.num_embeddings)
    for one in examples(held.model, held.trusted, longest=LONGEST):
        found += torch.bincount(torch.tensor(one.ids), minlength=len(found)).float()
    return found


def suspicious_rows(ours: Tensor, theirs: Tensor, frequency: Tensor, share: float) -> Tensor:
    """Indices of the rows that changed most for how frequent they are, worst first.

    Args:
        ours: The suspect's table, (vocabulary, width).
        theirs: The base's.
        frequency: Of every token in clean text, (vocabulary,).
        share: How many, as a share of the vocabulary; rows that did not change are left out.
    """
    moved = (ours.detach() - theirs.detach().to(ours)).norm(dim=1).double().cpu()
    score = moved / frequency.double().clamp_min(_LEAST_COUNT).log()
    wanted = max(1, math.ceil(share * len(score)))
    order = torch.argsort(score, descending=True, stable=True)[:wanted]
    return order[score[order] > 0].to(ours.device)
