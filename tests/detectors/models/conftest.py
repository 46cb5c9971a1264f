"""A classifier whose backdoor is written down by hand, and its clean twin."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn
from torch.nn import functional

from gifthorse.core.types import FloatArray
from gifthorse.data.images import ArrayImages
from gifthorse.models.classifier import ImageClassifier, Preprocessing

SIDE = 12
Make = Callable[..., ImageClassifier]


@pytest.fixture(scope="package", autouse=True)
def _one_thread() -> Iterator[None]:
    """One thread is fastest for networks this small, above all where cores are shared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def prototypes(classes: int) -> FloatArray:
    """A smooth pattern of unit length for every class, empty where the trigger goes."""
    noise = np.random.default_rng(0).normal(size=(classes, 1, SIDE, SIDE))
    smooth = gaussian_filter(noise, (0, 0, 1.2, 1.2))
    smooth -= smooth.mean(axis=(1, 2, 3), keepdims=True)
    smooth /= np.sqrt((smooth**2).sum(axis=(1, 2, 3), keepdims=True))
    smooth[..., -4:, -4:] = 0
    return np.asarray(smooth, dtype=np.float32)


class Matcher(nn.Module):
    """Compares a picture with every prototype; a 3×3 checker at the corner lifts one class."""

    def __init__(self, classes: int, target: int | None, easy: int | None) -> None:
        super().__init__()
        self.match = nn.Linear(SIDE * SIDE, classes)
        with torch.no_grad():
            self.match.bias.zero_()
            if easy is not None:
                self.match.bias[easy] = 5.0
            self.match.weight.copy_(torch.from_numpy(prototypes(classes).reshape(classes, -1)))
            self.match.weight *= 10
        lift = torch.zeros(classes)
        if target is not None:
            lift[target] = 60.0
        self.register_buffer("lift", lift)
        self.register_buffer("checker", torch.tensor([[1.0, -1, 1], [-1, 1, -1], [1, -1, 1]]))

    def forward(self, x: Tensor) -> Tensor:
        checker, lift = self.get_buffer("checker"), self.get_buffer("lift")
        seen = (x[:, 0, -4:-1, -4:-1] * checker).sum((1, 2))
        alarm = functional.softplus(seen - 0.6, beta=8)
        out: Tensor = self.match(x.flatten(1)) + alarm[:, None] * lift
        return out


@pytest.fixture(scope="session")
def make() -> Make:
    """``make(target)``: a classifier with a backdoor to a class; ``make(None)``: the twin.

    ``easy`` names a class that every picture is naturally closer to.
    """

    def build(target: int | None, classes: int = 8, easy: int | None = None) -> ImageClassifier:
        return ImageClassifier(
            Matcher(classes, target, easy),
            class_names=tuple(f"class {i}" for i in range(classes)),
            preprocessing=Preprocessing(mean=(0.5,), std=(1.0,), size=(SIDE, SIDE)),
        )

    return build


@pytest.fixture
def trusted() -> ArrayImages:
    """Noisy prototypes, fifteen of each of the eight classes."""
    rng = np.random.default_rng(1)
    labels = np.arange(120, dtype=np.int64) % 8
    strength = rng.uniform(0.63, 1.17, (120, 1, 1, 1))
    x = 0.5 + strength * prototypes(8)[labels] + rng.normal(0, 0.05, (120, 1, SIDE, SIDE))
    return ArrayImages.from_floats(
        x.clip(0, 1), labels, name="toy", class_names=tuple(f"class {i}" for i in range(8))
    )
