"""Channel Lipschitzness: does one channel move far more than its neighbours could? Needs no data.

Zheng, Tang, Li & Liu 2022, "Data-free Backdoor Removal based on Channel Lipschitzness",
arXiv:2208.03111, section 3.2 give the bound of every channel and prune outliers; they do not judge
a model by them. The judgement is our own: within every layer, the logarithms of the bounds are
studentised (each channel against all others of its layer), and the smallest p-value, Bonferroni
corrected for channels and layers, is the model's.

It assumes that log bounds are close to normal within a layer of a clean network. Dead channels
(bounds below a thousandth of the layer's median) are left out, as training makes those everywhere.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import stats

from gifthorse.core.errors import ModelError, NotApplicableError
from gifthorse.core.exhibits import BarsExhibit
from gifthorse.core.types import Evidence, Need, Null, Progress, ScoreArray, Subject, Unit
from gifthorse.metrics.exact import SurpriseNull, surprise
from gifthorse.metrics.outliers import studentised_residuals
from gifthorse.models.classifier import as_classifier
from gifthorse.models.lipschitz import channel_bounds, pairs_of

_DEAD = 1e-3
_SHOWN = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelLipschitz:
    """Outlying channel Lipschitz bounds; data-free.

    Attributes:
        least_channels: Layers of fewer channels are not judged, at least 4.

    Raises:
        ValueError: An option out of range.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.WEIGHTS})
    unit: ClassVar[Unit] = Unit.MODEL
    paper: ClassVar[str] = "our own test on the statistic of Zheng et al. 2022, arXiv:2208.03111"

    least_channels: int = 8

    def __post_init__(self) -> None:
        if not 4 <= self.least_channels < 2**31:
            raise ValueError(f"least_channels must be at least 4, got {self.least_channels}")

    def inspect(
        self,
        subject: Subject,
        *,
        rng: np.random.Generator,  # noqa: ARG002 - nothing is drawn
        progress: Progress,
    ) -> Evidence:
        """−log10 of the corrected p-value of the most outlying channel.

        Raises:
            NotApplicableError: No classifier, or no layer that can be judged.
            ModelError: The weights hold NaN or infinite values.
        """
        classifier = as_classifier(subject.model)
        p_values, labels = [], []
        pairs = pairs_of(classifier)
        for i, pair in enumerate(pairs):
            bounds = channel_bounds(classifier, pair)
            if not np.isfinite(bounds).all():
                raise ModelError(f"{classifier.name}: {pair.convolution} holds NaN or infinity")
            alive = np.flatnonzero(bounds > _DEAD * np.median(bounds))
            if len(alive) >= self.least_channels:
                p_values.append(layer_p_values(bounds[alive]))
                labels += [f"{pair.normalisation}[{k}]" for k in alive]
            progress(i + 1, len(pairs), "channel Lipschitzness")
        if not p_values:
            raise NotApplicableError(
                f"{classifier.name} has no normalised layer of {self.least_channels} channels"
            )
        every = np.concatenate(p_values)
        statistic = surprise(min(1.0, float(every.min()) * len(every)))
        worst = np.argsort(every, kind="stable")[:_SHOWN]
        return Evidence(
            unit=Unit.MODEL,
            scores=np.array([statistic]),
            statistic=statistic,
            exhibits=(
                BarsExhibit(
                    title="The channels that can move farthest",
                    caption="−log10 p of each channel's Lipschitz bound within its layer.",
                    labels=tuple(labels[k] for k in worst),
                    values=tuple(float(f"{surprise(float(every[k])):.5g}") for k in worst),
                    value_name="−log10 p",
                    highlight=(0,),
                    judged=False,
                ),
            ),
        )

    def null(self, evidence: Evidence) -> Null:  # noqa: ARG002 - the statistic is standardised
        """The statistic is −log10 of a p-value."""
        return SurpriseNull(
            "Bonferroni over all channels; assumes that logarithms of channel bounds are close to "
            "normal within a layer of a clean network"
        )


def layer_p_values(bounds: ScoreArray) -> ScoreArray:
    """One-sided p-value of every channel's log bound against the others', shape (n,), n ≥ 3."""
    residuals = studentised_residuals(np.log(bounds))
    return np.asarray(stats.t.sf(residuals, len(bounds) - 2).clip(1e-300))
