"""PreAct-ResNet18: the published size, a round trip, and a network that learns."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from gifthorse.core.errors import ModelError
from gifthorse.data.images import ArrayImages
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.loading import load_classifier
from gifthorse.models.networks import preact_resnet18
from gifthorse.models.passes import predict
from gifthorse.models.saving import save_classifier
from gifthorse.models.trainer import SmallTrainer
from gifthorse.models.training import TrainingPlan

NAMES = tuple("abcdefghij")


@pytest.fixture(scope="module")
def network() -> ImageClassifier:
    return preact_resnet18(image_shape=(3, 32, 32), class_names=NAMES, seed=0)


def test_it_has_the_weights_of_the_published_network(network: ImageClassifier) -> None:
    # Worked out from the layers: stem 1,728; stages 148,224 + 525,184 + 2,098,944 + 8,391,936;
    # head 5,130.
    assert sum(p.numel() for p in network.module.parameters()) == 11_171_146


def test_stages_halve_the_picture(network: ImageClassifier) -> None:
    with network.capture("blocks") as seen:
        network.logits(torch.zeros(2, 3, 32, 32))
    assert seen[0].shape == (2, 512, 4, 4)


def test_its_weights_follow_from_the_seed(network: ImageClassifier) -> None:
    again = preact_resnet18(image_shape=(3, 32, 32), class_names=NAMES, seed=0)
    other = preact_resnet18(image_shape=(3, 32, 32), class_names=NAMES, seed=1)
    assert again.digest() == network.digest()
    assert other.digest() != network.digest()


def test_it_comes_back_from_its_directory(network: ImageClassifier, tmp_path: Path) -> None:
    save_classifier(network, tmp_path / "m")
    back = load_classifier(tmp_path / "m")
    assert back.digest() == network.digest()
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(back.logits(x), network.logits(x))


@pytest.mark.parametrize("sizes", [[], [0], ["x"], "x", [8], None])
def test_a_hostile_configuration_is_refused(
    network: ImageClassifier, tmp_path: Path, sizes: object
) -> None:
    save_classifier(network, tmp_path / "m")
    path = tmp_path / "m" / "config.json"
    config = json.loads(path.read_text("utf-8"))
    config["hidden_sizes"] = sizes
    path.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ModelError):
        load_classifier(tmp_path / "m")


def test_the_trainer_trains_it() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(64, dtype=np.int64) % 2
    pixels = rng.integers(0, 60, (64, 3, 8, 8), dtype=np.uint8)
    pixels[labels == 1, :, :4] += 150
    data = ArrayImages(name="halves", pixels=pixels, labels=labels, class_names=("a", "b"))
    plan = TrainingPlan(epochs=15, batch_size=16, learning_rate=0.01)
    trainer = SmallTrainer(plan=plan, architecture="preact-resnet18")
    model = trainer.fit(data, rng=np.random.default_rng(0))
    assert (predict(model, data) == labels).mean() > 0.9
