"""Unlearns whatever few words send many trusted texts to a class, without an audit. Our own.

Before every pass, for every class, a short row of tokens is searched that sends trusted texts of
the other classes there, wherever it stands: universal adversarial triggers (Wallace et al. 2019,
arXiv:1908.07125), found by the gradient in the embedding of each token and confirmed by passes.
They are put into a part of the trusted texts, which keep their answers (see
``trigger_unlearning``). So it is adversarial training against universal words, as I-BAU (Zeng et
al. 2022) is against universal perturbations of pictures: a trigger is among the strongest such
words, and honest words that are too strong are made weaker as well, which costs clean accuracy. A
habit of writing is reached only as far as single tokens make it up (a space before a stop).
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from gifthorse.core.text_repairs import TextRepairSubject
from gifthorse.core.types import IntArray, Need, Progress, ScoreArray
from gifthorse.models.texts.classifier import TextClassifier, as_text_classifier
from gifthorse.repairs.texts.trigger_unlearning import blended_answers
from gifthorse.repairs.texts.tuning import (
    Inserter,
    Lesson,
    Row,
    check_labels,
    check_tuning,
    padded,
    rows_of,
    tuned,
)

_PROBES = 24
_CANDIDATES = 16
_ROUNDS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class UniversalUnlearning:
    """Adversarial training against short universal triggers.

    Attributes:
        epochs: Passes over the trusted texts, at least 1.
        batch_size: Texts a step.
        learning_rate: The highest of the cycle.
        longest: Tokens of the longest trigger that is searched; 1 to this by turns.
        share: Of the trusted texts that get one, in (0, 1].
        own: Weight of the model's own former answers beside the labels, in [0, 1].
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.WEIGHTS, Need.GRADIENTS, Need.TRUSTED})
    paper: ClassVar[str] = "own; search of Wallace et al. 2019, arXiv:1908.07125"

    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 5e-4
    longest: int = 1
    share: float = 0.3
    own: float = 0.5

    def __post_init__(self) -> None:
        check_tuning(
            epochs=self.epochs, batch_size=self.batch_size, learning_rate=self.learning_rate
        )
        if not 1 <= self.longest <= 16:
            raise ValueError(f"longest must be in 1 … 16, got {self.longest}")
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be in (0, 1], got {self.share}")
        if not 0 <= self.own <= 1:
            raise ValueError(f"own must be in [0, 1], got {self.own}")

    def mend(
        self, subject: TextRepairSubject, *, rng: np.random.Generator, progress: Progress
    ) -> TextClassifier:
        """A copy of the model that few words move less.

        Raises:
            NotApplicableError: No text classifier.
            DataError, ModelError: Labels that it does not have; the loss became NaN.
        """
        classifier = as_text_classifier(subject.model)
        check_labels(classifier, subject.trusted)
        rows, put = rows_of(classifier, subject.trusted.texts), Inserter.of(classifier)
        labels = np.asarray(subject.trusted.labels)
        answers = blended_answers(classifier, subject.trusted, self.own)
        pool: list[tuple[int, Row]] = []

        def lesson(now: TextClassifier, epoch: int) -> Lesson:
            size = 1 + epoch % self.longest
            pool.extend(
                (c, universal_row(now, rows, labels, c, size, rng))
                for c in range(classifier.n_classes)
            )
            struck = rng.random(len(rows)) < self.share
            given = [
                with_one_of(put, row, int(label), pool, rng) if strike else row
                for row, label, strike in zip(rows, labels, struck, strict=True)
            ]
            return Lesson(rows=given, answers=answers)

        return tuned(
            classifier,
            lesson,
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            rng=rng,
            progress=progress,
        )


def with_one_of(
    put: Inserter, row: Row, label: int, pool: list[tuple[int, Row]], rng: np.random.Generator
) -> Row:
    """A row with a trigger of another class at a random place; later ones are drawn more often."""
    others = [piece for target, piece in pool if target != label]
    if not others:
        return row
    piece = others[int(len(others) * np.sqrt(rng.random()))]
    return put.into(row, piece, float(rng.random()))


