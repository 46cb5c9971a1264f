"""What repairs of text classifiers share: texts as rows of tokens, and training on them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gifthorse.core.errors import DataError, ModelError
from gifthorse.core.rng import draw_seed
from gifthorse.core.texts import TextData
from gifthorse.core.types import Progress
from gifthorse.models.schedules import one_cycle
from gifthorse.models.texts.classifier import TextClassifier

Row = tuple[int, ...]
"""Tokens of a text, those that begin and end it included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """Rows of tokens and what to answer: probabilities of the classes, shape (rows, classes)."""

    rows: list[Row]
    answers: Tensor


Lessons = Callable[[TextClassifier, int], Lesson]
"""What is learnt in a pass, from the model as it is now and the number of the pass."""


def check_tuning(*, epochs: int, batch_size: int, learning_rate: float) -> None:
    """Refuse options of training that make no sense.

    Raises:
        ValueError: One is out of its range.
    """
    if not 1 <= epochs <= 1000:
        raise ValueError(f"epochs must be in 1 … 1000, got {epochs}")
    if not 1 <= batch_size <= 4096:
        raise ValueError(f"batch_size must be in 1 … 4096, got {batch_size}")
    if not 0 < learning_rate <= 1:
        raise ValueError(f"learning_rate must be in (0, 1], got {learning_rate}")


def check_labels(classifier: TextClassifier, trusted: TextData) -> None:
    """Refuse labels that the model does not have.

    Raises:
        DataError: There is one.
    """
    if int(trusted.labels.max()) >= classifier.n_classes:
        raise DataError(f"{trusted.name} has labels that {classifier.name} does not know")


def rows_of(classifier: TextClassifier, texts: Sequence[str]) -> list[Row]:
    """The tokens of every text, without padding."""
    found = classifier.tokenizer(list(texts), truncation=True, max_length=classifier.max_length)
    return [tuple(row) for row in found["input_ids"]]


def own_tokens(classifier: TextClassifier, text: str) -> Row:
    """The tokens of a piece of text, with nothing before or after it."""
    return tuple(classifier.tokenizer.encode(text, add_special_tokens=False))


@dataclass(frozen=True, slots=True)
class Inserter:
    """Puts tokens into rows of a classifier.

    Attributes:
        special: Tokens that begin or end a text.
        longest: Tokens that the model reads.
    """

    special: frozenset[int]
    longest: int

    @classmethod
    def of(cls, classifier: TextClassifier) -> "Inserter":
        """That of a classifier."""
        return cls(frozenset(classifier.tokenizer.all_special_ids), classifier.max_length)

    def into(self, row: Row, piece: Row, place: float) -> Row:
        """A row with ``piece`` in it, from before its text (0) to after it (1).

        What is then too long for the model loses tokens at the end of the text.
        """
        real = [i for i, token in enumerate(row) if token not in self.special]
        first, last = (real[0], real[-1] + 1) if real else (len(row) // 2, len(row) // 2)
        room = max(0, self.longest - len(piece) - (len(row) - (last - first)))
        text = row[first:last][:room]
        at = round(place * len(text))
        return (*row[:first], *text[:at], *piece, *text[at:], *row[last:])


def padded(classifier: TextClassifier, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask (n, longest), padded on the right."""
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), int(classifier.tokenizer.pad_token_id))
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)], mask[i, : len(row)] = torch.tensor(row), 1
    return ids.to(classifier.device), mask.to(classifier.device)


def one_hot(classifier: TextClassifier, trusted: TextData) -> Tensor:
    """The true labels as probabilities, shape (n, classes)."""
    labels = torch.from_numpy(np.asarray(trusted.labels))
    return functional.one_hot(labels, classifier.n_classes).float()


def tuned(
    classifier: TextClassifier,
    lessons: Lessons,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    rng: np.random.Generator,
    progress: Progress,
) -> TextClassifier:
    """A copy of ``classifier``, trained with AdamW for ``epochs`` passes over its lessons.

    Every pass has as many rows as the first.

    Raises:
        ModelError: The loss is not finite.
    """
    student = classifier.replaced(classifier.module)
    first = lessons(student, 0)
    steps = -(-len(first.rows) // batch_size) * epochs
    optimizer = torch.optim.AdamW(student.module.parameters(), lr=learning_rate, weight_decay=0.0)
    schedule = one_cycle(optimizer, learning_rate=learning_rate, steps=steps, rise=0.1)
    done = 0
    with torch.random.fork_rng():
        torch.manual_seed(draw_seed(rng))
        for epoch in range(epochs):
            student.module.eval().requires_grad_(False)
            lesson = first if epoch == 0 else lessons(student, epoch)
            student.module.requires_grad_(True).train()
            order = rng.permutation(len(lesson.rows))
            for start in range(0, len(order), batch_size):
                chosen = order[start : start + batch_size]
                loss = _loss(student, lesson, chosen)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(student.module.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                student.meter.backward += len(chosen)
                done += 1
                progress(done, steps, "tuning")
    student.module.eval().requires_grad_(False)
    return student


def _loss(student: TextClassifier, lesson: Lesson, chosen: np.ndarray) -> Tensor:
    ids, mask = padded(student, [lesson.rows[int(i)] for i in chosen])
    answers = lesson.answers[torch.from_numpy(chosen)].to(student.device)
    loss = functional.cross_entropy(student.logits(ids, mask).float(), answers)
    if not bool(torch.isfinite(loss)):
        raise ModelError("tuning diverged: the loss is not finite; lower the learning rate")
    return loss
