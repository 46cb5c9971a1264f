"""Fine-mixing: put most weights back to those of the base, then fine-tune on trusted texts.

Zhang, Lyu, Ma, Wang, Sun 2022, "Fine-mixing: Mitigating Backdoors in Fine-tuned Language Models",
Findings of EMNLP (arXiv:2210.09545). A random share of the single weights is kept from the suspect,
the others are the base's. The paper combines this with a reset of embedding rows, which is a repair
of its own here (``embedding_reset``). Where the base has no head of this task, that of the suspect
is kept whole (the paper: likewise).
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from gifthorse.core.rng import draw_seed
from gifthorse.core.text_repairs import TextRepairSubject
from gifthorse.core.types import Need, Progress
from gifthorse.models.texts.classifier import TextClassifier
from gifthorse.repairs.texts.based import model_and_base
from gifthorse.repairs.texts.fine_tuning import TextFineTuning
from gifthorse.repairs.texts.tuning import check_tuning


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFineMixing:
    """A mixture of the suspect's and the base's weights, tuned on trusted texts.

    Attributes:
        keep: Share of the suspect in the mixture (the paper's ρ), in [0, 1).
        epochs: Passes over the trusted texts, at least 1.
        batch_size: Texts a step.
        learning_rate: The highest of the cycle.
    """

    needs: ClassVar[frozenset[Need]] = frozenset(
        {Need.WEIGHTS, Need.GRADIENTS, Need.TRUSTED, Need.BASE}
    )
    paper: ClassVar[str] = "Zhang et al. 2022, arXiv:2210.09545"

    keep: float = 0.3
    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 5e-4

    def __post_init__(self) -> None:
        check_tuning(
            epochs=self.epochs, batch_size=self.batch_size, learning_rate=self.learning_rate
        )
        if not 0 <= self.keep < 1:
            raise ValueError(f"keep must be in [0, 1), got {self.keep}")

    def mend(
        self, subject: TextRepairSubject, *, rng: np.random.Generator, progress: Progress
    ) -> TextClassifier:
        """A mixed and tuned copy of the model.

        Raises:
            NotApplicableError: No base, or no text classifier.
            DataError, ModelError: The base or the labels do not fit; the loss became NaN.
        """
        model, base = model_and_base(subject)
        mixture = mixed_with(model, base, keep=self.keep, rng=rng)
        tuning = TextFineTuning(
            epochs=self.epochs, batch_size=self.batch_size, learning_rate=self.learning_rate
        )
        return tuning.mend(
            TextRepairSubject(model=mixture, trusted=subject.trusted), rng=rng, progress=progress
        )


@torch.no_grad()
def mixed_with(
    model: TextClassifier, base: TextClassifier, *, keep: float, rng: np.random.Generator
) -> TextClassifier:
    """A copy of ``model`` of whose single weights a share ``1 - keep`` is the base's."""
    mixture = model.replaced(model.module)
    generator = torch.Generator().manual_seed(draw_seed(rng))
    theirs = dict(base.module.named_parameters())
    for name, weight in mixture.module.named_parameters():
        kept = torch.rand(weight.shape, generator=generator).to(weight.device) < keep
        weight.copy_(torch.where(kept, weight, theirs[name].to(weight)))
    return mixture
