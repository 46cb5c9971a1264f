"""BNP: prune the channels whose statistics on clean pictures differ from those of training.

Zheng, Tang, Li & Liu 2022, "Pre-activation Distributions Expose Backdoor Neurons", NeurIPS,
section 4.2: the running statistics of batch normalisation come from poisoned training data. The
Kullback-Leibler divergence between a normal distribution with those and one with the statistics on
clean pictures is large for channels that the trigger drives; those beyond mean + u standard
deviations of their layer are pruned.

Decisions and deviations:

- The divergence is KL(training ‖ clean); both variances get the ε of the layer, so a channel that
  is constant on clean pictures has a finite divergence.
- Labels are not used. All trusted pictures are; the statistics of every layer are taken in one pass
  of the network as it is, without renormalising the layers before it.
- Layers of fewer than four channels are left alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from gifthorse.core.errors import NotApplicableError
from gifthorse.core.types import BoolArray, Evidence, ImageData, Need, Progress, ScoreArray, Subject
from gifthorse.data.images import batches
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.lipschitz import norm_names
from gifthorse.models.passes import to_tensor
from gifthorse.repairs.clp import outlying
from gifthorse.repairs.loops import check_between
from gifthorse.repairs.normalisation import silence_channels
from gifthorse.repairs.tuning import subject_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Bnp:
    """Pruning by the statistics of batch normalisation.

    Attributes:
        u: Standard deviations above the mean of its layer at which a channel is pruned, in
            (0, 100].

    Raises:
        ValueError: An option out of its range.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.WEIGHTS, Need.TRUSTED})
    paper: ClassVar[str] = "Zheng et al. 2022, BNP, NeurIPS, Pre-activation Distributions"

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
        """A pruned copy of the model; the evidence is not used.

        Raises:
            NotApplicableError: No model, no trusted pictures, or no batch normalisation that keeps
                statistics.
        """
        classifier, trusted = subject_of(subject)
        repaired = classifier.replaced(classifier.module)
        divergences = channel_divergences(repaired, trusted, progress)
        pruned: dict[str, BoolArray] = {
            name: outlying(values, self.u) for name, values in divergences.items()
        }
        silence_channels(repaired, pruned)
        return repaired


def gaussian_divergence(
    mean: ScoreArray, variance: ScoreArray, clean_mean: ScoreArray, clean_variance: ScoreArray
) -> ScoreArray:
    """KL(N(mean, variance) ‖ N(clean_mean, clean_variance)) of every channel, in nats, ≥ 0."""
    ratio = variance / clean_variance
    shift = (mean - clean_mean) ** 2 / clean_variance
    return np.asarray(0.5 * (ratio + shift - 1 - np.log(ratio)))


def channel_divergences(
    classifier: ImageClassifier, data: ImageData, progress: Progress
) -> dict[str, ScoreArray]:
    """Divergence of every channel's training statistics from those on clean pictures.

    Raises:
        NotApplicableError: No batch normalisation keeps statistics.
    """
    layers = {
        name: layer
        for name in norm_names(classifier)
        if isinstance(layer := classifier.module.get_submodule(name), nn.BatchNorm2d)
        and layer.running_mean is not None
        and layer.running_var is not None
    }
    if not layers:
        raise NotApplicableError(f"{classifier.name} keeps no statistics of batch normalisation")
    moments: dict[str, Tensor] = {}
    seen = dict.fromkeys(layers, 0)

    def add(name: str, x: Tensor) -> None:
        values = x.detach().double()
        sums = torch.stack([values.sum((0, 2, 3)), (values**2).sum((0, 2, 3))])
        moments[name] = moments[name] + sums if name in moments else sums
        seen[name] += values.numel() // values.shape[1]

    def hook(name: str) -> Any:
        return lambda _module, inputs: add(name, inputs[0])

    handles = [layer.register_forward_pre_hook(hook(name)) for name, layer in layers.items()]
    try:
        with torch.inference_mode():
            for indices, pixels in batches(data):
                classifier.logits(to_tensor(classifier, pixels))
                progress(int(indices[-1]) + 1, len(data), "clean statistics")
    finally:
        for handle in handles:
            handle.remove()
    found = {}
    for name, sums in moments.items():
        layer = layers[name]
        assert layer.running_mean is not None  # noqa: S101 - chosen above
        assert layer.running_var is not None  # noqa: S101 - chosen above
        first, second = (sums / seen[name]).cpu().numpy()
        clean = np.maximum(second - first**2, 0.0) + layer.eps
        kept = layer.running_var.double().cpu().numpy() + layer.eps
        found[name] = gaussian_divergence(
            layer.running_mean.double().cpu().numpy(), kept, first, clean
        )
    return found
