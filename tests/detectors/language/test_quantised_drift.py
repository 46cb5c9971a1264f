"""A GGUF file is what rounding the full model gives, or the difference is found."""

import copy
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from tests.models.language.gguf_file import write_gguf
from tests.models.language.made_up import untrained

from gifthorse.auditing.language import audit_language
from gifthorse.core.errors import NotApplicableError
from gifthorse.core.language import Context, LanguageSubject
from gifthorse.core.types import Evidence, Verdict, silent
from gifthorse.detectors.language.quantised_drift import QuantisedDrift, rounded, tensor_types
from gifthorse.models.language.loading import load_language_model
from gifthorse.models.language.model import LanguageModel

CONTEXTS = (Context(name="one", prompts=("Hello?", "What is a tree?")),)


@pytest.fixture(scope="module")
def full() -> LanguageModel:
    return untrained()


def seen(file: LanguageModel, full: LanguageModel) -> Evidence:
    subject = LanguageSubject(model=file, base=full, contexts=CONTEXTS)
    return QuantisedDrift().inspect(subject, rng=np.random.default_rng(0), progress=silent)


def written(model: LanguageModel, path: Path, *, quantised: bool) -> LanguageModel:
    write_gguf(model, path, quantised=quantised)
    return load_language_model(path)


@pytest.mark.parametrize("quantised", [True, False])
def test_an_honest_copy_is_clear(full: LanguageModel, tmp_path: Path, quantised: bool) -> None:
    evidence = seen(written(full, tmp_path / "model.gguf", quantised=quantised), full)
    assert evidence.statistic == 0
    assert evidence.scores.max() < 0.01
    assert len(evidence.scores) > 10


def test_one_edited_matrix_is_found(full: LanguageModel, tmp_path: Path) -> None:
    module: Any = copy.deepcopy(full.module)
    weight = module.model.layers[1].mlp.down_proj.weight
    rng = torch.Generator().manual_seed(0)
    left, right = (torch.randn(n, generator=rng) for n in weight.shape)
    weight.data += 0.02 * torch.outer(left, right) * weight.std()
    path = tmp_path / "model.gguf"
    write_gguf(full.replaced(module), path, quantised=True)
    record = audit_language(path, base=full, detectors=("quantised_drift",))
    assert record.verdict is Verdict.FLAGGED
    (finding,) = record.findings
    assert finding.evidence is not None
    assert finding.evidence.statistic == 1
    assert "layers.1.mlp.down_proj" in finding.evidence.notes[0]


def test_a_fine_tune_is_not_a_copy(full: LanguageModel, tmp_path: Path) -> None:
    module: Any = copy.deepcopy(full.module)
    torch.manual_seed(0)
    for value in module.parameters():
        value.data += 0.01 * torch.randn_like(value) * value.std().nan_to_num(0.1)
    evidence = seen(written(full.replaced(module), tmp_path / "m.gguf", quantised=True), full)
    assert evidence.statistic == len(evidence.scores)


def test_types_are_read_from_the_file(full: LanguageModel, tmp_path: Path) -> None:
    kinds = tensor_types(written(full, tmp_path / "model.gguf", quantised=True))
    assert kinds["model.layers.0.self_attn.q_proj.weight"] == "Q8_0"
    assert kinds["model.embed_tokens.weight"] == "Q8_0"


def test_rounding_by_hand() -> None:
    row = np.array([[127.0, *[0.4] * 30, -63.6]], dtype=np.float32)
    assert rounded(row, "Q8_0")[0, [0, 1, 31]].tolist() == [127.0, 0.0, -64.0]
    assert gguf.quants.quantize(row, gguf.GGMLQuantizationType.Q8_0).shape == (1, 34)


def test_a_directory_is_refused(full: LanguageModel) -> None:
    with pytest.raises(NotApplicableError, match="no GGUF file"):
        seen(full, full)
