"""The stages of any network: the last feature map of every resolution, found by running it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from gifthorse.core.errors import NotApplicableError
from gifthorse.models.classifier import ImageClassifier


def stages_of(classifier: ImageClassifier) -> tuple[str, ...]:
    """The module that gives the last feature map of every resolution, largest map first.

    Raises:
        NotApplicableError: The network has no feature maps of more than one pixel.
    """
    last: dict[tuple[int, int], str] = {}

    def watch(name: str, layer: nn.Module) -> RemovableHandle:
        def see(_: nn.Module, _inputs: Any, out: Any) -> None:
            if isinstance(out, Tensor) and out.ndim == 4 and out.shape[2] * out.shape[3] > 1:
                last[out.shape[2], out.shape[3]] = name

        return layer.register_forward_hook(see)

    handles = [watch(name, layer) for name, layer in classifier.module.named_modules() if name]
    try:
        with torch.inference_mode():
            grey = torch.full((1, *classifier.input_shape), 0.5, device=classifier.device)
            classifier.logits(grey)
    finally:
        for handle in handles:
            handle.remove()
    if not last:
        raise NotApplicableError(
            f"{classifier.name} has no feature maps; this method needs a convolutional network"
        )
    return tuple(last[size] for size in sorted(last, reverse=True))


def logits_and_maps(
    classifier: ImageClassifier, x: Tensor, names: tuple[str, ...]
) -> tuple[Tensor, list[Tensor]]:
    """Logits (n, classes) and the outputs of these modules, in one pass."""
    caught: dict[str, Tensor] = {}

    def watch(name: str) -> RemovableHandle:
        layer = classifier.module.get_submodule(name)
        return layer.register_forward_hook(lambda _m, _i, out: caught.update({name: out}))

    handles = [watch(name) for name in names]
    try:
        logits = classifier.logits(x)
    finally:
        for handle in handles:
            handle.remove()
    return logits, [caught[name] for name in names]


@contextmanager
def altered(
    classifier: ImageClassifier, name: str, change: Callable[[Tensor], Tensor]
) -> Iterator[None]:
    """While the block runs, what the module ``name`` gives is changed before it is passed on."""
    layer = classifier.module.get_submodule(name)
    handle = layer.register_forward_hook(lambda _m, _i, out: change(out))
    try:
        yield
    finally:
        handle.remove()
