"""Bad input is normal input: a clear error, exit code 2 or 3, nothing executed, never CLEAR."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gifthorse.data.images import ArrayImages
from gifthorse.data.npz import save_npz
from gifthorse.models.networks import small_network
from gifthorse.models.saving import save_classifier

from .conftest import CLASSES, Command, bars

Spoil = Callable[[Path], object]


class Bomb:
    """Unpickling this creates a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return (Path.touch, (self.marker,))  # type: ignore[return-value]


def _truncate(place: Path) -> None:
    path = place / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-200])


def _change(place: Path, **values: object) -> None:
    path = place / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | values))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda p: (p / "model.safetensors").unlink(), "missing"),
        (_truncate, "truncated"),
        (lambda p: (p / "model.safetensors").write_bytes(b""), "truncated"),
        (lambda p: (p / "config.json").unlink(), "config.json"),
        (lambda p: (p / "config.json").write_text("{"), "JSON"),
        (lambda p: (p / "config.json").write_text("[]"), "JSON object"),
        (lambda p: _change(p, model_type="no-such-thing"), "config.json"),
        (lambda p: _change(p, model_type="bert"), "image classifier"),
        (lambda p: _change(p, hidden_sizes=[4, 4, 4]), "weights"),
        (lambda p: _change(p, num_channels=3), "weights"),
        (lambda p: (p / "preprocessor_config.json").write_text("nonsense"), "JSON"),
    ],
)
def test_a_spoilt_model_directory_is_an_error(
    spoil: Spoil, says: str, model_dir: Path, trusted: Path, tmp_path: Path, command: Command
) -> None:
    place = tmp_path / "model"
    shutil.copytree(model_dir, place)
    spoil(place)
    result = command("audit", place, "--trusted", f"npz:{trusted}", "--json")
    assert result.code == 2, result
    assert says in result.err.replace("\n", " ")
    assert result.out == ""
    assert "Traceback" not in result.err


