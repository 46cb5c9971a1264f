"""`gifthorse train`: a model that can be audited, what was distrusted, and bad input."""

import json
from pathlib import Path

import numpy as np
import pytest
from tests.cli.conftest import Command

from gifthorse.core.errors import SpecError
from gifthorse.data.npz import save_npz
from gifthorse.models.loading import load_classifier
from gifthorse.testing.workbench import Workbench
from gifthorse.training.adversarial import AdversarialTraining
from gifthorse.training.secure import METHODS, method_of, train_securely

BENCH = Workbench()


def test_a_model_and_what_was_distrusted_are_written(tmp_path: Path, command: Command) -> None:
    save_npz(BENCH.suspect, tmp_path / "data.npz")
    save_npz(BENCH.trusted, tmp_path / "test.npz")
    result = command(
        "train", f"npz:{tmp_path}/data.npz", tmp_path / "model", "--method",
        "abl:isolation=0.05,isolation_epochs=1,unlearning_epochs=1", "--epochs", 2, "--width", 4,
        "--test", f"npz:{tmp_path}/test.npz", "--threads", 1, "--json",
    )  # fmt: skip
    assert result.code == 0, result.err
    found = result.json()
    assert found["distrusted"] == json.loads((tmp_path / "model/distrusted.json").read_text())
    assert len(found["distrusted"]) == 20
    assert 0 <= found["clean_accuracy"] <= 1
    assert load_classifier(str(tmp_path / "model")).n_classes == 4


def test_every_method_is_one_call_and_a_seed_decides_it() -> None:
    from gifthorse.models.training import TrainingPlan

    options = {"abl": "isolation=0.05", "adversarial": "steps=1", "dbd": "self_epochs=1"}
    assert set(options) == set(METHODS)
    for name, text in options.items():
        made = [
            train_securely(
                BENCH.suspect,
                method=f"{name}:{text}",
                training=TrainingPlan(epochs=1, batch_size=32),
                width=4,
                seed=3,
            )
            for _ in range(2)
        ]
        assert made[0].model.digest() == made[1].model.digest()
        np.testing.assert_array_equal(made[0].distrusted, made[1].distrusted)
        assert (len(made[0].distrusted) > 0) == (name != "adversarial")


def test_options_reach_the_method() -> None:
    assert method_of("adversarial:kind=patch,side=5") == AdversarialTraining(kind="patch", side=5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hope", "no way to train is called 'hope'"),
        ("abl:gama=1", "no option 'gama'"),
        ("abl:gamma=much", "must be a number"),
        ("abl:gamma=-1", "gamma must be in"),
        ("dbd:self_epochs=1.5", "must be a whole number"),
    ],
)
def test_bad_methods_are_refused_in_a_sentence(text: str, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        method_of(text)


def test_bad_input_has_exit_code_2(tmp_path: Path, command: Command) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/file").write_text("x")
    taken = command("train", "signs", tmp_path / "taken")
    assert taken.code == 2
    assert "not an empty directory" in taken.err
    absent = command("train", f"npz:{tmp_path}/none.npz", tmp_path / "model")
    assert absent.code == 2
    assert not (tmp_path / "model").exists()
