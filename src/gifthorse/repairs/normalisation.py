"""The channels of a network by their batch normalisation: what several repairs prune.

A channel is silenced by a zero weight and a zero bias of its batch normalisation; the result is
ordinary weights that save and load as before. Where batch normalisation is followed by a sum with a
shortcut, the shortcut still carries its own channel.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from gifthorse.core.errors import ModelError
from gifthorse.core.types import BoolArray, ImageData
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.lipschitz import norm_names
from gifthorse.models.passes import predict


def silence_channels(
    classifier: ImageClassifier, pruned: dict[str, BoolArray], *, keep_bias: bool = False
) -> None:
    """Zero, in place, weight and bias of these channels (name → (channels,) True = silence)."""
    with torch.no_grad():
        for name, chosen in pruned.items():
            layer = classifier.module.get_submodule(name)
            assert isinstance(layer, nn.BatchNorm2d)  # noqa: S101 - found by norm_names
            at = torch.from_numpy(chosen).to(classifier.device)
            layer.weight[at] = 0.0
            if not keep_bias:
                layer.bias[at] = 0.0


class Gates:
    """A network whose batch-normalisation weights and biases are scaled from outside.

    Args:
        classifier: The network; its weights are not changed and its meter counts.
    """

    def __init__(self, classifier: ImageClassifier) -> None:
        self.classifier = classifier
        self.names = norm_names(classifier)
        values = dict(classifier.module.named_parameters())
        self._weights = [values[f"{name}.weight"].detach().clone() for name in self.names]
        self._biases = [values[f"{name}.bias"].detach().clone() for name in self.names]

    def full(self, value: float) -> list[Tensor]:
        """One tensor a layer, every entry ``value``."""
        return [torch.full_like(weight, value) for weight in self._weights]

    def logits(self, x: Tensor, scale: list[Tensor], shift: list[Tensor] | None = None) -> Tensor:
        """Logits with weights times ``scale`` and biases times ``shift`` (``scale`` unless given).

        Args:
            x: Pictures (n, c, h, w) in [0, 1].
            scale: One tensor (channels,) a layer.
            shift: As ``scale``.
        """
        values = {}
        for i, name in enumerate(self.names):
            values[f"{name}.weight"] = self._weights[i] * scale[i]
            values[f"{name}.bias"] = self._biases[i] * (scale if shift is None else shift)[i]
        meter = self.classifier.meter
        meter.forward += len(x)
        out = functional_call(self.classifier.module, values, (self.classifier.normalise(x),))
        found = getattr(out, "logits", out)
        assert isinstance(found, Tensor)  # noqa: S101 - the adapter checked it
        if found.requires_grad:

            def count(grad: Tensor) -> None:
                meter.backward += len(grad)

            found.register_hook(count)  # type: ignore[no-untyped-call]
        return found


def prune_while_accurate(
    classifier: ImageClassifier,
    masks: dict[str, Tensor],
    validation: ImageData,
    *,
    highest: float,
    allowed_drop: float,
) -> tuple[ImageClassifier, int]:
    """Zero the weights of the channels of the smallest masks, as many as clean accuracy permits.

    Channels are pruned in the order of their masks, a hundredth of all at a time, up to the first
    network that loses more than ``allowed_drop`` on the validation pictures; the one before it
    counts. Of equal masks the deepest goes first. No attack is looked at. Biases stay: masks
    were learnt with them in place.

    Args:
        classifier: The network to prune; not changed.
        masks: Name of a batch normalisation → mask (channels,), small = suspicious.
        validation: Clean pictures that decide.
        highest: Channels with a mask of at least this are never pruned, in (0, 1].
        allowed_drop: In [0, 1].

    Returns:
        The pruned copy, and how many channels are silent.
    """
    values = np.concatenate([mask.cpu().numpy() for mask in masks.values()])
    depth = np.arange(len(values))
    order = np.lexsort((-depth, values))[: int((values < highest).sum())]
    bounds = np.cumsum([0, *(len(mask) for mask in masks.values())])
    most = correct(classifier, validation) - allowed_drop * len(validation) - 1e-9
    best, count, spent = classifier.replaced(classifier.module), 0, len(validation)
    step = max(1, len(values) // 100)
    for end in range(step, len(order) + step, step):
        chosen = np.zeros(len(values), dtype=np.bool_)
        chosen[order[:end]] = True
        trial = classifier.replaced(classifier.module)
        layers = zip(masks, bounds[:-1], bounds[1:], strict=True)
        silence_channels(trial, {name: chosen[i:j] for name, i, j in layers}, keep_bias=True)
        spent += len(validation)
        if correct(trial, validation) < most:
            break
        best, count = trial, int(chosen.sum())
    best.meter.forward = spent
    return best, count


def correct(classifier: ImageClassifier, data: ImageData) -> int:
    """How many pictures get their label; a network that gives NaN gets none right."""
    try:
        return int((predict(classifier, data) == data.labels).sum())
    except ModelError:
        return 0
