"""Directories that are broken or mean harm: refused with a reason, and nothing is run."""

import io
import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from gifthorse.core.errors import ModelError
from gifthorse.models.loading import load_classifier
from gifthorse.models.networks import small_network
from gifthorse.models.saving import save_classifier


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pristine") / "model"
    model = small_network(image_shape=(1, 8, 8), class_names=("a", "b", "c"), seed=0, width=4)
    save_classifier(model, path)
    return path


@pytest.fixture
def model(pristine: Path, tmp_path: Path) -> Path:
    """A sound model directory to spoil."""
    path = tmp_path / "model"
    path.mkdir()
    for file in pristine.iterdir():
        (path / file.name).write_bytes(file.read_bytes())
    return path


class Bomb:
    """Creates a file when unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.marker,))


def configured(model: Path, **changes: Any) -> None:
    path = model / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refused(model: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load_classifier(model)
    text = str(caught.value)
    assert str(model) in text
    assert "\n" not in text
    assert len(text) < 1000
    return text


def test_the_pristine_directory_loads(model: Path) -> None:
    assert load_classifier(model).class_names == ("a", "b", "c")


def test_a_missing_directory_says_what_to_give(tmp_path: Path) -> None:
    text = refused(tmp_path / "nothing")
    assert "no such model" in text
    assert "hub:OWNER/NAME" in text


def test_a_file_says_that_its_directory_is_wanted(model: Path) -> None:
    assert "expected the directory that holds config.json" in refused(model / "model.safetensors")


def test_an_empty_directory(tmp_path: Path) -> None:
    assert "config.json is missing" in refused(tmp_path)


def header(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


Spoil = Callable[[bytes], bytes]
SPOILT: dict[str, bytes | Spoil] = {
    "empty": b"",
    "four bytes": lambda whole: whole[:4],
    "half": lambda whole: whole[: len(whole) // 2],
    "one byte short": lambda whole: whole[:-1],
    "garbage": b"garbage " * 100,
    "absurd header length": lambda whole: struct.pack("<Q", 2**63) + whole[8:],
    "long header length": lambda whole: struct.pack("<Q", 10**9) + whole[8:],
    "trailing bytes": header("{}") + b"rest",
    "nested header": header("[" * 5000 + "]" * 5000),
    "shape beyond data": header('{"w": {"dtype": "F32", "shape": [9], "data_offsets": [0, 4]}}'),
    "negative offset": header('{"w": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}'),
    "pickle": pickle.dumps({"state_dict": 1}),
}


@pytest.mark.parametrize("spoilt", SPOILT.values(), ids=SPOILT)
def test_weights_that_are_no_safetensors(model: Path, spoilt: bytes | Spoil) -> None:
    path = model / "model.safetensors"
    path.write_bytes(spoilt if isinstance(spoilt, bytes) else spoilt(path.read_bytes()))
    text = refused(model)
    assert "model.safetensors is not a whole safetensors file" in text
    assert "truncated" in text


def test_missing_weights(model: Path) -> None:
    (model / "model.safetensors").unlink()
    assert "model.safetensors is missing" in refused(model)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pth", "model.ckpt"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_is_never_opened(model: Path, tmp_path: Path, name: str, zipped: bool) -> None:
    marker = tmp_path / "it ran"
    bomb: object = Bomb(marker)
    (model / "model.safetensors").unlink()
    if zipped:
        torch.save(bomb, model / name)
    else:
        (model / name).write_bytes(pickle.dumps(bomb))
    text = refused(model)
    assert name in text
    assert "nothing was opened" in text
    assert not marker.exists()
    # The bomb is a real one.
    raw = (model / name).read_bytes()
    if zipped:
        torch.load(io.BytesIO(raw), weights_only=False)
    else:
        pickle.loads(raw)  # noqa: S301 - our own bomb
    assert marker.exists()


def test_a_pickle_beside_sound_weights_is_ignored(model: Path, tmp_path: Path) -> None:
    marker = tmp_path / "it ran"
    torch.save(Bomb(marker), model / "pytorch_model.bin")
    load_classifier(model)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "cannot be read as JSON"),
        ("{", "cannot be read as JSON"),
        ("\x00", "cannot be read as JSON"),
        ('{"a":' * 50_000 + "1" + "}" * 50_000, "cannot be read as JSON"),
        ('{"num_labels": ' + "9" * 5000 + "}", "cannot be read as JSON"),
        ("[]", "holds a list; expected a JSON object"),
        ("null", "holds a NoneType; expected a JSON object"),
        ("{}", "do not make an image classifier"),
        ('{"model_type": "no-such-thing"}', "do not make an image classifier"),
        ('{"model_type": 7}', "do not make an image classifier"),
        ('{"model_type": ["resnet"]}', "do not make an image classifier"),
        ('{"model_type": "bert"}', "'bert' is no image classifier"),
        ('{"model_type": "gpt2"}', "'gpt2' is no image classifier"),
        ('{"model_type": "resnet", "hidden_sizes": "many"}', "do not make an image classifier"),
        ('{"model_type": "resnet", "depths": []}', "model"),
        ('{"model_type": "vit"}', "missing"),
    ],
    ids=lambda value: value[:30] or "empty",
)
def test_configurations_that_are_none(model: Path, text: str, expected: str) -> None:
    (model / "config.json").write_text(text)
    assert expected in refused(model)


def test_a_configuration_that_is_no_text(model: Path) -> None:
    (model / "config.json").write_bytes(b"\xff\xfe\x00\x80")
    assert "cannot be read as JSON" in refused(model)


@pytest.mark.parametrize("model_type", ["resnet", "evil"])
@pytest.mark.parametrize("upstream", ["", "someone/else--"])
def test_code_in_the_directory_is_never_run(
    model: Path,
    tmp_path: Path,
    model_type: str,
    upstream: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    asked: list[str] = []

    def answer(prompt: str = "") -> str:
        asked.append(prompt)
        return "yes"

    monkeypatch.setattr("builtins.input", answer)
    marker = tmp_path / "it ran"
    code = f"import pathlib\npathlib.Path({str(marker)!r}).touch()\n"
    for name in ("modeling_evil.py", "configuration_evil.py", "__init__.py"):
        (model / name).write_text(code)
    configured(
        model,
        model_type=model_type,
        auto_map={
            "AutoConfig": f"{upstream}configuration_evil.EvilConfig",
            "AutoModelForImageClassification": f"{upstream}modeling_evil.EvilModel",
        },
    )
    if model_type == "resnet":  # transformers has its own code for it
        assert load_classifier(model).class_names == ("a", "b", "c")
    else:
        refused(model)
    assert not marker.exists()
    assert not asked
    assert tuple(capfd.readouterr()) == ("", "")


def test_weights_under_another_name_are_not_opened(model: Path) -> None:
    weights = load_file(model / "model.safetensors")
    save_file({key: value + 1 for key, value in weights.items()}, model / "other.safetensors")
    configured(model, transformers_weights="other.safetensors")
    assert "only model.safetensors and its shards are opened" in refused(model)


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
def test_kernels_from_a_hub_are_refused(model: Path, key: str) -> None:
    configured(model, **{key: "kernels-community/flash-attn"})
    assert "asks for code from a hub" in refused(model)


def test_adapters_are_refused(model: Path) -> None:
    (model / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/else"}')
    assert "holds an adapter" in refused(model)


def test_more_classes_than_the_weights_have(model: Path) -> None:
    names = {str(i): str(i) for i in range(5)}
    configured(model, id2label=names, label2id={v: int(k) for k, v in names.items()})
    refused(model)


@pytest.mark.parametrize(
    "names",
    [
        {"0": "a", "1": "b", "7": "c"},
        {"1": "a", "2": "b", "3": "c"},
        {"0": "a", "1": "b", "x": "c"},
        {"-1": "a", "0": "b", "1": "c"},
    ],
    ids=str,
)
def test_holes_in_the_class_names(model: Path, names: dict[str, str]) -> None:
    configured(model, id2label=names, label2id={})
    refused(model)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(model: Path, bad: float) -> None:
    path = model / "model.safetensors"
    weights = load_file(path)
    weights["classifier.1.weight"][0, 0] = bad
    save_file(weights, path, metadata={"format": "pt"})
    assert "'classifier.1.weight' holds NaN or infinite values" in refused(model)


def test_weights_that_are_missing_would_be_random(model: Path) -> None:
    path = model / "model.safetensors"
    weights = load_file(path)
    del weights["classifier.1.bias"]
    save_file(weights, path, metadata={"format": "pt"})
    text = refused(model)
    assert "classifier.1.bias" in text
    assert "would be random" in text


def sharded(model: Path, index: object) -> None:
    (model / "model.safetensors").rename(model / "shard.safetensors")
    (model / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    "index",
    [
        {},
        {"weight_map": {}},
        {"weight_map": []},
        {"weight_map": {"w": "../x.safetensors"}},
        {"weight_map": {"w": "/x.safetensors"}},
        {"weight_map": {"w": "sub/x.safetensors"}},
        {"weight_map": {"w": ["x.safetensors"]}},
        {"weight_map": {"w": {"x": 1}}},
        {"weight_map": {"w": None}},
    ],
    ids=json.dumps,
)
def test_an_index_that_points_elsewhere(model: Path, index: object) -> None:
    elsewhere = model.parent / "x.safetensors"
    elsewhere.write_bytes((model / "model.safetensors").read_bytes())
    sharded(model, index)
    assert "does not map weights to files of the same directory" in refused(model)


@pytest.mark.parametrize("name", ["missing.safetensors", "..", ".", "config.json", ""])
def test_an_index_that_names_no_shard(model: Path, name: str) -> None:
    sharded(model, {"metadata": {}, "weight_map": {"w": name}})
    refused(model)


def test_the_weights_that_were_checked_are_the_ones_loaded(model: Path) -> None:
    # Beside a sound shard and its index lies a model.safetensors, which transformers prefers.
    path = model / "model.safetensors"
    weights = load_file(path)
    save_file(weights, model / "shard.safetensors", metadata={"format": "pt"})
    (model / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": dict.fromkeys(weights, "shard.safetensors")})
    )
    weights["classifier.1.bias"][:] = float("nan")
    save_file(weights, path, metadata={"format": "pt"})
    assert "holds NaN" in refused(model)


def test_a_model_that_is_too_hard_for_its_pictures(model: Path) -> None:
    (model / "preprocessor_config.json").write_text('{"size": 8, "image_mean": [1, 2, 3]}')
    assert "3 values of mean or std for 1 channel(s)" in refused(model)


def test_a_hub_that_cannot_be_reached() -> None:
    with pytest.raises(ModelError, match="cannot fetch 'nobody/nothing' from the hub"):
        load_classifier("hub:nobody/nothing")
    with pytest.raises(ModelError, match=r"cannot fetch '../../etc' from the hub"):
        load_classifier("hub:../../etc")
