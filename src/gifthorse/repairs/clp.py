"""CLP: prune the channels to which the network is most sensitive. Needs no pictures at all.

Zheng, Tang, Li & Liu 2022, "Data-free Backdoor Removal based on Channel Lipschitzness",
arXiv:2208.03111, section 3.3 and Algorithm 1: the largest singular value of a channel's filter,
times the scale that batch normalisation gives it, bounds how much the channel can move; channels
beyond mean + u standard deviations of their layer are pruned.

Deviations: which batch normalisation reads which convolution is found by running a grey picture,
not by the order of modules; layers of fewer than four channels are left alone. u = 3 is the
paper's for CIFAR-10 with ResNet-18; it is an option, not chosen on any attack.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gifthorse.core.types import BoolArray, Evidence, Need, Progress, ScoreArray, Subject
from gifthorse.models.classifier import ImageClassifier, as_classifier
from gifthorse.models.lipschitz import channel_bounds, pairs_of
from gifthorse.repairs.loops import check_between
from gifthorse.repairs.normalisation import silence_channels

MIN_CHANNELS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Clp:
    """Channel-Lipschitzness pruning; data-free.

    Attributes:
        u: Standard deviations above the mean of its layer at which a channel is pruned, in
            (0, 100].

    Raises:
        ValueError: An option out of its range.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.WEIGHTS})
    paper: ClassVar[str] = "Zheng et al. 2022, CLP, arXiv:2208.03111"

    u: float = 3.0

    def __post_init__(self) -> None:
        check_between(("u", self.u, 0, 100))

    def repair(
        self,
        subject: Subject,
        evidence: Sequence[Evidence],  # noqa: ARG002 - needs none
        *,
        rng: np.random.Generator,  # noqa: ARG002 - nothing is drawn
        progress: Progress,
    ) -> ImageClassifier:
        """A pruned copy of the model; pictures and evidence are not used.

        Raises:
            NotApplicableError: No model, or no convolution that batch normalisation reads.
        """
        classifier = as_classifier(subject.model)
        pairs = pairs_of(classifier)
        pruned: dict[str, BoolArray] = {}
        for i, pair in enumerate(pairs):
            chosen = outlying(channel_bounds(classifier, pair), self.u)
            seen = pruned.get(pair.normalisation)
            pruned[pair.normalisation] = chosen if seen is None else seen | chosen
            progress(i + 1, len(pairs), "channel Lipschitzness")
        repaired = classifier.replaced(classifier.module)
        silence_channels(repaired, pruned)
        return repaired


def outlying(values: ScoreArray, u: float) -> BoolArray:
    """Which values exceed mean + u standard deviations (n − 1) of all; none of fewer than four."""
    if len(values) < MIN_CHANNELS:
        return np.zeros(len(values), dtype=np.bool_)
    return np.asarray(values > values.mean() + u * values.std(ddof=1))