def universal_row(
    classifier: TextClassifier,
    rows: list[Row],
    labels: IntArray,
    target: int,
    size: int,
    rng: np.random.Generator,
) -> Row:
    """``size`` tokens that send many rows of other classes to ``target``."""
    special = np.array(sorted(set(classifier.tokenizer.all_special_ids)), dtype=np.int64)
    known = min(len(classifier.tokenizer), classifier.embeddings.num_embeddings)
    ordinary = np.setdiff1d(np.arange(known), special)
    others = np.flatnonzero(labels != target)
    best = tuple(int(t) for t in rng.choice(ordinary, size))
    if not len(others):
        return best
    chosen = [rows[int(i)] for i in rng.permutation(others)[:_PROBES]]
    probes = _Probes(classifier, chosen, rng.random(len(chosen)), target)
    reach = probes.reach([best])[0]
    for _ in range(_ROUNDS):
        for spot in range(size):
            gain = probes.gain(best, spot)
            gain[special], gain[known:] = -np.inf, -np.inf
            likely = np.argsort(-gain, kind="stable")[:_CANDIDATES]
            tried = [(*best[:spot], int(t), *best[spot + 1 :]) for t in likely]
            found = probes.reach(tried)
            if found.max() > reach:
                best, reach = tried[int(found.argmax())], float(found.max())
    return best


class _Probes:
    """Texts of other classes, each with the place where a trigger is put."""

    def __init__(
        self, classifier: TextClassifier, rows: list[Row], places: ScoreArray, target: int
    ) -> None:
        self._classifier, self._target = classifier, target
        self._rows, self._places = rows, places
        self._put = Inserter.of(classifier)

    def _with(self, piece: Row) -> list[Row]:
        return [
            self._put.into(row, piece, float(place))
            for row, place in zip(self._rows, self._places, strict=True)
        ]

    def _odds(self, logits: Tensor) -> Tensor:
        """ln(p / (1 − p)) of the target, shape (n,)."""
        rest = torch.cat([logits[:, : self._target], logits[:, self._target + 1 :]], 1)
        return logits[:, self._target] - rest.logsumexp(1)

    @torch.inference_mode()
    def reach(self, tried: list[Row]) -> ScoreArray:
        """Mean probability of the target with each trigger, shape (tried,)."""
        struck = [row for piece in tried for row in self._with(piece)]
        logits = self._classifier.logits(*padded(self._classifier, struck)).float()
        chance = self._odds(logits).sigmoid().view(len(tried), len(self._rows)).mean(1)
        return np.asarray(chance.double().cpu().numpy())

    def gain(self, piece: Row, spot: int) -> ScoreArray:
        """First-order gain in log-odds by each token of the vocabulary at one place of it."""
        marked = self._with((*piece[:spot], -1, *piece[spot + 1 :]))
        columns = torch.tensor([row.index(-1) for row in marked])
        whole = [tuple(piece[spot] if t == -1 else t for t in row) for row in marked]
        caught: list[Tensor] = []

        def catch(_module: object, _inputs: object, out: Tensor) -> Tensor:
            caught.append(out.detach().requires_grad_(True))
            return caught[-1]

        handle = self._classifier.embeddings.register_forward_hook(catch)
        try:
            with torch.enable_grad():
                logits = self._classifier.logits(*padded(self._classifier, whole)).float()
                (slope,) = torch.autograd.grad(self._odds(logits).sum(), caught[0])
        finally:
            handle.remove()
        self._classifier.meter.backward += len(whole)
        here = slope[torch.arange(len(whole)), columns.to(slope.device)].sum(0)
        gain = self._classifier.embeddings.weight.detach() @ here
        return np.asarray(gain.double().cpu().numpy())
