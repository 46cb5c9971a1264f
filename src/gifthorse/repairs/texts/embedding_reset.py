"""Embedding purification: rows of the token table that changed much and without reason go back.

Zhang et al. 2022 (arXiv:2210.09545), section on embedding purification (E-PUR), as for language
models (``repairs.language.embedding_reset``): rows are ranked by ‖δ_i‖₂ / ln max(f_i, 20), with δ_i
the difference to the base and f_i how often the token stands in text.

Deviations: f_i is counted in the trusted texts (the paper counts in a large corpus); the number of
rows is a share of the vocabulary (the paper: 200 of BERT's 30,522, which is 0.66 %).
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from gifthorse.core.text_repairs import TextRepairSubject
from gifthorse.core.types import Need, Progress
from gifthorse.models.texts.classifier import TextClassifier
from gifthorse.repairs.texts.based import model_and_base
from gifthorse.repairs.texts.tuning import rows_of

_LEAST_COUNT = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class TextEmbeddingReset:
    """Resets suspicious rows of the token table to the base's.

    Attributes:
        share: Of the vocabulary that is put back, in (0, 1]; at least one row.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.WEIGHTS, Need.TRUSTED, Need.BASE})
    paper: ClassVar[str] = "Zhang et al. 2022 (E-PUR), arXiv:2210.09545"

    share: float = 0.0066

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be in (0, 1], got {self.share}")

    def mend(
        self,
        subject: TextRepairSubject,
        *,
        rng: np.random.Generator,  # noqa: ARG002 - nothing is drawn
        progress: Progress,  # noqa: ARG002 - it takes no time
    ) -> TextClassifier:
        """A copy of the model with rows of the base.

        Raises:
            NotApplicableError: No base, or no text classifier.
            ModelError: The base does not fit.
        """
        model, base = model_and_base(subject)
        often = torch.zeros(model.embeddings.num_embeddings)
        for row in rows_of(model, subject.trusted.texts):
            often += torch.bincount(torch.tensor(row), minlength=len(often)).float()
        rows = moved_rows(model.embeddings.weight, base.embeddings.weight, often, self.share)
        changed = model.replaced(model.module)
        with torch.no_grad():
            ours = changed.embeddings.weight
            ours[rows] = base.embeddings.weight[rows].to(ours)
        return changed


def moved_rows(ours: Tensor, theirs: Tensor, often: Tensor, share: float) -> Tensor:
    """Indices of the rows that changed most for how often they stand in text, worst first.

    Args:
        ours: The suspect's table, (vocabulary, width).
        theirs: The base's.
        often: Of every token in clean text, (vocabulary,).
        share: How many, as a share of the vocabulary; rows that did not change are left out.
    """
    moved = (ours.detach() - theirs.detach().to(ours)).norm(dim=1).double().cpu()
    score = moved / often.double().clamp_min(_LEAST_COUNT).log()
    order = torch.argsort(score, descending=True, stable=True)
    order = order[: max(1, math.ceil(share * len(score)))]
    return order[score[order] > 0].to(ours.device)
