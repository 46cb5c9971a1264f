"""ONION: a word that makes a text much less fluent was put there.

Qi, Chen, Li, Yao, Liu, Sun 2021, "ONION: A Simple and Effective Defense Against Textual Backdoor
Attacks" (arXiv:2011.10369). The suspicion of a word is f_i = p_0 − p_i, the perplexity of the text
less that of the text without the word; words with f_i above t are removed, and t is the smallest
that costs at most a given share of clean accuracy.

Deviations: the paper's language model is GPT-2; here it is any causal model that the user names
(``lm``), or, without one, a word trigram model of the trusted texts, which is far weaker. As a
detector of inputs the score of a text is its largest f_i. Padding is not counted (published code
counts it), and the threshold is not fixed at 0.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gifthorse.core.errors import DataError
from gifthorse.core.texts import TextData, TextSubject
from gifthorse.core.types import Evidence, Need, Null, Progress, ScoreArray, Unit
from gifthorse.detectors.inputs.calibrated import exact_null, rank_of
from gifthorse.detectors.texts.calibrated import (
    TextScorer,
    check_trusted_texts,
    judged_texts,
    text_inputs_of,
    text_scores,
)
from gifthorse.models.language.sources import open_language_model
from gifthorse.models.texts.classifier import TextClassifier
from gifthorse.models.texts.passes import predict_texts
from gifthorse.models.texts.perplexity import Perplexity, WordTrigrams, causal_perplexity

_PIECE = re.compile(r"\S+")
_FOLDS = 5
_MOST_WORDS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Onion:
    """Scores texts by their least fluent word.

    Attributes:
        lm: A causal language model's directory, ``.gguf`` file or ``smollm2``; empty for a word
            trigram model of the trusted texts.
        frr: False-rejection rate: share of clean inputs beyond the threshold, in (0, 0.5).
        allowed_drop: Clean accuracy that removing words may cost, in [0, 1]; chooses their bar.
    """

    lm: str = ""
    frr: float = 0.05
    allowed_drop: float = 0.02

    needs: ClassVar[frozenset[Need]] = frozenset({Need.LOGITS, Need.TRUSTED, Need.SUSPECT_DATA})
    unit: ClassVar[Unit] = Unit.SAMPLE
    paper: ClassVar[str] = "Qi et al. 2021 (ONION), arXiv:2011.10369"

    def __post_init__(self) -> None:
        if not 0 < self.frr < 0.5:
            raise ValueError(f"frr must be in (0, 0.5), got {self.frr}")
        if not 0 <= self.allowed_drop <= 1:
            raise ValueError(f"allowed_drop must be in [0, 1], got {self.allowed_drop}")

    def forward_passes(self) -> str:
        """What one input costs beyond the model's own pass, in words."""
        return "one pass of the language model for every word, and one more"

    def inspect(
        self, subject: TextSubject, *, rng: np.random.Generator, progress: Progress
    ) -> Evidence:
        """Score every input of ``subject.suspect``.

        Raises:
            NotApplicableError: No text classifier, no inputs, or too few trusted texts.
            ModelError: The language model cannot be opened.
        """
        inputs = text_inputs_of(subject, "ONION")
        perplexity = self.perplexity(inputs.trusted.texts)
        score, normal = self._scorer(inputs.trusted, perplexity, rng, progress)
        scores = text_scores(inputs.suspect.texts, score, progress)
        cut = float(np.sort(normal)[-rank_of(self.frr, len(normal))])

        def marker(text: str) -> tuple[tuple[int, int], ...]:
            places = [piece.span() for piece in _PIECE.finditer(text)]
            found = suspicions(text, perplexity)
            return tuple(place for place, f in zip(places, found, strict=False) if f > cut)

        return judged_texts(
            inputs.suspect,
            scores,
            normal,
            frr=self.frr,
            title="The least fluent word",
            value_name="perplexity that goes with it",
            caption="How much the perplexity falls when the least fluent word is left out.",
            marker=marker,
        )

    def null(self, evidence: Evidence) -> Null:  # noqa: ARG002 - the statistic is standardised
        """The statistic is −log10 of a p-value."""
        return exact_null()

    def scorer(
        self,
        classifier: TextClassifier,  # noqa: ARG002 - the model itself is not asked
        trusted: TextData,
        rng: np.random.Generator,
        progress: Progress,
    ) -> tuple[TextScorer, ScoreArray]:
        """How texts are scored, and the scores of the trusted texts, shape (m,).

        The trigram model scores a trusted text by what it learnt from other trusted texts only.

        Raises:
            NotApplicableError: Too few trusted texts.
            ModelError: The language model cannot be opened.
        """
        check_trusted_texts(trusted, "ONION")
        return self._scorer(trusted, self.perplexity(trusted.texts), rng, progress)

    def _scorer(
        self,
        trusted: TextData,
        perplexity: Perplexity,
        rng: np.random.Generator,
        progress: Progress,
    ) -> tuple[TextScorer, ScoreArray]:
        def score(texts: Sequence[str]) -> ScoreArray:
            return np.array([float(suspicions(text, perplexity).max()) for text in texts])

        if self.lm:
            return score, text_scores(trusted.texts, score, progress)
        fold = rng.permutation(len(trusted)) % _FOLDS
        normal = np.empty(len(trusted))
        for k in range(_FOLDS):
            others = WordTrigrams([t for t, f in zip(trusted.texts, fold, strict=True) if f != k])
            for i in np.flatnonzero(fold == k):
                normal[i] = suspicions(trusted.texts[int(i)], others).max()
            progress(k + 1, _FOLDS, "scoring trusted texts")
        return score, normal

    def perplexity(self, trusted: Sequence[str]) -> Perplexity:
        """The language model.

        Raises:
            ModelError: It cannot be opened.
        """
        return causal_perplexity(open_language_model(self.lm)) if self.lm else WordTrigrams(trusted)

    def purifier(
        self, classifier: TextClassifier, trusted: TextData, progress: Progress
    ) -> tuple["Purifier", float]:
        """What removes words, and the bar above which it does: the paper's own use.

        The bar is the smallest that costs trusted texts at most ``allowed_drop`` of accuracy.

        Raises:
            NotApplicableError: Too few trusted texts.
            DataError: The trusted texts' labels do not fit the model.
        """
        check_trusted_texts(trusted, "ONION")
        if int(trusted.labels.max()) >= classifier.n_classes:
            raise DataError(f"{trusted.name} has labels that {classifier.name} does not know")
        half = len(trusted) // 2
        learnt, judge = trusted.texts[:half], trusted.at(np.arange(half, len(trusted)))
        perplexity = self.perplexity(learnt)
        found = [suspicions(text, perplexity) for text in judge.texts]
        before = float((predict_texts(classifier, judge) == judge.labels).mean())
        bars = np.unique(np.quantile(np.concatenate(found), np.linspace(0.5, 1, 41)))
        bar = float("inf")
        for done, candidate in enumerate(bars[::-1]):
            texts = tuple(
                without_words(text, f, float(candidate))
                for text, f in zip(judge.texts, found, strict=True)
            )
            changed = TextData(
                name=judge.name, texts=texts, labels=judge.labels, class_names=judge.class_names
            )
            after = float((predict_texts(classifier, changed) == judge.labels).mean())
            progress(done + 1, len(bars), "choosing the bar")
            if before - after > self.allowed_drop + 1e-9:
                break
            bar = float(candidate)
        return Purifier(perplexity=self.perplexity(trusted.texts), bar=bar), bar


@dataclass(frozen=True, slots=True)
class Purifier:
    """Removes words whose suspicion is above a bar."""

    perplexity: Perplexity
    bar: float

    def __call__(self, text: str) -> str:
        """The text without them; never empty."""
        return without_words(text, suspicions(text, self.perplexity), self.bar)


def suspicions(text: str, perplexity: Perplexity) -> ScoreArray:
    """f_i of the first 256 words, shape (words,); at least one entry, 0 for a single word."""
    words = text.split()
    if len(words) < 2:
        return np.zeros(1)
    seen = min(len(words), _MOST_WORDS)
    without = [" ".join(words[:i] + words[i + 1 :]) for i in range(seen)]
    found = perplexity([" ".join(words), *without])
    return np.asarray(found[0] - found[1:])


def without_words(text: str, found: ScoreArray, bar: float) -> str:
    """The text without the words whose suspicion is above ``bar``; itself if none would be left."""
    words = text.split()
    kept = [w for i, w in enumerate(words) if i >= len(found) or found[i] <= bar]
    return " ".join(kept) if kept and len(kept) < len(words) else text
