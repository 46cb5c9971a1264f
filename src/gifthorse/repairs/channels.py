"""Which inputs of the next linear layer each channel of the last convolution reaches.

Pruning a channel by zeroing its filter is not enough in a residual network: batch normalisation
gives it a bias again, and the shortcut adds what it carried. Here a channel is silenced where it is
read: the columns of the first linear layer after the last convolution. The result is the network
with that channel of the last block removed, in ordinary weights that save and load as before.

Which columns belong to which channel is found by trying it (push one channel of the convolution's
output up and down, and see which inputs of the linear layer move), so it holds for pooling and for
flattening, with or without shortcuts, and is refused where channels mix (layer normalisation,
attention, squeeze-and-excitation).
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from gifthorse.core.errors import NotApplicableError
from gifthorse.core.types import FloatArray, ImageData, IntArray, ScoreArray
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.passes import to_tensor

_PUSH = 50.0
"""How far a channel is pushed, in units of the largest activation of the layer (at least 1)."""

_NOISE = 2e-6
"""Smaller moves, in units of the push, are rounding: the push may be the largest number around."""

_AT_ONCE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Channels:
    """The channels of the last convolution, by the inputs of the next linear layer.

    Attributes:
        convolution: Name of the last convolutional layer that runs.
        linear: Name of the first linear layer after it.
        owner: The channel that each input of ``linear`` comes from, −1 for none, shape
            (in_features,).
        count: Number of channels.
    """

    convolution: str
    linear: str
    owner: IntArray
    count: int

    def prunable(self) -> IntArray:
        """Channels that reach the linear layer at all."""
        return np.unique(self.owner[self.owner >= 0])


def find_channels(classifier: ImageClassifier, pixels: FloatArray) -> Channels:
    """Find the last convolution, the linear layer that reads it, and which inputs are whose.

    Args:
        classifier: The model.
        pixels: One ordinary picture, shape (1, c, h, w) in [0, 1].

    Raises:
        NotApplicableError: No convolution, no linear layer after it, or its channels mix.
    """
    x = to_tensor(classifier, pixels)
    convolution, linear = _last_pair(classifier, x)
    with _watched(classifier, convolution, linear) as (outputs, inputs), torch.inference_mode():
        classifier.logits(x)
        if inputs[-1].ndim != 2:
            raise NotApplicableError(
                f"{classifier.name}: {linear!r} reads activations of shape "
                f"{tuple(inputs[-1].shape)}, not one vector a picture; fine-pruning needs a "
                "convolutional network that ends in a linear layer"
            )
        count = outputs[-1].shape[1]
        push = _PUSH * max(1.0, float(outputs[-1].abs().max()))
    moved = [
        _moved_by(classifier, x, convolution, linear, start, min(start + _AT_ONCE, count), push)
        for start in range(0, count, _AT_ONCE)
    ]
    touched = np.concatenate(moved)
    if (touched.sum(axis=0) > 1).any():
        raise NotApplicableError(
            f"{classifier.name}: the channels of {convolution!r} mix before {linear!r} reads them, "
            "so none can be pruned alone; fine_tuning and unlearning work on such a model"
        )
    owner = np.where(touched.any(axis=0), touched.argmax(axis=0), -1).astype(np.int64)
    return Channels(convolution=convolution, linear=linear, owner=owner, count=count)


def mean_activations(
    classifier: ImageClassifier, channels: Channels, data: ImageData, *, batch_size: int = 256
) -> ScoreArray:
    """Mean absolute activation of every channel over clean pictures, shape (count,).

    Taken where the linear layer reads it: after shortcut, activation and pooling. After a ReLU it
    is the mean activation. Channels that reach nothing have 0.
    """
    total = np.zeros(len(channels.owner))
    for start in range(0, len(data), batch_size):
        rows = np.arange(start, min(start + batch_size, len(data)), dtype=np.int64)
        x = to_tensor(classifier, data.batch(rows))
        watched = _watched(classifier, channels.convolution, channels.linear)
        with watched as (_, inputs), torch.inference_mode():
            classifier.logits(x)
        total += inputs[-1].double().abs().sum(0).cpu().numpy()
    means = np.zeros(channels.count)
    for channel in channels.prunable():
        means[channel] = total[channels.owner == channel].mean() / len(data)
    return means


def silence(module: nn.Module, channels: Channels, pruned: IntArray) -> None:
    """Zero, in place, what the linear layer reads of these channels."""
    columns = torch.from_numpy(np.isin(channels.owner, pruned))
    with torch.no_grad():
        _layer(module, channels.linear).weight[:, columns] = 0.0


def guarded(module: nn.Module, channels: Channels, pruned: IntArray) -> nn.Module:
    """A copy in which the pruned channels get no gradient, so that tuning cannot revive them.

    For training only: the guard is a hook. Take the weights out with ``state_dict``.
    """
    copied = copy.deepcopy(module)
    silence(copied, channels, pruned)
    linear = _layer(copied, channels.linear)
    linear.register_forward_pre_hook(_Mask(torch.from_numpy(~np.isin(channels.owner, pruned))))
    return copied


@dataclass(frozen=True, slots=True)
class _Mask:
    """Forward pre-hook that zeroes inputs of a linear layer."""

    kept: Tensor

    def __call__(self, _: nn.Module, inputs: tuple[Any, ...]) -> tuple[Tensor]:
        x: Tensor = inputs[0]
        return (x * self.kept.to(x),)


def _layer(module: nn.Module, name: str) -> nn.Linear:
    layer = module.get_submodule(name)
    assert isinstance(layer, nn.Linear)  # noqa: S101 - found by _last_pair
    return layer


def _last_pair(classifier: ImageClassifier, x: Tensor) -> tuple[str, str]:
    """Names of the last convolution that runs, and of the first linear layer after it."""
    calls: list[tuple[str, bool]] = []

    def watch(name: str, layer: nn.Module) -> RemovableHandle:
        call = (name, isinstance(layer, nn.Conv2d))
        return layer.register_forward_pre_hook(lambda _m, _i: calls.append(call))

    handles = [
        watch(name, layer)
        for name, layer in classifier.module.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    try:
        with torch.inference_mode():
            classifier.logits(x)
    finally:
        for handle in handles:
            handle.remove()
    last = max((i for i, (_, is_conv) in enumerate(calls) if is_conv), default=None)
    if last is None:
        raise NotApplicableError(
            f"{classifier.name} has no convolutional layer; fine-pruning needs one"
        )
    if last + 1 == len(calls):
        raise NotApplicableError(
            f"{classifier.name} has no linear layer after {calls[last][0]!r}; fine-pruning "
            "silences channels where a linear layer reads them"
        )
    return calls[last][0], calls[last + 1][0]


@contextmanager
def _watched(
    classifier: ImageClassifier, convolution: str, linear: str
) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    """Collect outputs of the convolution and inputs of the linear layer."""
    inputs: list[Tensor] = []
    layer = classifier.module.get_submodule(linear)
    handle = layer.register_forward_pre_hook(lambda _m, i: inputs.append(i[0]))
    try:
        with classifier.capture(convolution) as outputs:
            yield outputs, inputs
    finally:
        handle.remove()


def _moved_by(
    classifier: ImageClassifier,
    x: Tensor,
    convolution: str,
    linear: str,
    first: int,
    stop: int,
    push: float,
) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """Which inputs move when channels first … stop − 1 are pushed, shape (stop − first, inputs)."""
    still = _linear_inputs(classifier, x, convolution, linear, first, stop, 0.0)
    # An activation function may hide one direction, hence both.
    up, down = (
        _linear_inputs(classifier, x, convolution, linear, first, stop, by) for by in (push, -push)
    )
    return np.asarray(np.maximum(np.abs(up - still), np.abs(down - still)) > _NOISE * push)


def _linear_inputs(
    classifier: ImageClassifier,
    x: Tensor,
    convolution: str,
    linear: str,
    first: int,
    stop: int,
    by: float,
) -> FloatArray:
    """What the linear layer reads when each row has one channel of the convolution pushed."""
    rows = torch.arange(stop - first, device=x.device)

    def pushed(_m: nn.Module, _i: tuple[Any, ...], out: Tensor) -> Tensor:
        out = out.clone()
        out[rows, rows + first] += by
        return out

    handle = classifier.module.get_submodule(convolution).register_forward_hook(pushed)
    try:
        with _watched(classifier, convolution, linear) as (_, inputs), torch.inference_mode():
            classifier.logits(x.expand(len(rows), -1, -1, -1))
    finally:
        handle.remove()
    return np.asarray(inputs[-1].float().cpu().numpy(), dtype=np.float32)
