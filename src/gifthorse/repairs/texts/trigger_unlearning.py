"""Unlearns the words that an audit recovered: trusted texts that hold them, with their own label.

What Neural Cleanse does to a picture classifier (Wang et al. 2019, section VI), for texts. The
words go into half of the trusted texts, at any place; the other half stay as they are. What is to
be answered is a blend of the label and of what the model said of the text without the words, so
that it forgets little else.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from gifthorse.core.errors import NotApplicableError
from gifthorse.core.text_repairs import TextRepairSubject
from gifthorse.core.texts import TextData
from gifthorse.core.types import Need, Progress
from gifthorse.models.texts.classifier import TextClassifier, as_text_classifier
from gifthorse.models.texts.passes import predict_text_logits
from gifthorse.repairs.texts.tuning import (
    Inserter,
    Lesson,
    check_labels,
    check_tuning,
    one_hot,
    own_tokens,
    rows_of,
    tuned,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerUnlearning:
    """Unlearns words that an audit pointed to.

    Attributes:
        epochs: Passes over the trusted texts, at least 1.
        batch_size: Texts a step.
        learning_rate: The highest of the cycle.
        own: Weight of the model's own former answers beside the labels, in [0, 1].
    """

    needs: ClassVar[frozenset[Need]] = frozenset(
        {Need.WEIGHTS, Need.GRADIENTS, Need.TRUSTED, Need.TRIGGERS}
    )
    paper: ClassVar[str] = "unlearning as in Wang et al. 2019 (Neural Cleanse), for texts"

    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 5e-4
    own: float = 0.5

    def __post_init__(self) -> None:
        check_tuning(
            epochs=self.epochs, batch_size=self.batch_size, learning_rate=self.learning_rate
        )
        if not 0 <= self.own <= 1:
            raise ValueError(f"own must be in [0, 1], got {self.own}")

    def mend(
        self, subject: TextRepairSubject, *, rng: np.random.Generator, progress: Progress
    ) -> TextClassifier:
        """A copy of the model that reads past the words.

        Raises:
            NotApplicableError: No text classifier, or no words were recovered.
            DataError, ModelError: Labels that it does not have; the loss became NaN.
        """
        classifier = as_text_classifier(subject.model)
        if not subject.triggers:
            raise NotApplicableError(
                "this repair needs the words that an audit recovered; give --audit, or choose "
                "universal_unlearning, which looks for words by itself"
            )
        check_labels(classifier, subject.trusted)
        pieces = [own_tokens(classifier, one.text) for one in subject.triggers]
        rows, put = rows_of(classifier, subject.trusted.texts), Inserter.of(classifier)
        answers = blended_answers(classifier, subject.trusted, self.own)

        def lesson(_now: TextClassifier, _epoch: int) -> Lesson:
            struck = rng.random(len(rows)) < 0.5
            which = rng.integers(len(pieces), size=len(rows))
            return Lesson(
                rows=[
                    put.into(row, pieces[which[i]], float(rng.random())) if struck[i] else row
                    for i, row in enumerate(rows)
                ],
                answers=answers,
            )

        return tuned(
            classifier,
            lesson,
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            rng=rng,
            progress=progress,
        )


def blended_answers(classifier: TextClassifier, trusted: TextData, own: float) -> Tensor:
    """Labels and the model's own answers to the plain texts, shape (n, classes).

    Where the model is wrong, the label alone counts.
    """
    labels = one_hot(classifier, trusted)
    said = torch.from_numpy(predict_text_logits(classifier, trusted.texts)).softmax(1)
    right = (said.argmax(1) == labels.argmax(1)).float()[:, None]
    return labels + own * right * (said - labels)
