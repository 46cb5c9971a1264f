"""gifthorse calibrate and audit --bank, as a user types them."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from gifthorse.cli.main import app
from gifthorse.core.errors import DataError
from gifthorse.data.images import ArrayImages
from gifthorse.data.npz import save_npz
from gifthorse.models.networks import small_network
from gifthorse.models.saving import save_classifier

QUICK = "channel_lipschitz"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-one untrained networks and some noise to look at."""
    root = tmp_path_factory.mktemp("calibrate")
    rng = np.random.default_rng(0)
    names = ("a", "b", "c", "d")
    data = ArrayImages(
        name="noise",
        pixels=rng.integers(0, 256, (24, 1, 8, 8), dtype=np.uint8),
        labels=np.arange(24, dtype=np.int64) % 4,
        class_names=names,
    )
    save_npz(data, root / "clean.npz")
    for seed in range(21):
        network = small_network(image_shape=(1, 8, 8), class_names=names, seed=seed, width=8)
        save_classifier(network, root / f"m{seed:02d}")
    return root


def test_a_bank_is_made_and_used(place: Path) -> None:
    models = [str(place / f"m{seed:02d}") for seed in range(20)]
    bank, clean = place / "bank.json", f"npz:{place / 'clean.npz'}"
    command = ["calibrate", *models, "--trusted", clean, "--detector", QUICK, "--out", str(bank)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert len(json.loads(bank.read_text("utf-8"))["references"]) == 20
    again = CliRunner().invoke(app, command)
    assert isinstance(again.exception, DataError)
    assert "never overwritten" in str(again.exception)
    audit = ["audit", str(place / "m20"), "--trusted", clean, "--detector", QUICK, "--json"]
    without = json.loads(CliRunner().invoke(app, audit).stdout)
    assert "conformal" not in without["findings"][0]["threshold"]["origin"]
    record = json.loads(CliRunner().invoke(app, [*audit, "--bank", str(bank)]).stdout)
    assert "conformal: 20 clean reference models" in record["findings"][0]["threshold"]["origin"]


def test_models_without_pictures_are_refused(place: Path) -> None:
    command = ["calibrate", str(place / "m00"), "--out", str(place / "none.json")]
    result = CliRunner().invoke(app, command)
    assert isinstance(result.exception, DataError)
    assert "is no zoo; --trusted says" in str(result.exception)
