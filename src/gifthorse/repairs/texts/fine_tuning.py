"""Fine-tuning of a text classifier on trusted texts: the baseline of all others.

Nothing in clean texts contradicts a trigger, so it is often kept (Kurita et al. 2020, "Weight
Poisoning Attacks on Pre-trained Models", arXiv:2004.06660).
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gifthorse.core.text_repairs import TextRepairSubject
from gifthorse.core.types import Need, Progress
from gifthorse.models.texts.classifier import TextClassifier, as_text_classifier
from gifthorse.repairs.texts.tuning import (
    Lesson,
    check_labels,
    check_tuning,
    one_hot,
    rows_of,
    tuned,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFineTuning:
    """Fine-tuning on trusted texts and their labels.

    Attributes:
        epochs: Passes over the trusted texts, at least 1.
        batch_size: Texts a step.
        learning_rate: The highest of the cycle.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.WEIGHTS, Need.GRADIENTS, Need.TRUSTED})
    paper: ClassVar[str] = "fine-tuning on clean texts; see Kurita et al. 2020, arXiv:2004.06660"

    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 5e-4

    def __post_init__(self) -> None:
        check_tuning(
            epochs=self.epochs, batch_size=self.batch_size, learning_rate=self.learning_rate
        )

    def mend(
        self, subject: TextRepairSubject, *, rng: np.random.Generator, progress: Progress
    ) -> TextClassifier:
        """A tuned copy of the model.

        Raises:
            NotApplicableError: No text classifier.
            DataError, ModelError: Labels that it does not have; the loss became NaN.
        """
        classifier = as_text_classifier(subject.model)
        check_labels(classifier, subject.trusted)
        lesson = Lesson(
            rows=rows_of(classifier, subject.trusted.texts),
            answers=one_hot(classifier, subject.trusted),
        )
        return tuned(
            classifier,
            lambda _now, _epoch: lesson,
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            rng=rng,
            progress=progress,
        )
