"""A small world: pictures of four bright quarters, and models that tell them apart."""

import numpy as np
import pytest
import torch

from gifthorse.core.types import Evidence, RecoveredTrigger, Unit
from gifthorse.data.images import ArrayImages
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.networks import small_network
from gifthorse.models.training import TrainingPlan, train

CLASSES = ("north-west", "north-east", "south-west", "south-east")


def quarters(count: int, seed: int) -> ArrayImages:
    """Noisy 12×12 pictures with one bright quarter."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int64) % 4
    pixels = rng.random((count, 1, 12, 12)) * 0.5
    for i, label in enumerate(labels):
        row, column = 6 * (label // 2), 6 * (label % 2)
        pixels[i, 0, row : row + 6, column : column + 6] += 0.3
    return ArrayImages.from_floats(pixels, labels, name="quarters", class_names=CLASSES)


@pytest.fixture(scope="session")
def trusted() -> ArrayImages:
    return quarters(80, seed=1)


@pytest.fixture(scope="session")
def trained() -> ImageClassifier:
    torch.set_num_threads(1)
    untrained = small_network(image_shape=(1, 12, 12), class_names=CLASSES, seed=0, width=4)
    plan = TrainingPlan(epochs=8, batch_size=32, learning_rate=0.1)
    return train(untrained, quarters(400, seed=0), plan, rng=np.random.default_rng(0))


@pytest.fixture(scope="session")
def evidence() -> Evidence:
    mask = np.zeros((12, 12), dtype=np.float32)
    mask[-3:, -3:] = 1
    trigger = RecoveredTrigger(target=0, mask=mask, pattern=np.ones((1, 12, 12), np.float32))
    return Evidence(
        unit=Unit.CLASS, scores=np.array([3.0, 0, 0, 0]), statistic=3.0, triggers=(trigger,)
    )
