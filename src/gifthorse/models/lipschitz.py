"""How far each channel of a network can move, read from the weights alone.

Zheng, Tang, Li & Liu 2022, "Data-free Backdoor Removal based on Channel Lipschitzness",
arXiv:2208.03111, section 3.2: the upper bound of the channel Lipschitz constant.

Which convolution a batch normalisation reads is found by running a grey picture, not by the order
of attributes.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from gifthorse.core.errors import NotApplicableError
from gifthorse.core.types import ScoreArray
from gifthorse.models.classifier import ImageClassifier


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A convolution and the batch normalisation that reads its output, by name."""

    convolution: str
    normalisation: str


def norm_names(classifier: ImageClassifier) -> tuple[str, ...]:
    """Names of all batch normalisations over channels that have a weight and a bias.

    Raises:
        NotApplicableError: There is none.
    """
    found = tuple(
        name
        for name, layer in classifier.module.named_modules()
        if isinstance(layer, nn.BatchNorm2d) and layer.affine
    )
    if not found:
        raise NotApplicableError(
            f"{classifier.name} has no batch normalisation; this method examines its channels"
        )
    return found


def pairs_of(classifier: ImageClassifier) -> tuple[Pair, ...]:
    """Every convolution whose output a batch normalisation reads, in the order they run.

    Raises:
        NotApplicableError: There is none.
    """
    names = set(norm_names(classifier))
    produced: list[tuple[str, Tensor]] = []
    pairs: list[Pair] = []

    def watch(name: str, layer: nn.Module) -> RemovableHandle:
        if isinstance(layer, nn.Conv2d):
            return layer.register_forward_hook(lambda _m, _i, out: produced.append((name, out)))

        def read(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            pairs.extend(
                Pair(convolution=conv, normalisation=name)
                for conv, out in produced
                if out is inputs[0]
            )

        return layer.register_forward_pre_hook(read)

    handles = [
        watch(name, layer)
        for name, layer in classifier.module.named_modules()
        if isinstance(layer, nn.Conv2d) or name in names
    ]
    try:
        with torch.inference_mode():
            grey = torch.full((1, *classifier.input_shape), 0.5, device=classifier.device)
            classifier.logits(grey)
    finally:
        for handle in handles:
            handle.remove()
    if not pairs:
        raise NotApplicableError(
            f"{classifier.name} has no convolution that a batch normalisation reads directly"
        )
    return tuple(pairs)


def channel_bounds(classifier: ImageClassifier, pair: Pair) -> ScoreArray:
    """Upper bound of the Lipschitz constant of every channel, shape (channels,), ≥ 0.

    The largest singular value of the channel's filter as a matrix (inputs, kernel area), times
    |γ| / √(σ² + ε) of its batch normalisation.
    """
    convolution = classifier.module.get_submodule(pair.convolution)
    norm = classifier.module.get_submodule(pair.normalisation)
    assert isinstance(convolution, nn.Conv2d)  # noqa: S101 - found by pairs_of
    assert isinstance(norm, nn.BatchNorm2d)  # noqa: S101 - found by pairs_of
    weight = convolution.weight.detach().double().flatten(2)
    largest = torch.linalg.matrix_norm(weight, ord=2)
    scale = norm.weight.detach().double().abs()
    if norm.running_var is not None:
        scale = scale / (norm.running_var.double() + norm.eps).sqrt()
    return np.asarray((largest * scale).cpu().numpy(), dtype=np.float64)
