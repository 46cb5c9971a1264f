"""Fine-tuning: train a little further on trusted pictures and hope that the backdoor is forgotten.

The oldest repair, and the baseline of all others (Liu, Xie, Srivastava 2017, "Neural Trojans",
arXiv:1710.00942, call it re-training). It often leaves the backdoor standing: nothing
in clean pictures contradicts it.

Deviations: the length is at least ``min_steps`` steps however few pictures there are, the learning
rate follows one cycle, and batch-normalisation statistics can be kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gifthorse.core.types import Evidence, Need, Progress, Subject
from gifthorse.models.classifier import ImageClassifier
from gifthorse.repairs.tuning import check_tuning, passes_over, subject_of, tune


@dataclass(frozen=True, slots=True, kw_only=True)
class FineTuning:
    """Fine-tuning on trusted pictures, with SGD.

    Attributes:
        epochs: Passes over the trusted pictures, at least 1.
        min_steps: Steps at least, whatever the number of pictures; 0 to count epochs alone.
        batch_size: Pictures a step, at least 2.
        learning_rate: The highest of the cycle, positive.
        shift: Random shift in pixels of every picture, against overfitting; 0 for none.
        frozen_statistics: Keep the statistics of batch normalisation.

    Raises:
        ValueError: An option out of its range.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.WEIGHTS, Need.GRADIENTS, Need.TRUSTED})
    paper: ClassVar[str] = "Liu, Xie & Srivastava 2017, Neural Trojans, arXiv:1710.00942"

    epochs: int = 10
    min_steps: int = 200
    batch_size: int = 32
    learning_rate: float = 0.005
    shift: int = 0
    frozen_statistics: bool = False

    def __post_init__(self) -> None:
        check_tuning(
            epochs=self.epochs,
            min_steps=self.min_steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            shift=self.shift,
        )

    def repair(
        self,
        subject: Subject,
        evidence: Sequence[Evidence],  # noqa: ARG002 - needs none
        *,
        rng: np.random.Generator,
        progress: Progress,
    ) -> ImageClassifier:
        """A tuned copy of the model; the evidence is not used.

        Raises:
            NotApplicableError: No model, no trusted pictures, or they do not fit.
            ModelError: The loss became NaN.
        """
        classifier, trusted = subject_of(subject)
        passes = passes_over(
            trusted, epochs=self.epochs, min_steps=self.min_steps, batch_size=self.batch_size
        )
        return tune(
            classifier,
            trusted,
            passes=passes,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            shift=self.shift,
            frozen_statistics=self.frozen_statistics,
            rng=rng,
            progress=progress,
        )
