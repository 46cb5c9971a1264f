"""Running statistics of an edited network, estimated anew on the attacker's samples (our own)."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from gifthorse.core.types import ImageData
from gifthorse.models.classifier import ImageClassifier

_BATCH = 250
_STATISTICS = ("running_mean", "running_var")


def settle(
    edited: ImageClassifier, samples: ImageData, *, keep: Mapping[str, Sequence[int]]
) -> None:
    """Average the statistics of all batch normalisations over ``samples``, in place.

    Args:
        edited: The network; in evaluation mode before and after.
        samples: Clean pictures.
        keep: Channels that keep the statistics they have, by the name of the normalisation.
    """
    layers = {
        key: layer
        for key, layer in edited.module.named_modules()
        if isinstance(layer, nn.BatchNorm2d)
    }
    kept: dict[str, list[Tensor]] = {}
    momentum = {key: layer.momentum for key, layer in layers.items()}
    for key, layer in layers.items():
        rows = list(keep.get(key, ()))
        kept[key] = [getattr(layer, name)[rows].clone() for name in _STATISTICS]
        layer.reset_running_stats()
        layer.momentum = None  # the plain average over all batches
    edited.module.train()
    with torch.no_grad():
        for part in np.array_split(np.arange(len(samples)), max(1, len(samples) // _BATCH)):
            edited.logits(torch.from_numpy(samples.batch(part)).to(edited.device))
    edited.module.eval()
    for key, layer in layers.items():
        layer.momentum = momentum[key]
        for name, values in zip(_STATISTICS, kept[key], strict=True):
            getattr(layer, name)[list(keep.get(key, ()))] = values
