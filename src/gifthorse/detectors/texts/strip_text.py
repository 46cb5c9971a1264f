"""STRIP for texts: an input with a trigger keeps its class when half of its words are replaced.

Gao et al. 2021, "Design and Evaluation of a Multi-Domain Trojan Detection Method on Deep Neural
Networks" (STRIP-ViTA, arXiv:1911.10312). Of every input several copies are made in which a share of
the words is replaced by words of a trusted text, those that characterise it most (TF-IDF); the mean
entropy of the predictions is low if something in the input rules them all. ``scores`` are its
negative. The copies of one input are averaged among themselves (published code mixes inputs).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from gifthorse.core.errors import ModelError
from gifthorse.core.texts import TextData, TextSubject
from gifthorse.core.types import Evidence, Need, Null, Progress, ScoreArray, Unit
from gifthorse.detectors.inputs.calibrated import exact_null
from gifthorse.detectors.inputs.strip import mean_entropies
from gifthorse.detectors.texts.calibrated import (
    TextScorer,
    check_trusted_texts,
    judged_texts,
    text_inputs_of,
    text_scores,
)
from gifthorse.models.texts.classifier import TextClassifier
from gifthorse.models.texts.passes import predict_text_logits

_MOST_CALIBRATION = 1000
_TOKENS = re.compile(r"\S+")


@dataclass(frozen=True, slots=True, kw_only=True)
class StripText:
    """Judges texts by how steady the model's answer is when words are replaced.

    Attributes:
        copies: Perturbed copies of every input, 2 to 1000.
        share: Of the words that are replaced, in (0, 1).
        frr: False-rejection rate: share of clean inputs beyond the threshold, in (0, 0.5).
    """

    copies: int = 20
    share: float = 0.5
    frr: float = 0.05

    needs: ClassVar[frozenset[Need]] = frozenset({Need.LOGITS, Need.TRUSTED, Need.SUSPECT_DATA})
    unit: ClassVar[Unit] = Unit.SAMPLE
    paper: ClassVar[str] = "Gao et al. 2021 (STRIP-ViTA), arXiv:1911.10312"

    def __post_init__(self) -> None:
        if not 2 <= self.copies <= 1000:
            raise ValueError(f"copies must be in 2 … 1000, got {self.copies}")
        if not 0 < self.share < 1:
            raise ValueError(f"share must be in (0, 1), got {self.share}")
        if not 0 < self.frr < 0.5:
            raise ValueError(f"frr must be in (0, 0.5), got {self.frr}")

    def forward_passes(self) -> str:
        """What one input costs beyond the model's own pass, in words."""
        return f"{self.copies} passes of the model"

    def inspect(
        self, subject: TextSubject, *, rng: np.random.Generator, progress: Progress
    ) -> Evidence:
        """Score every input of ``subject.suspect``.

        Raises:
            NotApplicableError: No text classifier, no inputs, or too few trusted texts.
            ModelError: The model gives NaN.
        """
        inputs = text_inputs_of(subject, "STRIP")
        score, normal = self.scorer(inputs.classifier, inputs.trusted, rng, progress)
        return judged_texts(
            inputs.suspect,
            text_scores(inputs.suspect.texts, score, progress),
            normal,
            frr=self.frr,
            title="Steadiness under replaced words",
            value_name="−mean entropy (nats)",
            caption="Minus the mean entropy of the answers to perturbed copies.",
        )

    def null(self, evidence: Evidence) -> Null:  # noqa: ARG002 - the statistic is standardised
        """The statistic is −log10 of a p-value."""
        return exact_null()

    def scorer(
        self,
        classifier: TextClassifier,
        trusted: TextData,
        rng: np.random.Generator,
        progress: Progress,
    ) -> tuple[TextScorer, ScoreArray]:
        """How texts are scored, and the scores of at most 1,000 trusted texts.

        Raises:
            NotApplicableError: Too few trusted texts.
        """
        check_trusted_texts(trusted, "STRIP")
        telling = telling_words(trusted.texts)

        def entropies(texts: Sequence[str], own: Sequence[int]) -> ScoreArray:
            copies = [
                self._copy(text, telling, mine, rng)
                for text, mine in zip(texts, own, strict=True)
                for _ in range(self.copies)
            ]
            logits = predict_text_logits(classifier, copies)
            soft = torch.from_numpy(logits).double().softmax(-1).numpy()
            if not np.isfinite(soft).all():
                raise ModelError(f"{classifier.name} gives NaN on changed texts")
            return mean_entropies(soft.reshape(len(texts), self.copies, -1))

        chosen = np.sort(rng.permutation(len(trusted))[:_MOST_CALIBRATION])
        normal = []
        for done, i in enumerate(chosen):
            # A trusted text gets no words of its own.
            normal.append(entropies([trusted.texts[int(i)]], [int(i)]))
            progress(done + 1, len(chosen), "scoring trusted texts")
        return lambda texts: -entropies(texts, [-1] * len(texts)), -np.concatenate(normal)

    def _copy(
        self,
        text: str,
        telling: Sequence[Sequence[str]],
        own: int,
        rng: np.random.Generator,
    ) -> str:
        """The text with a share of its words replaced by the telling words of another text."""
        words = text.split()
        other = int(rng.integers(len(telling) - (own >= 0)))
        source = telling[other + (0 <= own <= other)]
        count = max(1, round(self.share * len(words)))
        places = rng.choice(len(words), size=count, replace=False)
        for rank, place in enumerate(places):
            words[int(place)] = source[rank % len(source)]
        return " ".join(words)


def telling_words(texts: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """The words of every text, those with the highest TF-IDF first; at least one a text."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(
        analyzer=_TOKENS.findall, lowercase=False, norm=None, sublinear_tf=False
    )
    table = vectorizer.fit_transform(texts).tocsr()
    names = vectorizer.get_feature_names_out()
    found = []
    for i in range(table.shape[0]):
        row = table[i]
        order = np.lexsort((row.indices, -row.data))
        found.append(tuple(str(names[j]) for j in row.indices[order]))
    return tuple(found)
