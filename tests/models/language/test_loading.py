"""Directories, shards, adapters, and what is refused."""

import copy
import json
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.models.language.made_up import untrained

from gifthorse.core.errors import ModelError
from gifthorse.models.language.loading import is_language_model, load_language_model
from gifthorse.models.language.model import LanguageModel
from gifthorse.models.language.saving import save_language_model


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return untrained()


@pytest.fixture
def folder(model: LanguageModel, tmp_path: Path) -> Path:
    save_language_model(model, tmp_path / "model")
    return tmp_path / "model"


def lora(model: LanguageModel, directory: Path, base: str = "", **options: Any) -> torch.nn.Module:
    """Write an adapter with PEFT, its factors random; returns PEFT's own, not merged."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=4,
        lora_alpha=6,
        target_modules=options.pop("target_modules", ["q_proj", "down_proj"]),
        task_type="CAUSAL_LM",
        **options,
    )
    torch.manual_seed(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of transformers about PEFT, of PEFT about tied weights
        wrapped = get_peft_model(copy.deepcopy(model.module), config)
    for name, value in wrapped.named_parameters():
        if "lora_" in name and "magnitude" not in name:
            torch.nn.init.normal_(value, std=0.1)
    wrapped.peft_config["default"].base_model_name_or_path = base
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT looks for the base on the hub
        wrapped.save_pretrained(directory)
    running: torch.nn.Module = wrapped.eval()
    return running


def test_a_directory_is_read_back(model: LanguageModel, folder: Path) -> None:
    back = load_language_model(folder)
    assert is_language_model(folder)
    assert back.digest() == model.digest()
    assert back.chat_template == model.chat_template
    prompts = model.prompts(["What is a red house?"])
    assert back.answers(prompts, tokens=8) == model.answers(prompts, tokens=8)


def test_shards_are_read(model: LanguageModel, folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for shard, held in shards.items():
        save_file({n: weights[n] for n in held}, folder / shard, metadata={"format": "pt"})
    index = {
        "metadata": {},
        "weight_map": {n: shard for shard, held in shards.items() for n in held},
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert load_language_model(folder).digest() == model.digest()
    (folder / "b.safetensors").unlink()
    with pytest.raises(ModelError, match=r"b\.safetensors is missing"):
        load_language_model(folder)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_rslora": True},
        {"use_dora": True},
        {"alpha_pattern": {"q_proj": 3}, "rank_pattern": {"down_proj": 2}},
        {"target_modules": ["q_proj", "embed_tokens"]},
    ],
)
def test_a_merged_adapter_answers_as_pefts(
    model: LanguageModel, folder: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    running = lora(model, tmp_path / "adapter", str(folder), **options)
    ours = load_language_model(tmp_path / "adapter")
    assert ours.source == "adapter"
    ids = torch.arange(40).reshape(2, 20)
    with torch.inference_mode():
        expected = running(input_ids=ids).logits
        found = ours.module(input_ids=ids).logits
        base = model.module(input_ids=ids).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(base, expected, atol=1e-3)


def test_a_base_is_found_or_asked_for(model: LanguageModel, folder: Path, tmp_path: Path) -> None:
    lora(model, tmp_path / "adapter", "somebody/model")
    with pytest.raises(ModelError, match="not at hand"):
        load_language_model(tmp_path / "adapter")
    given = load_language_model(tmp_path / "adapter", base=folder)
    assert any("names 'somebody/model'" in note for note in given.notes)


def test_an_adapter_for_another_base_is_refused(model: LanguageModel, tmp_path: Path) -> None:
    save_language_model(untrained(width=48), tmp_path / "other")
    lora(model, tmp_path / "adapter")
    with pytest.raises(ModelError, match="made for another base"):
        load_language_model(tmp_path / "adapter", base=tmp_path / "other")
    shallow = untrained()
    del shallow.module.model.layers[1]
    shallow.module.config.num_hidden_layers = 1
    save_language_model(shallow, tmp_path / "shallow")
    with pytest.raises(ModelError, match="its base does not have"):
        load_language_model(tmp_path / "adapter", base=tmp_path / "shallow")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("peft_type", "IA3", "only LoRA"),
        ("megatron_config", {"a": 1}, "not supported"),
        ("alpha_pattern", {"(a+)+$": 1}, "expression"),
        ("lora_alpha", "many", "gives 'many'"),
        ("task_type", "SEQ_CLS", "expected CAUSAL_LM"),
    ],
)
def test_strange_adapters_are_refused(
    model: LanguageModel, folder: Path, tmp_path: Path, key: str, value: Any, said: str
) -> None:
    lora(model, tmp_path / "adapter", str(folder))
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(ModelError, match=said):
        load_language_model(tmp_path / "adapter")


def broken(folder: Path) -> Iterator[tuple[str, str]]:
    """Spoil the folder in one way after the other; what the error must say."""
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])
    yield "truncated weights", "truncated"
    weights.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04")
    yield "pickle only", "can run code"


def test_broken_weights(folder: Path) -> None:
    for _, said in broken(folder):
        with pytest.raises(ModelError, match=said):
            load_language_model(folder)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_hidden_layers": 10**9}, "none has more than"),
        ({"hidden_size": 1 << 20}, "the files hold"),
        ({"vocab_size": 1 << 30}, "the files hold"),
        ({"num_hidden_layers": 3}, "missing"),
        ({"model_type": "vit"}, "no causal language model"),
        ({"transformers_weights": "x.bin"}, "names its weights"),
    ],
)
def test_hostile_configurations(folder: Path, changes: dict[str, Any], said: str) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ModelError, match=said):
        load_language_model(folder)


def test_a_tokenizer_must_be_there_and_fit(folder: Path, tmp_path: Path) -> None:
    small = shutil.copytree(folder, tmp_path / "small")
    told = json.loads((small / "tokenizer.json").read_text())
    for i in range(9):
        told["added_tokens"].append(
            dict(told["added_tokens"][0], id=len(told["model"]["vocab"]) + i, content=f"<extra{i}>")
        )
    (small / "tokenizer.json").write_text(json.dumps(told))
    with pytest.raises(ModelError, match="do not belong together"):
        load_language_model(small)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="does not make a tokenizer"):
        load_language_model(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="turns texts into tokens"):
        load_language_model(folder)


def test_huge_files_are_not_read(folder: Path) -> None:
    (folder / "tokenizer.json").write_bytes(b'{"a":"' + b"x" * (100 << 20) + b'"}')
    with pytest.raises(ModelError, match="a tokenizer has at most"):
        load_language_model(folder)
    (folder / "config.json").write_bytes(b'{"a":"' + b"x" * (100 << 20) + b'"}')
    with pytest.raises(ModelError, match="not opened"):
        load_language_model(folder)


def test_a_file_that_is_no_gguf(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"GGUF" + b"\x03\0\0\0" + b"\xff" * 40)
    with pytest.raises(ModelError, match="not opened"):
        load_language_model(tmp_path / "a.gguf")
    (tmp_path / "b.gguf").write_text("hello")
    with pytest.raises(ModelError, match="is none"):
        load_language_model(tmp_path / "b.gguf")
