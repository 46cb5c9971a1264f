"""A guard before a text classifier that serves: every text is scored, suspicious ones flagged.

The same promise as for pictures (``auditing.guard``): the threshold is an order statistic of the
scores of trusted texts, so at most the stated share of clean inputs *like those* is flagged.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from gifthorse.auditing.examine import plugins
from gifthorse.auditing.guard_values import ACTIONS, Guarded, threshold_of
from gifthorse.auditing.scan_texts import same_labels
from gifthorse.core.errors import DataError, ModelError, SpecError
from gifthorse.core.rng import child_rng
from gifthorse.core.texts import TextData
from gifthorse.core.types import Progress, Threshold, silent
from gifthorse.data.texts import load_texts
from gifthorse.detectors.texts.calibrated import TextScorer
from gifthorse.models.texts.classifier import TextClassifier
from gifthorse.models.texts.loading import load_text_classifier
from gifthorse.models.texts.passes import predict_text_logits

DEFAULT_TEXT_DETECTOR = "strip_text"
TEXT_ACTIONS = (*ACTIONS, "purify")


class TextGuard:
    """A text classifier behind a detector of inputs; made by ``guard``.

    Attributes:
        threshold: Scores above it are flagged, how often clean inputs are, and why.
        extra_cost: What one input costs beyond the model's own pass, in words.
        action: ``flag``, ``refuse`` or ``purify``.
    """

    def __init__(
        self,
        classifier: TextClassifier,
        score: TextScorer,
        threshold: Threshold,
        *,
        extra_cost: str,
        action: str,
        purify: object = None,
    ) -> None:
        self.threshold = threshold
        self.extra_cost = extra_cost
        self.action = action
        self._classifier, self._score, self._purify = classifier, score, purify

    def __call__(self, texts: Sequence[str]) -> Guarded:
        """Answer and judge texts.

        Raises:
            DataError: No texts, or an empty one.
            ModelError: The model gives NaN.
        """
        if isinstance(texts, str) or not texts or not all(text.strip() for text in texts):
            raise DataError("expected a list of texts, none of them empty")
        values = self._score(texts)
        if not np.isfinite(values).all():
            raise ModelError(f"{self._classifier.name} gives NaN or infinite values")
        read = list(texts)
        if callable(self._purify):
            read = [str(self._purify(text)) for text in texts]
        logits = torch.from_numpy(predict_text_logits(self._classifier, read))
        scores = torch.from_numpy(values)
        flagged = scores > self.threshold.value
        if self.action == "refuse":
            logits[flagged] = float("nan")
        return Guarded(logits=logits, flagged=flagged, scores=scores)


def guard_texts(
    model: TextClassifier | str | Path,
    *,
    trusted: TextData | str,
    detector: str = DEFAULT_TEXT_DETECTOR,
    false_alarm_rate: float = 0.01,
    action: str = "flag",
    seed: int = 0,
    progress: Progress = silent,
) -> TextGuard:
    """Put a detector of inputs before a text classifier.

    Args:
        model: A directory, or a ``TextClassifier``.
        trusted: Texts that you know are clean and that the model was not trained on; at least
            1 / false_alarm_rate of them.
        detector: ``onion``, ``strip_text`` or ``rap``, with options as ``name:option=value,…``.
        false_alarm_rate: Share of clean inputs that may be flagged, in (0, 0.5).
        action: ``flag`` answers and marks; ``refuse`` also makes the logits NaN; ``purify``
            answers the text without its suspicious words (ONION).
        seed: Of all randomness.
        progress: Called during calibration.

    Returns:
        Called with a list of texts, it gives ``Guarded``.

    Raises:
        ModelError, DataError, SpecError: The input does not fit.
        NotApplicableError: The detector cannot work on this model.
    """
    if action not in TEXT_ACTIONS:
        raise SpecError(f"action must be one of {', '.join(TEXT_ACTIONS)}, got {action!r}")
    (plugin,) = plugins("text_detectors", [detector])
    if action == "purify" and not hasattr(plugin, "purifier"):
        raise SpecError(f"{detector} points to no words that could be removed; choose onion")
    classifier = model if isinstance(model, TextClassifier) else load_text_classifier(model)
    clean = load_texts(trusted, split="test") if isinstance(trusted, str) else trusted
    score, normal = plugin.scorer(classifier, clean, child_rng(seed, "guard"), progress)
    threshold = threshold_of(normal, false_alarm_rate, "texts")
    purify = None
    if action == "purify":
        purify, _ = plugin.purifier(classifier, same_labels(classifier, clean), progress)
    return TextGuard(
        classifier,
        score,
        threshold,
        extra_cost=plugin.forward_passes(),
        action=action,
        purify=purify,
    )
