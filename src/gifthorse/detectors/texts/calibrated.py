"""What detectors of single texts share: scores of inputs against those of trusted texts.

As for pictures (``detectors.inputs.calibrated``): the threshold is an order statistic of the
trusted texts' own scores, and all inputs together are judged by how many pass it. Both hold if
clean inputs and trusted texts come from the same source, and the model was trained on neither.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from gifthorse.core.errors import ModelError, NotApplicableError
from gifthorse.core.exhibits import Passage, TextsExhibit
from gifthorse.core.texts import TextData, TextSubject
from gifthorse.core.types import Evidence, Progress, ScoreArray, Unit
from gifthorse.detectors.inputs.calibrated import beyond_threshold, histogram
from gifthorse.metrics.exact import surprise
from gifthorse.models.texts.classifier import TextClassifier, as_text_classifier

MIN_TRUSTED = 20
_CHUNK = 64
_SHOWN = 8

TextScorer = Callable[[Sequence[str]], ScoreArray]
"""Scores (n,) of texts; higher is worse."""
Marker = Callable[[str], tuple[tuple[int, int], ...]]
"""Where in a text the suspicious words stand, as (start, end)."""


class TextInputDetector(Protocol):
    """A detector that scores single texts, so that a guard can use it."""

    @property
    def frr(self) -> float:
        """False-rejection rate of a single input."""

    def forward_passes(self) -> str:
        """What one input costs beyond the model's own pass, in words."""

    def scorer(
        self,
        classifier: TextClassifier,
        trusted: TextData,
        rng: np.random.Generator,
        progress: Progress,
    ) -> tuple[TextScorer, ScoreArray]:
        """How texts are scored, and the scores of the trusted texts, shape (m,)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextInputs:
    """A classifier, the texts to judge, and trusted texts."""

    classifier: TextClassifier
    suspect: TextData
    trusted: TextData


def text_inputs_of(subject: TextSubject, method: str) -> TextInputs:
    """What a detector of texts works on.

    Raises:
        NotApplicableError: No text classifier, no inputs, or too few trusted texts.
    """
    classifier = as_text_classifier(subject.model)
    if subject.suspect is None or subject.trusted is None:
        raise NotApplicableError(f"{method} needs the inputs to judge and trusted texts")
    check_trusted_texts(subject.trusted, method)
    return TextInputs(classifier=classifier, suspect=subject.suspect, trusted=subject.trusted)


def check_trusted_texts(trusted: TextData, method: str) -> None:
    """Refuse too few trusted texts.

    Raises:
        NotApplicableError: Fewer than twenty.
    """
    if len(trusted) < MIN_TRUSTED:
        raise NotApplicableError(
            f"{len(trusted)} trusted texts; {method} needs at least {MIN_TRUSTED} to know what is "
            "normal"
        )


def text_scores(texts: Sequence[str], score: TextScorer, progress: Progress) -> ScoreArray:
    """The score of every text, shape (n,).

    Raises:
        ModelError: A score is not finite.
    """
    parts = []
    for start in range(0, len(texts), _CHUNK):
        parts.append(score(texts[start : start + _CHUNK]))
        progress(min(start + _CHUNK, len(texts)), len(texts), "scoring texts")
    found = np.concatenate(parts)
    if not np.isfinite(found).all():
        raise ModelError("the model gives NaN or infinite values on changed texts")
    return found


def judged_texts(
    suspect: TextData,
    scores: ScoreArray,
    normal: ScoreArray,
    *,
    frr: float,
    title: str,
    value_name: str,
    caption: str,
    marker: Marker | None = None,
) -> Evidence:
    """The evidence: scores, how surprising the number beyond the threshold is, and the worst texts.

    Args:
        suspect: What was examined.
        scores: Of the inputs, shape (n,).
        normal: Of trusted texts, shape (m,).
        frr: False-rejection rate of a single input.
        title: Of the histogram.
        value_name: Of the score.
        caption: Says what a high score means.
        marker: Finds the suspicious words of a text; None if the method points to no words.
    """
    found = beyond_threshold(scores, normal, frr=frr, trusted="trusted texts")
    shown = TextsExhibit(
        title="The most suspect inputs",
        caption="Highest scores first."
        + (" What the method takes for the trigger is marked." if marker else ""),
        passages=tuple(
            Passage(
                label=f"#{i}, score {scores[i]:.3g}",
                text=suspect.texts[int(i)],
                marks=marker(suspect.texts[int(i)]) if marker else (),
            )
            for i in found.suspects[:_SHOWN]
        ),
    )
    return Evidence(
        unit=Unit.SAMPLE,
        scores=scores,
        statistic=surprise(found.p_value),
        suspects=found.suspects,
        exhibits=(
            histogram(scores, normal, found.cut, title, value_name, caption),
            *((shown,) if len(found.suspects) else ()),
        ),
        notes=found.notes,
    )
