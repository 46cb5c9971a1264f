"""IBD-PSC: a triggered input keeps its confidence when the network's own scales are amplified.

Hou, Feng, Hua, Luo, Zhang & Li 2024, "IBD-PSC: Input-level Backdoor Detection via
Parameter-oriented Scaling Consistency", ICML, arXiv:2405.09786, sections 4.2 and 4.3: weights and
biases of the last k batch normalisations are multiplied by ω; k grows until the error on trusted
pictures passes ξ; the mean probability of the input's class over n such networks, each with one
more amplified layer, is the score.

Decisions and deviations: the threshold is an order statistic of the trusted scores at ``frr``
(the paper: .9); where the error never passes ξ, all layers are the start.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from gifthorse.core.types import (
    Evidence,
    ImageData,
    Need,
    Null,
    Progress,
    ScoreArray,
    Subject,
    Unit,
)
from gifthorse.detectors.inputs.calibrated import Scorer, exact_null, inputs_of, judged, scores_of
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.lipschitz import norm_names
from gifthorse.models.passes import predict


@dataclass(frozen=True, slots=True, kw_only=True)
class IbdPsc:
    """Parameter-oriented scaling consistency.

    Attributes:
        omega: Factor of weights and biases, in (1, 100].
        networks: n, amplified networks; costs n + 1 forward passes an input.
        error: ξ, error on trusted pictures at which amplification is strong enough, in (0, 1).
        frr: False-rejection rate: share of clean inputs beyond the threshold, in (0, 0.5).

    Raises:
        ValueError: An option out of range.
    """

    omega: float = 1.5
    networks: int = 5
    error: float = 0.6
    frr: float = 0.01

    needs: ClassVar[frozenset[Need]] = frozenset(
        {Need.LOGITS, Need.WEIGHTS, Need.TRUSTED, Need.SUSPECT_DATA}
    )
    unit: ClassVar[Unit] = Unit.SAMPLE
    paper: ClassVar[str] = "Hou et al. 2024, IBD-PSC, arXiv:2405.09786"

    def __post_init__(self) -> None:
        if not 1 < self.omega <= 100:
            raise ValueError(f"omega must be in (1, 100], got {self.omega}")
        if not 1 <= self.networks <= 100:
            raise ValueError(f"networks must be in 1 … 100, got {self.networks}")
        for name, value, high in (("error", self.error, 1.0), ("frr", self.frr, 0.5)):
            if not (math.isfinite(value) and 0 < value < high):
                raise ValueError(f"{name} must be in (0, {high:g}), got {value}")

    def forward_passes(self) -> int:
        """Forward passes for one input, its own included."""
        return self.networks + 1

    def inspect(
        self, subject: Subject, *, rng: np.random.Generator, progress: Progress
    ) -> Evidence:
        """Score every input of ``subject.suspect``.

        Raises:
            NotApplicableError, DataError: See ``inputs_of``; also no batch normalisation.
            ModelError: The model gives NaN or infinite logits.
        """
        inputs = inputs_of(subject, "IBD-PSC")
        score, normal = self.scorer(inputs.classifier, inputs.trusted, rng, progress)
        scores = scores_of(inputs.classifier, inputs.suspect, score, progress)
        return judged(
            inputs.suspect,
            scores,
            normal,
            frr=self.frr,
            title="Steadiness under amplified weights",
            value_name="probability of the class",
            caption="How sure amplified networks are of the input's class.",
        )

    def null(self, evidence: Evidence) -> Null:  # noqa: ARG002 - the statistic is standardised
        """The statistic is −log10 of an exact p-value."""
        return exact_null()

    def scorer(
        self,
        classifier: ImageClassifier,
        trusted: ImageData,
        rng: np.random.Generator,  # noqa: ARG002 - nothing is drawn
        progress: Progress,
    ) -> tuple[Scorer, ScoreArray]:
        """How inputs are scored, and the scores of the trusted pictures, shape (m,)."""
        amplified = self.amplified(classifier, trusted)

        def score(x: Tensor) -> ScoreArray:
            with torch.inference_mode():
                own = classifier.logits(x).argmax(1)
                total = torch.zeros(len(x), dtype=torch.float64, device=x.device)
                for network in amplified:
                    soft = network.logits(x).double().softmax(1)
                    total += soft.gather(1, own[:, None])[:, 0]
            classifier.meter.forward += len(x) * len(amplified)
            return np.asarray((total / len(amplified)).cpu().numpy(), dtype=np.float64)

        return score, scores_of(classifier, trusted, score, progress)

    def amplified(
        self, classifier: ImageClassifier, trusted: ImageData
    ) -> tuple[ImageClassifier, ...]:
        """The n networks, the first just strong enough, each with one more amplified layer."""
        names = norm_names(classifier)[::-1]
        start = len(names)
        for count in range(1, len(names) + 1):
            trial = self._scaled(classifier, names[:count])
            wrong = float((predict(trial, trusted) != trusted.labels).mean())
            classifier.meter.forward += len(trusted)
            if wrong > self.error:
                start = count
                break
        counts = range(start, start + self.networks)
        return tuple(self._scaled(classifier, names[: min(c, len(names))]) for c in counts)

    def _scaled(self, classifier: ImageClassifier, names: tuple[str, ...]) -> ImageClassifier:
        """A copy with these batch normalisations multiplied by ω."""
        copied = classifier.replaced(classifier.module)
        with torch.no_grad():
            for name in names:
                layer = copied.module.get_submodule(name)
                assert isinstance(layer, nn.BatchNorm2d)  # noqa: S101 - found by norm_names
                layer.weight.mul_(self.omega)
                layer.bias.mul_(self.omega)
        return copied