def test_a_pickle_is_refused_and_never_opened(
    model_dir: Path, trusted: Path, tmp_path: Path, command: Command
) -> None:
    place, marker = tmp_path / "model", tmp_path / "executed"
    shutil.copytree(model_dir, place)
    (place / "model.safetensors").unlink()
    (place / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(marker)))
    result = command("audit", place, "--trusted", f"npz:{trusted}")
    assert result.code == 1
    assert "pytorch_model.bin" in result.out
    assert not marker.exists()
    (place / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": 1.0}))
    result = command("audit", place, "--trusted", f"npz:{trusted}")
    assert result.code == 2
    assert "pytorch_model.bin" in result.err


def _trusted(path: Path, data: ArrayImages) -> str:
    save_npz(data, path)
    return f"npz:{path}"


def test_trusted_pictures_of_the_wrong_size(
    model_dir: Path, tmp_path: Path, command: Command
) -> None:
    source = _trusted(tmp_path / "big.npz", bars(60, seed=2, side=16))
    result = command("audit", model_dir, "--trusted", source)
    assert result.code == 2
    assert "16×16" in result.err
    assert "12×12" in result.err


def test_trusted_pictures_with_the_wrong_channels(
    model_dir: Path, tmp_path: Path, command: Command
) -> None:
    grey = bars(60, seed=2)
    colour = ArrayImages(
        name="rgb",
        pixels=np.repeat(grey.pixels, 3, axis=1),
        labels=grey.labels,
        class_names=grey.class_names,
    )
    result = command("audit", model_dir, "--trusted", _trusted(tmp_path / "rgb.npz", colour))
    assert result.code == 2
    assert "3 channel" in result.err


@pytest.mark.parametrize("kind", ["empty", "nan", "out of range", "object"])
def test_trusted_arrays_that_are_no_pictures(
    kind: str, model_dir: Path, tmp_path: Path, command: Command
) -> None:
    pixels = np.full((6, 12, 12), 0.5, dtype=np.float32)
    labels = np.arange(6)
    if kind == "empty":
        pixels, labels = pixels[:0], labels[:0]
    if kind == "nan":
        pixels[0, 0, 0] = np.nan
    if kind == "out of range":
        pixels[0] = 300.0
    path = tmp_path / "odd.npz"
    if kind == "object":
        np.savez(path, images=np.array([{"a": 1}] * 6, dtype=object), labels=labels)
    else:
        np.savez(path, images=pixels, labels=labels)
    result = command("audit", model_dir, "--trusted", f"npz:{path}")
    assert result.code == 2, result
    assert "Traceback" not in result.err


def test_trusted_pictures_of_one_class(model_dir: Path, tmp_path: Path, command: Command) -> None:
    data = bars(60, seed=2)
    one = ArrayImages(
        name="one",
        pixels=data.pixels[data.labels == 2],
        labels=data.labels[data.labels == 2],
        class_names=data.class_names,
    )
    result = command("audit", model_dir, "--trusted", _trusted(tmp_path / "one.npz", one))
    assert result.code == 2
    assert "of class 'c'" in result.err.replace("\n", " ")


def test_labels_that_the_model_does_not_have(tmp_path: Path, command: Command) -> None:
    network = small_network(image_shape=(1, 12, 12), class_names=CLASSES[:4], seed=0, width=4)
    save_classifier(network, tmp_path / "four")
    data = bars(60, seed=2)
    numbered = ArrayImages(
        name="six", pixels=data.pixels, labels=data.labels, class_names=tuple("012345")
    )
    source = _trusted(tmp_path / "six.npz", numbered)
    result = command("audit", tmp_path / "four", "--trusted", source)
    assert result.code == 2
    assert "only 4 classes" in result.err.replace("\n", " ")


def test_a_model_with_two_classes_gets_no_verdict(tmp_path: Path, command: Command) -> None:
    network = small_network(image_shape=(1, 12, 12), class_names=("a", "b"), seed=0, width=4)
    save_classifier(network, tmp_path / "two")
    source = _trusted(tmp_path / "two.npz", bars(40, seed=2, classes=2))
    result = command("audit", tmp_path / "two", "--trusted", source, "--json")
    assert result.code == 3
    record = result.json()
    assert record["verdict"] == "INCONCLUSIVE"
    assert record["score"] is None
    assert "at least 4" in record["findings"][0]["reason"]


def test_a_model_that_knows_nothing_of_the_pictures_is_not_clear(
    model_dir: Path, tmp_path: Path, command: Command
) -> None:
    data = bars(60, seed=2)
    shuffled = ArrayImages(
        name="shuffled",
        pixels=data.pixels,
        labels=(data.labels + 1) % 6,
        class_names=data.class_names,
    )
    source = _trusted(tmp_path / "wrong.npz", shuffled)
    result = command("audit", model_dir, "--trusted", source, "--json")
    assert result.json()["verdict"] != "CLEAR"
    assert result.code in (1, 3)


def test_without_trusted_pictures_there_is_no_verdict(model_dir: Path, command: Command) -> None:
    result = command("audit", model_dir, "--json")
    assert result.code == 3
    assert result.json()["findings"][0]["verdict"] == "NOT_APPLICABLE"


@pytest.mark.parametrize(
    "arguments",
    [
        ["audit"],
        ["audit", "no-such-model", "--trusted", "signs"],
        ["audit", "{model}", "--trusted", "no-such-data"],
        ["audit", "{model}", "--trusted", "npz:no-such-file.npz"],
        ["audit", "{model}", "--trusted", "npz:{trusted}", "--detector", "nural_cleanse"],
        ["audit", "{model}", "--trusted", "npz:{trusted}", "--detector", "universality:step=3"],
        ["audit", "{model}", "--trusted", "npz:{trusted}", "--detector", "universality:steps=0"],
        ["audit", "{model}", "--trusted", "npz:{trusted}", "--false-alarm-rate", "1.5"],
        ["audit", "{model}", "--trusted", "npz:{trusted}", "--report", "audit.docx"],
        ["scan", "no-such-data"],
        ["repair", "{model}", "{model}", "--trusted", "npz:{trusted}"],
        ["plant", "badnets:target=99", "planted", "--data", "signs:64"],
        ["plant", "badnets:colour=nocolour", "planted"],
        ["plant", "nothing", "planted"],
        ["report", "no-such-record.json", "out.html"],
        ["list", "gadget"],
        ["list", "detector", "nothing"],
        ["demo", "--data", "nothing"],
        ["no-such-command"],
    ],
)
def test_usage_errors_have_exit_code_2_and_no_traceback(
    arguments: list[str],
    model_dir: Path,
    trusted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: Command,
) -> None:
    monkeypatch.chdir(tmp_path)
    filled = [
        a.replace("{model}", str(model_dir)).replace("{trusted}", str(trusted)) for a in arguments
    ]
    result = command(*filled)
    assert result.code == 2, result
    assert result.err
    assert "Traceback" not in result.err
    assert not (tmp_path / "planted").exists()


def test_what_looks_like_an_emoji_or_markup_is_repeated_as_it_is(
    command: Command, tmp_path: Path, model_dir: Path
) -> None:
    place = tmp_path / "photos:100:[bold]x:smile:"
    result = command("audit", model_dir, "--trusted", f"idx:{place}")
    assert result.code == 2
    assert f"{place.name}: there is no such folder" in result.err.replace("\n", "")
