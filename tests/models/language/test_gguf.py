"""GGUF files: read back, dequantised, truncated."""

from pathlib import Path

import pytest
import torch
from tests.models.language.gguf_file import write_gguf
from tests.models.language.made_up import untrained

from gifthorse.core.errors import ModelError
from gifthorse.models.language.loading import is_language_model, load_language_model
from gifthorse.models.language.model import LanguageModel
from gifthorse.models.language.saving import save_language_model


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return untrained()


def logits(model: LanguageModel) -> torch.Tensor:
    ids = torch.tensor([model.encode(model.prompts(["What is a red house?"])[0])])
    with torch.inference_mode():
        return model.logits(ids, torch.ones_like(ids))


def test_a_file_is_read_back(model: LanguageModel, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    write_gguf(model, path)
    back = load_language_model(path)
    assert is_language_model(path)
    assert back.source == "gguf"
    assert back.chat_template == model.chat_template
    assert back.tokenizer.get_vocab() == model.tokenizer.get_vocab()
    assert back.end_ids == model.end_ids
    torch.testing.assert_close(logits(back), logits(model), atol=1e-4, rtol=1e-3)
    save_language_model(back, tmp_path / "directory")
    again = load_language_model(tmp_path / "directory")
    torch.testing.assert_close(logits(again), logits(model), atol=1e-4, rtol=1e-3)


def test_a_quantised_file_is_close(model: LanguageModel, tmp_path: Path) -> None:
    write_gguf(model, tmp_path / "model.gguf", quantised=True)
    back = load_language_model(tmp_path / "model.gguf")
    gap = (logits(back) - logits(model)).abs().max()
    assert 0 < gap < 0.2 * logits(model).abs().max()


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.95])
def test_a_truncated_file_is_refused(model: LanguageModel, tmp_path: Path, kept: float) -> None:
    path = tmp_path / "model.gguf"
    write_gguf(model, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(ModelError, match="not opened"):
        load_language_model(path)


def test_a_hostile_template_is_refused(model: LanguageModel, tmp_path: Path) -> None:
    from dataclasses import replace

    hostile = replace(model, chat_template="{{ ''.__class__.__mro__[1].__subclasses__() }}")
    write_gguf(hostile, tmp_path / "model.gguf")
    with pytest.raises(ModelError, match="Python's insides"):
        load_language_model(tmp_path / "model.gguf")
