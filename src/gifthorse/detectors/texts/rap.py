"""RAP: a word that makes the model less sure of clean texts does not move triggered ones.

Yang, Lin, Li, Zhou, Sun 2021, "RAP: Robustness-Aware Perturbations for Defending against Backdoor
Attacks on NLP Models" (arXiv:2110.07831). The embedding of one word is trained on trusted texts of
the protected class so that putting it in front lowers the probability of that class by .1 to .3;
inputs whose probability falls less than that of nearly all clean ones are flagged.

Deviations: the class that an attacker wants is not known, so there is one trained vector a class,
and an input is judged with that of its own predicted class. The vector stands behind the first
token and belongs to no word (the paper overwrites the row of a rare word), so the model is not
changed. The scores of a class are centred on the median drop of its trusted texts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gifthorse.core.errors import ModelError
from gifthorse.core.texts import TextData, TextSubject
from gifthorse.core.types import Evidence, Need, Null, Progress, ScoreArray, Unit
from gifthorse.detectors.inputs.calibrated import exact_null
from gifthorse.detectors.texts.calibrated import (
    MIN_TRUSTED,
    TextScorer,
    check_trusted_texts,
    judged_texts,
    text_inputs_of,
    text_scores,
)
from gifthorse.models.texts.classifier import TextClassifier

_BATCH = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Rap:
    """Judges texts by how much a disturbing word moves the model.

    Attributes:
        least_drop: Probability that the word shall cost clean texts at least, in (0, 1).
        most_drop: And at most, above ``least_drop``.
        epochs: Passes over the trusted texts that train the word, at least 1.
        learning_rate: Of Adam, in (0, 1].
        frr: False-rejection rate: share of clean inputs beyond the threshold, in (0, 0.5).
    """

    least_drop: float = 0.1
    most_drop: float = 0.3
    epochs: int = 5
    learning_rate: float = 0.01
    frr: float = 0.05

    needs: ClassVar[frozenset[Need]] = frozenset(
        {Need.LOGITS, Need.GRADIENTS, Need.TRUSTED, Need.SUSPECT_DATA}
    )
    unit: ClassVar[Unit] = Unit.SAMPLE
    paper: ClassVar[str] = "Yang et al. 2021 (RAP), arXiv:2110.07831"

    def __post_init__(self) -> None:
        if not 0 < self.least_drop < self.most_drop < 1:
            raise ValueError("expected 0 < least_drop < most_drop < 1")
        if not 1 <= self.epochs <= 1000:
            raise ValueError(f"epochs must be in 1 … 1000, got {self.epochs}")
        if not 0 < self.learning_rate <= 1:
            raise ValueError(f"learning_rate must be in (0, 1], got {self.learning_rate}")
        if not 0 < self.frr < 0.5:
            raise ValueError(f"frr must be in (0, 0.5), got {self.frr}")

    def forward_passes(self) -> str:
        """What one input costs beyond the model's own pass, in words."""
        return "two passes of the model"

    def inspect(
        self, subject: TextSubject, *, rng: np.random.Generator, progress: Progress
    ) -> Evidence:
        """Score every input of ``subject.suspect``.

        Raises:
            NotApplicableError: No text classifier, no inputs, or too few trusted texts.
            ModelError: The model gives NaN, or takes no embeddings.
        """
        inputs = text_inputs_of(subject, "RAP")
        score, normal = self.scorer(inputs.classifier, inputs.trusted, rng, progress)
        return judged_texts(
            inputs.suspect,
            text_scores(inputs.suspect.texts, score, progress),
            normal,
            frr=self.frr,
            title="Unmoved by a disturbing word",
            value_name="−drop of the probability, centred",
            caption="Minus the drop of the predicted class's probability, against the median of "
            "trusted texts of that class.",
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
        """How texts are scored, and the scores of the half of the trusted texts not trained on.

        Raises:
            NotApplicableError: Too few trusted texts.
            ModelError: The model takes no embeddings.
        """
        check_trusted_texts(trusted, "RAP")
        order = rng.permutation(len(trusted))
        half = len(trusted) // 2
        learning = [trusted.texts[int(i)] for i in order[:half]]
        judging = [trusted.texts[int(i)] for i in order[half:]]
        table = classifier.embeddings.weight.detach()
        words = table.mean(0).repeat(classifier.n_classes, 1)
        own = torch.cat([_answers(classifier, part)[1] for part in _parts(learning)])
        centres = np.zeros(classifier.n_classes)
        for c in range(classifier.n_classes):
            mine = [t for t, a in zip(learning, own.tolist(), strict=True) if a == c]
            if mine:
                words[c] = self._trained(classifier, mine, c, words[c], rng)
                centres[c] = np.median(_drops(classifier, mine, words)[0])
            progress(c + 1, classifier.n_classes, "training disturbing words")

        def score(texts: Sequence[str]) -> ScoreArray:
            drops, classes = _drops(classifier, texts, words)
            return np.asarray(centres[classes] - drops)

        return score, text_scores(judging, score, progress)

    def _trained(
        self,
        classifier: TextClassifier,
        texts: Sequence[str],
        target: int,
        start: Tensor,
        rng: np.random.Generator,
    ) -> Tensor:
        """A vector that lowers the probability of ``target`` on these texts, shape (width,)."""
        word = start.clone().requires_grad_(True)
        optimizer = torch.optim.Adam([word], lr=self.learning_rate)
        for _ in range(max(self.epochs, -(-self.epochs * MIN_TRUSTED // len(texts)))):
            shuffled = [texts[int(i)] for i in rng.permutation(len(texts))]
            for part in _parts(shuffled):
                plain, _ = _answers(classifier, part)
                disturbed, _ = _answers(classifier, part, word.expand(len(part), -1))
                drop = plain[:, target].detach() - disturbed[:, target]
                loss = functional.relu(self.least_drop - drop) + functional.relu(
                    drop - self.most_drop
                )
                optimizer.zero_grad()
                loss.mean().backward()  # type: ignore[no-untyped-call]
                optimizer.step()
        return word.detach()


def _parts(texts: Sequence[str]) -> list[list[str]]:
    return [list(texts[i : i + _BATCH]) for i in range(0, len(texts), _BATCH)]


def _answers(
    classifier: TextClassifier, texts: Sequence[str], words: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Probabilities (n, classes) and predicted classes, with a vector behind the first token."""
    ids, mask = classifier.tokens(texts)
    if words is None:
        with torch.no_grad():
            logits = classifier.logits(ids, mask)
    else:
        # The last token makes room where the text is as long as the model reads.
        longest = classifier.max_length - 1
        plain, mask = classifier.embeddings(ids)[:, :longest], mask[:, :longest]
        embedded = torch.cat([plain[:, :1], words[:, None].to(plain), plain[:, 1:]], 1)
        mask = torch.cat([mask[:, :1], torch.ones_like(mask[:, :1]), mask[:, 1:]], 1)
        classifier.meter.forward += len(ids)
        try:
            logits = classifier.module(inputs_embeds=embedded, attention_mask=mask).logits
        except (TypeError, ValueError) as error:
            raise ModelError(f"{classifier.name} takes no embeddings: {error}") from error
    soft = logits.double().softmax(-1)
    return soft, soft.argmax(-1)


def _drops(
    classifier: TextClassifier, texts: Sequence[str], words: Tensor
) -> tuple[ScoreArray, list[int]]:
    """How much the predicted class loses, shape (n,), and that class."""
    found, classes = [], []
    with torch.no_grad():
        for part in _parts(texts):
            plain, own = _answers(classifier, part)
            disturbed, _ = _answers(classifier, part, words[own])
            rows = torch.arange(len(part), device=own.device)
            found.append((plain[rows, own] - disturbed[rows, own]).cpu().numpy())
            classes += own.tolist()
    return np.concatenate(found), classes
