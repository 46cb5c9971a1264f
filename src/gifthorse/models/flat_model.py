"""The small networks of federated simulations as transformers models.

So a global model that came out of a simulation is an ordinary model directory: `gifthorse audit`
and everything else opens it. The classes are ours, and such a directory opens where gifthorse is
installed.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    AutoConfig,
    AutoModelForImageClassification,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import ImageClassifierOutput

from gifthorse.core.clients import Layout
from gifthorse.core.errors import ModelError
from gifthorse.core.types import ScoreArray
from gifthorse.models.classifier import ImageClassifier, Preprocessing
from gifthorse.models.flat import cnn_module


class FlatConfig(PretrainedConfig):  # type: ignore[misc]
    """``network`` is ``perceptron`` (``hidden`` units) or ``cnn``; (c, h, w) of the pictures."""

    model_type = "gifthorse-flat"

    def __init__(
        self,
        network: str = "perceptron",
        hidden: int = 32,
        image_shape: tuple[int, int, int] = (1, 8, 8),
        **others: Any,
    ) -> None:
        self.network = network
        self.hidden = hidden
        self.image_shape = list(image_shape)
        self.num_channels = self.image_shape[0]
        super().__init__(**others)


class FlatForImageClassification(PreTrainedModel):  # type: ignore[misc]
    """The network; ``forward`` takes pictures (n, c, h, w) in [0, 1]."""

    config_class = FlatConfig
    main_input_name = "pixel_values"

    def __init__(self, config: FlatConfig) -> None:
        super().__init__(config)
        channels, height, width = config.image_shape
        if config.network == "perceptron":
            self.hidden = nn.Linear(channels * height * width, config.hidden)
            self.output = nn.Linear(config.hidden, config.num_labels)
        elif config.network == "cnn":
            mould = cnn_module((channels, height, width), config.num_labels)
            self.first, self.second, self.output = mould.first, mould.second, mould.output
        else:
            raise ValueError(f"no network is called {config.network!r}; known: perceptron, cnn")
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """PyTorch's own initial values, which every layer has already."""

    def forward(self, pixel_values: Tensor, **_: Any) -> ImageClassifierOutput:
        """Logits (n, classes)."""
        if self.config.network == "perceptron":
            active = functional.relu(self.hidden(pixel_values.flatten(1)))
        else:
            maps = functional.relu(self.first(pixel_values))
            active = functional.relu(self.second(maps)).flatten(1)
        return ImageClassifierOutput(logits=self.output(active))


def register() -> None:
    """Let ``transformers`` open directories with these networks; may be called again."""
    AutoConfig.register(FlatConfig.model_type, FlatConfig, exist_ok=True)
    AutoModelForImageClassification.register(FlatConfig, FlatForImageClassification, exist_ok=True)


def flat_classifier(
    parameters: ScoreArray,
    layout: Layout,
    *,
    network: str,
    image_shape: tuple[int, int, int],
    class_names: tuple[str, ...],
    name: str = "global model",
) -> ImageClassifier:
    """A flat vector (d,) as an image classifier.

    Raises:
        ModelError: The vector does not fit the network.
    """
    arrays = layout.split(parameters)
    config = FlatConfig(
        network=network,
        hidden=len(arrays["hidden.bias"]) if "hidden.bias" in arrays else 0,
        image_shape=image_shape,
        id2label=dict(enumerate(class_names)),
        label2id={label: i for i, label in enumerate(class_names)},
    )
    module = FlatForImageClassification(config)
    tensors = {n: torch.from_numpy(v.astype(np.float32)) for n, v in arrays.items()}
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        raise ModelError(f"the parameters do not fit a {network}: {error}") from error
    pre = Preprocessing(
        mean=(0.0,) * image_shape[0], std=(1.0,) * image_shape[0], size=image_shape[1:]
    )
    return ImageClassifier(module, class_names=class_names, preprocessing=pre, name=name)
