"""The adapter that makes any image classifier look the same: pixels in [0, 1] in, logits out.

Normalisation and resizing happen inside, so every method works in pixel space and gradients reach
the pixels.
"""

import copy
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from gifthorse.core.deadline import Deadline
from gifthorse.core.errors import ModelError, NotApplicableError
from gifthorse.core.types import Model, Need


@dataclass(slots=True)
class PassMeter:
    """Images sent forward through a model, and images that a gradient was taken through.

    With a ``deadline`` the model refuses to go on after it: whatever a method does between two
    forward passes, it stops there.
    """

    forward: int = 0
    backward: int = 0
    deadline: Deadline = field(default_factory=Deadline)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """What happens to pixels in [0, 1] before the network sees them.

    Attributes:
        mean: Subtracted, one value a channel.
        std: Divided by, one value a channel.
        size: (height, width) that the network takes; None if it takes any.
        resize: Whether pictures of another size are resized (bilinear, antialiased) or refused.
        blue_first: Whether the network takes blue, green, red; mean and std are in its order.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: tuple[int, int] | None = None
    resize: bool = False
    blue_first: bool = False

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not self.mean:
            raise ModelError(f"mean {self.mean} and std {self.std} must have one value a channel")
        if not all(np.isfinite(self.mean)) or not all(np.isfinite(self.std)) or min(self.std) <= 0:
            raise ModelError(f"mean {self.mean} must be finite and std {self.std} positive")


def memory_format(module: nn.Module) -> torch.memory_format:
    """Channels last, which is faster, unless the module would corrupt memory with it.

    On a processor with AVX2 and no AVX-512, oneDNN (torch 2.13) writes past the weight gradient of
    a strided 1×1 convolution of fewer than eight input channels whose pictures lie channels last
    (kernel ``jit_1x1:avx2``), and the process dies of it sooner or later. Contiguous pictures
    take another kernel. Judged by the module alone, so that every machine computes alike.
    """
    for layer in module.modules():
        if (
            isinstance(layer, nn.Conv2d)
            and layer.kernel_size == (1, 1)
            and layer.stride != (1, 1)
            and layer.in_channels < 8
        ):
            return torch.contiguous_format
    return torch.channels_last


class ImageClassifier:
    """An image classifier in pixel space.

    The module is copied, set to evaluation mode, frozen, and moved to ``device``; the original is
    not touched.

    Args:
        module: Takes normalised pictures (n, c, h, w); returns logits (n, classes) or an object
            with an attribute ``logits``.
        class_names: A name for every class, in the order of the logits.
        preprocessing: See ``Preprocessing``; its ``size`` must be set (use ``with_size``).
        name: For records and messages.
        device: Where it runs.

    Raises:
        ModelError: The module fails on a grey picture, or its output does not fit.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        class_names: tuple[str, ...],
        preprocessing: Preprocessing,
        name: str = "model",
        device: torch.device | str = "cpu",
    ) -> None:
        if preprocessing.size is None:
            raise ModelError(
                f"{name}: the picture size is not known; give preprocessing with a size"
            )
        self._name = name
        self._class_names = class_names
        self.preprocessing = preprocessing
        self.device = torch.device(device)
        self.module = copy.deepcopy(module).to(self.device)
        self._memory_format = memory_format(self.module)
        self.module.to(memory_format=self._memory_format)  # type: ignore[call-overload]
        self.module.eval().requires_grad_(False)
        self.meter = PassMeter()
        channels = len(preprocessing.mean)
        self._mean = torch.tensor(preprocessing.mean, device=self.device).view(1, channels, 1, 1)
        self._std = torch.tensor(preprocessing.std, device=self.device).view(1, channels, 1, 1)
        self._head = self._find_head()

    @property
    def name(self) -> str:
        """How the user named it."""
        return self._name

    @property
    def class_names(self) -> tuple[str, ...]:
        """A name for every class, in the order of the logits."""
        return self._class_names

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self._class_names)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) that the network itself takes."""
        assert self.preprocessing.size is not None  # noqa: S101 - held by the constructor
        return (len(self.preprocessing.mean), *self.preprocessing.size)

    @property
    def offers(self) -> frozenset[Need]:
        """A local model grants everything."""
        return frozenset({Need.LOGITS, Need.GRADIENTS, Need.WEIGHTS})

    @property
    def feature_layer(self) -> str:
        """Where ``features`` are taken: the input of the last linear layer, or the logits."""
        return f"input of {self._head[0]}" if self._head else "logits"

    @property
    def head(self) -> nn.Linear | None:
        """The linear layer that gives the logits, or None."""
        return self._head[1] if self._head else None

    def accepts(self, image_shape: tuple[int, int, int]) -> str | None:
        """Why pictures of this shape do not fit, or None if they do."""
        channels, height, width = self.input_shape
        if image_shape[0] != channels:
            return f"the pictures have {image_shape[0]} channel(s) and the model takes {channels}"
        if not self.preprocessing.resize and image_shape[1:] != (height, width):
            return (
                f"the pictures are {image_shape[1]}×{image_shape[2]} pixels and the model takes "
                f"{height}×{width} (its preprocessor does not resize)"
            )
        return None

    def normalise(self, x: Tensor) -> Tensor:
        """Pixels in [0, 1], shape (n, c, h, w), to what the network takes; differentiable.

        Raises:
            ModelError: The pictures do not fit; without this, one channel would pass for three.
        """
        misfit = self.accepts((x.shape[1], x.shape[2], x.shape[3]))
        if misfit:
            raise ModelError(f"{self.name}: {misfit}")
        size = self.preprocessing.size
        if self.preprocessing.resize and size is not None and x.shape[-2:] != size:
            x = functional.interpolate(x, size, mode="bilinear", antialias=True)
        if self.preprocessing.blue_first:
            x = x.flip(1)
        x = (x - self._mean) / self._std
        return x.contiguous(memory_format=self._memory_format)

    def logits(self, x: Tensor) -> Tensor:
        """Logits (n, classes) of pictures (n, c, h, w) in [0, 1]; differentiable.

        Raises:
            OutOfTimeError: The deadline of the meter has passed.
        """
        self.meter.deadline.check()
        self.meter.forward += len(x)
        out = _logits_of(self.module(self.normalise(x)))
        if out.requires_grad:
            out.register_hook(self._count_backward)  # type: ignore[no-untyped-call]
        return out

    def logits_and_features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (n, classes) and penultimate activations (n, d) in one pass."""
        if self._head is None:
            out = self.logits(x)
            return out, out
        caught: list[Tensor] = []

        def catch(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            caught.append(inputs[0])

        handle = self._head[1].register_forward_pre_hook(catch)
        try:
            out = self.logits(x)
        finally:
            handle.remove()
        return out, caught[-1].flatten(1)

    @contextmanager
    def capture(self, layer: str) -> Iterator[list[Tensor]]:
        """Collect the outputs of a named layer of ``module`` while the block runs.

        Raises:
            ModelError: No such layer; the text names some that exist.
        """
        layers = dict(self.module.named_modules())
        if layer not in layers:
            known = ", ".join(list(layers)[-8:])
            raise ModelError(f"{self.name} has no layer {layer!r}; its last ones are: {known}")
        outputs: list[Tensor] = []
        handle = layers[layer].register_forward_hook(lambda _m, _i, out: outputs.append(out))
        try:
            yield outputs
        finally:
            handle.remove()

    def replaced(self, module: nn.Module, *, name: str | None = None) -> "ImageClassifier":
        """The same adapter around a copy of another module."""
        return ImageClassifier(
            module,
            class_names=self.class_names,
            preprocessing=self.preprocessing,
            name=name or self.name,
            device=self.device,
        )

    def digest(self) -> str:
        """``sha256:…`` over preprocessing, class names, and every parameter and buffer."""
        sha = hashlib.sha256()
        pre = self.preprocessing
        facts = [self.class_names, pre.mean, pre.std, pre.size, pre.resize]
        sha.update(json.dumps([*facts, "blue first"] if pre.blue_first else facts).encode())
        # Two networks can share weights and differ in an activation.
        kinds = [(key, type(part).__qualname__) for key, part in self.module.named_modules()]
        sha.update(json.dumps(kinds).encode())
        for key, value in sorted(self.module.state_dict().items()):
            sha.update(f"{key}{tuple(value.shape)}{value.dtype}".encode())
            flat = value.detach().cpu().contiguous().view(-1)
            sha.update(flat.view(torch.uint8).numpy().tobytes())
        return f"sha256:{sha.hexdigest()}"

    def _count_backward(self, grad: Tensor) -> None:
        self.meter.backward += len(grad)

    def _find_head(self) -> tuple[str, nn.Linear] | None:
        """The last linear layer that gives the logits, found by running a grey picture."""
        called: list[tuple[str, nn.Linear]] = []
        handles = [
            layer.register_forward_pre_hook(lambda _m, _i, pair=(key, layer): called.append(pair))
            for key, layer in self.module.named_modules()
            if isinstance(layer, nn.Linear) and layer.out_features == self.n_classes
        ]
        grey = torch.full((2, *self.input_shape), 0.5, device=self.device)
        try:
            with torch.inference_mode():
                out = _logits_of(self.module(self.normalise(grey)))
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise ModelError(
                f"{self.name} fails on a picture of shape {self.input_shape}: {error}"
            ) from error
        finally:
            for handle in handles:
                handle.remove()
        if out.shape != (2, self.n_classes):
            raise ModelError(
                f"{self.name} returns logits of shape {tuple(out.shape)}; "
                f"expected (2, {self.n_classes}), one for each class name"
            )
        return called[-1] if called else None


def _logits_of(out: Any) -> Tensor:
    found = getattr(out, "logits", out)
    if not isinstance(found, Tensor):
        raise ModelError(f"the model returns {type(out).__name__}; expected logits (a tensor)")
    return found


def as_classifier(model: Model | None) -> ImageClassifier:
    """The adapter behind ``Subject.model``, for methods that need torch.

    Raises:
        NotApplicableError: There is none, or it is of another kind.
    """
    if not isinstance(model, ImageClassifier):
        raise NotApplicableError("this method examines image classifiers, and was given none")
    return model
