"""The small networks that we train ourselves, as ordinary transformers models."""

from typing import Any

import torch

from gifthorse.models.classifier import ImageClassifier, Preprocessing

SMALL_EMBEDDING = 32
SMALL_HIDDEN = (32, 64, 128)


def small_network(
    *,
    image_shape: tuple[int, int, int],
    class_names: tuple[str, ...],
    seed: int,
    width: int = SMALL_EMBEDDING,
    name: str = "small ResNet",
    device: torch.device | str = "cpu",
) -> ImageClassifier:
    """An untrained ResNet with one basic block a stage; weights drawn from ``seed``.

    Args:
        image_shape: (channels, height, width) of the pictures.
        class_names: One name a class.
        seed: For the weights.
        width: Channels of the first stage; doubled at each of the two that follow.
        name: For records.
        device: Where it runs.
    """
    from transformers import ResNetConfig, ResNetForImageClassification

    channels, height, width_px = image_shape
    config = ResNetConfig(
        num_channels=channels,
        embedding_size=width,
        hidden_sizes=[width, 2 * width, 4 * width],
        depths=[1, 1, 1],
        layer_type="basic",
        id2label=dict(enumerate(class_names)),
        label2id={label: i for i, label in enumerate(class_names)},
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module: Any = ResNetForImageClassification(config)
    pre = Preprocessing(
        mean=(0.5,) * channels, std=(0.5,) * channels, size=(height, width_px), resize=False
    )
    return ImageClassifier(
        module, class_names=class_names, preprocessing=pre, name=name, device=device
    )


def bottleneck_network(
    *,
    image_shape: tuple[int, int, int],
    class_names: tuple[str, ...],
    seed: int,
    width: int = SMALL_EMBEDDING,
    device: torch.device | str = "cpu",
) -> ImageClassifier:
    """An untrained ResNet with one *bottleneck* block a stage; weights drawn from ``seed``.

    Arguments as for ``small_network``; stages have 2, 4 and 8 times ``width`` channels.
    """
    from transformers import ResNetConfig, ResNetForImageClassification

    channels, height, width_px = image_shape
    config = ResNetConfig(
        num_channels=channels,
        embedding_size=width,
        hidden_sizes=[2 * width, 4 * width, 8 * width],
        depths=[1, 1, 1],
        layer_type="bottleneck",
        id2label=dict(enumerate(class_names)),
        label2id={label: i for i, label in enumerate(class_names)},
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module: Any = ResNetForImageClassification(config)
    pre = Preprocessing(
        mean=(0.5,) * channels, std=(0.5,) * channels, size=(height, width_px), resize=False
    )
    return ImageClassifier(
        module,
        class_names=class_names,
        preprocessing=pre,
        name="bottleneck ResNet",
        device=device,
    )


def preact_resnet18(
    *,
    image_shape: tuple[int, int, int],
    class_names: tuple[str, ...],
    seed: int,
    device: torch.device | str = "cpu",
) -> ImageClassifier:
    """An untrained PreAct-ResNet18 for small pictures; see ``gifthorse.models.preact``."""
    from gifthorse.models.preact import PreActConfig, PreActForImageClassification

    channels, height, width_px = image_shape
    config = PreActConfig(
        num_channels=channels,
        id2label=dict(enumerate(class_names)),
        label2id={label: i for i, label in enumerate(class_names)},
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module: Any = PreActForImageClassification(config)
    pre = Preprocessing(
        mean=(0.5,) * channels, std=(0.5,) * channels, size=(height, width_px), resize=False
    )
    return ImageClassifier(
        module, class_names=class_names, preprocessing=pre, name="PreAct-ResNet18", device=device
    )
