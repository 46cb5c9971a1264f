"""Running the command in process, and a small model to run it on."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gifthorse.cli.main import run
from gifthorse.data.images import ArrayImages
from gifthorse.data.npz import save_npz
from gifthorse.models.networks import small_network
from gifthorse.models.saving import save_classifier
from gifthorse.models.training import TrainingPlan, train

CLASSES = tuple("abcdef")


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    def json(self) -> dict[str, Any]:
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found


Command = Callable[..., Result]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    def call(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["gifthorse", *map(str, arguments)])
        code = 0
        try:
            run()
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return call


def bars(count: int, *, seed: int, classes: int = 6, side: int = 12) -> ArrayImages:
    """Noisy pictures in which the place of a bright bar is the class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int64) % classes
    pixels = rng.integers(0, 90, (count, 1, side, side), dtype=np.uint8)
    for i, label in enumerate(labels):
        pixels[i, 0, 2 * label : 2 * label + 2, :] += 120
    return ArrayImages(name="bars", pixels=pixels, labels=labels, class_names=CLASSES[:classes])


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained classifier of bars, as a directory."""
    data = bars(240, seed=0)
    network = small_network(image_shape=(1, 12, 12), class_names=CLASSES, seed=0, width=8)
    plan = TrainingPlan(epochs=6, batch_size=32, learning_rate=0.05)
    model = train(network, data, plan, rng=np.random.default_rng(0))
    place = tmp_path_factory.mktemp("models") / "bars"
    save_classifier(model, place)
    return place


@pytest.fixture(scope="session")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "trusted.npz"
    save_npz(bars(60, seed=1), path)
    return path
