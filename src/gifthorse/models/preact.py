"""PreAct-ResNet18, the network of BackdoorBench's CIFAR-10 protocol, as a transformers model.

Source: He, Zhang, Ren, Sun 2016, "Identity Mappings in Deep Residual Networks" (arXiv:1603.05027),
in the form for 32 × 32 pictures that BackdoorBench trains: a 3 × 3 stem without pooling, four
stages of two blocks with 64 to 512 channels, mean pooling, one linear layer; no normalisation after
the last block. Transformers has no such network (its ResNet is post-activation, BiT normalises
weights), so the class is ours, and a directory with it opens where gifthorse is installed.
"""

from typing import Any

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

STAGES = (64, 128, 256, 512)


class PreActConfig(PretrainedConfig):  # type: ignore[misc]
    """Channels of the picture and of the four stages."""

    model_type = "gifthorse-preact-resnet18"

    def __init__(
        self, num_channels: int = 3, hidden_sizes: tuple[int, ...] = STAGES, **others: Any
    ) -> None:
        self.num_channels = num_channels
        self.hidden_sizes = list(hidden_sizes)
        super().__init__(**others)


class _Block(nn.Module):
    """Normalise, activate, convolve; twice; plus a shortcut."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inside)
        self.conv1 = nn.Conv2d(inside, outside, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, padding=1, bias=False)
        self.shortcut: nn.Module | None = None
        if stride != 1 or inside != outside:
            self.shortcut = nn.Conv2d(inside, outside, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inside, h, w) to (n, outside, h / stride, w / stride)."""
        active = functional.relu(self.bn1(x))
        carried = x if self.shortcut is None else self.shortcut(active)
        out = self.conv2(functional.relu(self.bn2(self.conv1(active))))
        return torch.add(out, carried)


class PreActForImageClassification(PreTrainedModel):  # type: ignore[misc]
    """The network; ``forward`` takes normalised pictures (n, c, h, w)."""

    config_class = PreActConfig
    main_input_name = "pixel_values"

    def __init__(self, config: PreActConfig) -> None:
        super().__init__(config)
        sizes = tuple(config.hidden_sizes)
        self.stem = nn.Conv2d(config.num_channels, sizes[0], 3, padding=1, bias=False)
        blocks: list[nn.Module] = []
        inside = sizes[0]
        for stage, outside in enumerate(sizes):
            blocks.append(_Block(inside, outside, 1 if stage == 0 else 2))
            blocks.append(_Block(outside, outside, 1))
            inside = outside
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Linear(inside, config.num_labels)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """PyTorch's own initial values, which every layer has already, as in BackdoorBench."""

    def forward(self, pixel_values: Tensor, **_: Any) -> ImageClassifierOutput:
        """Logits (n, classes)."""
        out = self.blocks(self.stem(pixel_values))
        features = functional.adaptive_avg_pool2d(out, 1).flatten(1)
        return ImageClassifierOutput(logits=self.classifier(features))


def register() -> None:
    """Let ``transformers`` open directories with this network; may be called again."""
    AutoConfig.register(PreActConfig.model_type, PreActConfig, exist_ok=True)
    AutoModelForImageClassification.register(
        PreActConfig, PreActForImageClassification, exist_ok=True
    )
