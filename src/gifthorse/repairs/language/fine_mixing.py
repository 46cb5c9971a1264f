"""Fine-mixing: put most weights back to those of the base model, then fine-tune a little.

Zhang, Lyu, Ma, Wang, Sun 2022, "Fine-mixing: Mitigating Backdoors in Fine-tuned Language Models",
Findings of EMNLP (arXiv:2210.09545). A random share of the single weights is kept from the suspect,
the others are the base's; then the mixture is tuned on a few clean records. ``mixing="average"``
(a deviation) takes the weighted mean of both instead, which disturbs small networks less.

The paper is about classifiers (BERT), and combines this with a reset of embedding rows, which is a
repair of its own here (``embedding_reset``).
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from gifthorse.core.language_repairs import LanguageRepairSubject
from gifthorse.core.rng import draw_seed
from gifthorse.core.types import Need, Progress
from gifthorse.models.language.model import LanguageModel
from gifthorse.repairs.language.tuning import check_plan, copied, held_by, tuned

MIXINGS = ("random", "average")


@dataclass(frozen=True, slots=True, kw_only=True)
class FineMixing:
    """A mixture of the suspect's and the base's weights, tuned on trusted records.

    Attributes:
        keep: Share of the suspect in the mixture (the paper's ρ), in [0, 1).
        mixing: ``random`` keeps single weights drawn at random, ``average`` takes the mean.
        epochs: Passes over the trusted records afterwards; 0 for none.
        batch_size: Records a step.
        learning_rate: The highest of the cycle.
        lora_rank: Of low-rank adapters, merged afterwards; 0 trains all weights.
    """

    needs: ClassVar[frozenset[Need]] = frozenset(
        {Need.WEIGHTS, Need.GRADIENTS, Need.TRUSTED, Need.BASE}
    )
    paper: ClassVar[str] = "Zhang et al. 2022, arXiv:2210.09545"

    keep: float = 0.3
    mixing: str = "random"
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
        )
        if not 0 <= self.keep < 1:
            raise ValueError(f"keep must be in [0, 1), got {self.keep}")
        if self.mixing not in MIXINGS:
            raise ValueError(f"mixing must be one of {', '.join(MIXINGS)}, got {self.mixing!r}")

    def mend(
        self, subject: LanguageRepairSubject, *, rng: np.random.Generator, progress: Progress
    ) -> LanguageModel:
        """A mixed and tuned copy of the model.

        Raises:
            NotApplicableError: No base.
            DataError, ModelError: The base does not fit, or see ``tuned``.
        """
        held = held_by(subject)
        mixture = mixed_with(held.model, held.ground, keep=self.keep, mixing=self.mixing, rng=rng)
        return tuned(
            mixture,
            held.trusted,
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            lora_rank=self.lora_rank,
            rng=rng,
            progress=progress,
        )


@torch.no_grad()
def mixed_with(
    model: LanguageModel,
    base: LanguageModel,
    *,
    keep: float,
    mixing: str,
    rng: np.random.Generator,
) -> LanguageModel:
    """A copy of ``model`` whose weights are in part the base's, which has the same shapes."""
    mixture = copied(model)
    generator = torch.Generator().manual_seed(draw_seed(rng))
    theirs = dict(base.module.named_parameters())
    for name, weight in mixture.module.named_parameters():
        other = theirs[name].to(weight)
        if mixing == "average":
            weight.copy_(keep * weight + (1 - keep) * other)
            continue
        kept = torch.rand(weight.shape, generator=generator).to(weight.device) < keep
        weight.copy_(torch.where(kept, weight, other))
    return mixture
