"""A guard before a model that serves: every input is scored, suspicious ones flagged or refused.

The threshold is an order statistic of the scores of trusted pictures, so at most the stated share
of clean inputs *like those* is flagged. Inputs of another kind (another camera, another country)
may be flagged more often; watch the rate in use.
"""

from pathlib import Path
from typing import cast, overload

import numpy as np
import torch
from torch import Tensor, nn

from gifthorse.auditing.examine import plugins
from gifthorse.auditing.guard_texts import DEFAULT_TEXT_DETECTOR, TextGuard, guard_texts
from gifthorse.auditing.guard_values import ACTIONS, Guarded, threshold_of
from gifthorse.auditing.subjects import Classifiers, Pictures, hold
from gifthorse.core.errors import DataError, ModelError, SpecError
from gifthorse.core.rng import child_rng
from gifthorse.core.texts import TextData
from gifthorse.core.types import Progress, Threshold, silent
from gifthorse.detectors.inputs.calibrated import Scorer, check_trusted
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.texts.classifier import TextClassifier
from gifthorse.models.texts.loading import is_text_classifier

DEFAULT_DETECTOR = "strip:overlays=20"


class Guard(nn.Module):
    """A classifier behind a detector of inputs; made by ``guard``.

    Attributes:
        threshold: Scores above it are flagged, how often clean inputs are, and why.
        extra_forward_passes: What one input costs beyond the model's own pass.
        action: ``flag`` or ``refuse``.
    """

    def __init__(
        self,
        classifier: ImageClassifier,
        score: Scorer,
        threshold: Threshold,
        *,
        extra_forward_passes: int,
        action: str,
    ) -> None:
        super().__init__()
        self.threshold = threshold
        self.extra_forward_passes = extra_forward_passes
        self.action = action
        self.model = classifier.module
        self._classifier, self._score = classifier, score

    def forward(self, x: Tensor) -> Guarded:
        """Answer and judge pictures (n, c, h, w) in [0, 1].

        Raises:
            ModelError: The pictures do not fit the model.
            DataError: Pixels outside [0, 1], or NaN: no score would mean anything.
        """
        if x.ndim != 4 or not len(x):
            raise DataError(f"pictures of shape {tuple(x.shape)}; expected (n, c, h, w), n ≥ 1")
        if not bool(torch.isfinite(x).all()) or float(x.min()) < 0 or float(x.max()) > 1:
            raise DataError("pixels must be finite and in [0, 1]; undo any normalisation")
        x = x.to(self._classifier.device)
        with torch.inference_mode():
            logits = self._classifier.logits(x)
        values = self._score(x)
        if not np.isfinite(values).all():
            raise ModelError(f"{self._classifier.name} gives NaN or infinite logits")
        scores = torch.from_numpy(values).to(logits.device)
        flagged = scores > self.threshold.value
        logits = logits.clone()
        if self.action == "refuse":
            logits[flagged] = float("nan")
        return Guarded(logits=logits, flagged=flagged, scores=scores)


@overload
def guard(
    model: TextClassifier,
    *,
    trusted: TextData | str,
    detector: str | None = None,
    false_alarm_rate: float = 0.01,
    action: str = "flag",
    seed: int = 0,
    progress: Progress = silent,
) -> TextGuard: ...


@overload
def guard(
    model: Classifiers,
    *,
    trusted: Pictures,
    detector: str | None = None,
    false_alarm_rate: float = 0.01,
    action: str = "flag",
    seed: int = 0,
    progress: Progress = silent,
) -> Guard: ...


def guard(
    model: Classifiers | TextClassifier,
    *,
    trusted: Pictures | TextData,
    detector: str | None = None,
    false_alarm_rate: float = 0.01,
    action: str = "flag",
    seed: int = 0,
    progress: Progress = silent,
) -> Guard | TextGuard:
    """Put a detector of inputs before a classifier.

    A text classifier, or its directory, gets a guard of texts, see ``guard_texts``.

    Args:
        model: A model directory, ``hub:OWNER/NAME`` or an ``ImageClassifier``.
        trusted: Pictures that you know are clean and that the model was not trained on; at least
            1 / false_alarm_rate of them.
        detector: A detector that scores single inputs (``strip``, ``scale_up``, ``ibd_psc``,
            ``teco``, ``ted``), with options as ``name:option=value,…``.
        false_alarm_rate: Share of clean inputs that may be flagged, in (0, 0.5).
        action: ``flag`` answers and marks; ``refuse`` also makes the logits NaN.
        seed: Of all randomness.
        progress: Called during calibration.

    Returns:
        A torch module: pictures (n, c, h, w) in [0, 1] → ``Guarded``.

    Raises:
        ModelError, DataError, SpecError: The input does not fit.
        NotApplicableError: The detector cannot work on this model.
    """
    if _reads_texts(model) or isinstance(model, TextClassifier):
        if not isinstance(trusted, TextData | str):
            raise DataError("a text classifier is guarded with trusted texts: texts:FILE.jsonl")
        return guard_texts(
            cast("TextClassifier | str | Path", model),
            trusted=trusted,
            detector=detector or DEFAULT_TEXT_DETECTOR,
            false_alarm_rate=false_alarm_rate,
            action=action,
            seed=seed,
            progress=progress,
        )
    if isinstance(trusted, TextData):
        raise DataError(f"{model} is no text classifier, and texts cannot guard it")
    detector = detector or DEFAULT_DETECTOR
    if action not in ACTIONS:
        raise SpecError(f"action must be one of {', '.join(ACTIONS)}, got {action!r}")
    if not 0 < false_alarm_rate < 0.5:
        raise DataError(f"the false-alarm rate must be in (0, 0.5), got {false_alarm_rate}")
    (plugin,) = plugins("detectors", [detector])
    if not (hasattr(plugin, "scorer") and hasattr(plugin, "forward_passes")):
        raise SpecError(
            f"{detector} does not score single inputs; choose strip, scale_up, ibd_psc, teco or ted"
        )
    held = hold(model, trusted, samples=None, seed=seed)
    assert held.trusted is not None  # noqa: S101 - trusted pictures are required here
    check_trusted(held.trusted, "a guard")
    score, normal = plugin.scorer(held.classifier, held.trusted, child_rng(seed, "guard"), progress)
    threshold = threshold_of(normal, false_alarm_rate, "pictures")
    return Guard(
        held.classifier,
        score,
        threshold,
        extra_forward_passes=plugin.forward_passes(),
        action=action,
    )


def _reads_texts(model: object) -> bool:
    return isinstance(model, str | Path) and is_text_classifier(model)
