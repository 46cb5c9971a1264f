"""Small networks as functions of one flat vector, for federated simulations.

``PerceptronLearner`` is written out in numpy: thousands of tiny steps cost more in the overhead of
a framework than in arithmetic. ``TorchLearner`` takes any torch module.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from gifthorse.core.clients import Layout
from gifthorse.core.types import FloatArray, IntArray, ScoreArray


@dataclass(frozen=True, slots=True, kw_only=True)
class PerceptronLearner:
    """One hidden layer with ReLU, on pixels.

    Attributes:
        inputs: Numbers a picture.
        hidden: Units of the hidden layer.
        classes: Classes.
    """

    inputs: int
    hidden: int
    classes: int

    @property
    def layout(self) -> Layout:
        """Names as ``torch.nn.Linear`` would have them."""
        return Layout(
            names=("hidden.weight", "hidden.bias", "output.weight", "output.bias"),
            shapes=(
                (self.hidden, self.inputs),
                (self.hidden,),
                (self.classes, self.hidden),
                (self.classes,),
            ),
            output_weight="output.weight",
            output_bias="output.bias",
        )

    def initial(self, rng: np.random.Generator) -> ScoreArray:
        """Uniform in ±1/√fan-in, as torch does (d,)."""
        arrays = {}
        for name, shape in zip(self.layout.names, self.layout.shapes, strict=True):
            fan_in = self.inputs if name.startswith("hidden") else self.hidden
            arrays[name] = rng.uniform(-1, 1, shape) / np.sqrt(fan_in)
        return self.layout.join(arrays)

    def _arrays(self, p: ScoreArray) -> tuple[ScoreArray, ScoreArray, ScoreArray, ScoreArray]:
        h, i, c = self.hidden, self.inputs, self.classes
        a, b, e = h * i, h * i + h, h * i + h + c * h
        return p[:a].reshape(h, i), p[a:b], p[b:e].reshape(c, h), p[e:]

    def gradient(self, parameters: ScoreArray, x: FloatArray, y: IntArray) -> ScoreArray:
        """Gradient of the mean cross-entropy, shape (d,)."""
        w1, b1, w2, b2 = self._arrays(parameters)
        flat = x.reshape(len(x), -1).astype(np.float64)
        active = np.maximum(flat @ w1.T + b1, 0.0)
        error = _softmax(active @ w2.T + b2)
        error[np.arange(len(y)), y] -= 1.0
        error /= len(y)
        back = (error @ w2) * (active > 0)
        return np.concatenate(
            [(back.T @ flat).ravel(), back.sum(0), (error.T @ active).ravel(), error.sum(0)]
        )

    def logits(self, parameters: ScoreArray, x: FloatArray) -> ScoreArray:
        """Logits, shape (m, classes)."""
        w1, b1, w2, b2 = self._arrays(parameters)
        flat = x.reshape(len(x), -1).astype(np.float64)
        return np.asarray(np.maximum(flat @ w1.T + b1, 0.0) @ w2.T + b2)


def _softmax(logits: ScoreArray) -> ScoreArray:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


class TorchLearner:
    """Any torch module without buffers as a function of one flat vector, in single precision.

    Args:
        module: Takes (m, c, h, w), gives (m, classes). Its values serve as a mould only.
        output: Name of its last linear layer.
        device: Where it runs.

    Raises:
        ValueError: The module has buffers; their averages are the business of the server loop.
    """

    def __init__(self, module: Any, *, output: str, device: str = "cpu") -> None:
        if any(True for _ in module.buffers()):
            raise ValueError("a flat learner takes modules without buffers")
        self._module = module.to(device)
        self._device = device
        parameters = dict(module.named_parameters())
        self._layout = Layout(
            names=tuple(parameters),
            shapes=tuple(tuple(value.shape) for value in parameters.values()),
            output_weight=f"{output}.weight",
            output_bias=f"{output}.bias",
        )

    @property
    def layout(self) -> Layout:
        """The module's own names."""
        return self._layout

    def initial(self, rng: np.random.Generator) -> ScoreArray:
        """Uniform in ±1/√fan-in (d,)."""
        arrays, fan_in = {}, 1
        for name, shape in zip(self._layout.names, self._layout.shapes, strict=True):
            if len(shape) > 1:  # a bias follows its weight
                fan_in = int(np.prod(shape[1:]))
            arrays[name] = rng.uniform(-1, 1, shape) / np.sqrt(fan_in)
        return self._layout.join(arrays)

    def _load(self, parameters: ScoreArray) -> None:
        import torch

        arrays = self._layout.split(parameters)
        with torch.no_grad():
            for name, value in self._module.named_parameters():
                value.copy_(torch.from_numpy(arrays[name].astype(np.float32)))

    def gradient(self, parameters: ScoreArray, x: FloatArray, y: IntArray) -> ScoreArray:
        """Gradient of the mean cross-entropy, shape (d,)."""
        import torch

        self._load(parameters)
        with torch.enable_grad():
            answers = self._module(torch.from_numpy(x).to(self._device))
            loss = torch.nn.functional.cross_entropy(answers, torch.from_numpy(y).to(self._device))
            found = torch.autograd.grad(loss, list(self._module.parameters()))
        return np.concatenate([g.cpu().numpy().ravel() for g in found]).astype(np.float64)

    def logits(self, parameters: ScoreArray, x: FloatArray) -> ScoreArray:
        """Logits, shape (m, classes)."""
        import torch

        self._load(parameters)
        with torch.inference_mode():
            out = self._module(torch.from_numpy(x).to(self._device))
        return np.asarray(out.cpu().numpy(), dtype=np.float64)


def small_cnn(image_shape: tuple[int, int, int], classes: int) -> TorchLearner:
    """``cnn_module`` as a flat learner."""
    return TorchLearner(cnn_module(image_shape, classes), output="output")


def cnn_module(image_shape: tuple[int, int, int], classes: int) -> Any:
    """Two strided convolutions and a linear layer, without buffers: a ``torch.nn.Sequential``."""
    from torch import nn

    channels, height, width = image_shape
    rest = 16 * -(-height // 4) * -(-width // 4)
    module = nn.Sequential()
    module.add_module("first", nn.Conv2d(channels, 8, 3, stride=2, padding=1))
    module.add_module("relu1", nn.ReLU())
    module.add_module("second", nn.Conv2d(8, 16, 3, stride=2, padding=1))
    module.add_module("relu2", nn.ReLU())
    module.add_module("flatten", nn.Flatten())
    module.add_module("output", nn.Linear(rest, classes))
    return module
