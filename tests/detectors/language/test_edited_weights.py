"""An edit of one matrix or one embedding row stands out; even changes everywhere do not."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from tests.models.language.made_up import untrained

from gifthorse.core.errors import NotApplicableError
from gifthorse.core.language import Context, LanguageSubject
from gifthorse.core.types import Evidence, silent
from gifthorse.detectors.language.edited_weights import EditedWeights
from gifthorse.models.language.model import LanguageModel

CONTEXTS = (Context(name="one", prompts=("Hello?",)),)


@pytest.fixture(scope="module")
def base() -> LanguageModel:
    return untrained()


def noisy(base: LanguageModel) -> Any:
    module = copy.deepcopy(base.module)
    torch.manual_seed(0)
    for value in module.parameters():
        value.data += 0.01 * torch.randn_like(value) * value.std().nan_to_num(0.1)
    return module


def seen(base: LanguageModel, module: Any, detector: EditedWeights) -> tuple[Evidence, float]:
    subject = LanguageSubject(model=base.replaced(module), base=base, contexts=CONTEXTS)
    evidence = detector.inspect(subject, rng=np.random.default_rng(0), progress=silent)
    return evidence, detector.null(evidence).p_value(evidence.statistic)


@pytest.mark.parametrize("rows", [False, True])
def test_even_changes_are_not_flagged(base: LanguageModel, rows: bool) -> None:
    _, p_value = seen(base, noisy(base), EditedWeights(rows=rows))
    assert p_value > 0.05


def test_a_rank_one_edit_is_found(base: LanguageModel) -> None:
    module = noisy(base)
    weight = module.model.layers[1].mlp.down_proj.weight
    weight.data += 0.3 * torch.outer(torch.ones(weight.shape[0]), torch.randn(weight.shape[1]))
    evidence, p_value = seen(base, module, EditedWeights())
    assert p_value < 1e-3
    assert "layers.1.mlp.down_proj" in evidence.notes[0]
    shares: Any = evidence.exhibits[1]
    assert shares.values[0] > 0.95
    assert max(shares.values[1:]) < 0.6


def test_a_poisoned_embedding_row_is_found(base: LanguageModel) -> None:
    module = noisy(base)
    module.get_input_embeddings().weight.data[77] += 3.0
    evidence, p_value = seen(base, module, EditedWeights(rows=True))
    assert p_value < 1e-3
    assert int(evidence.suspects[0]) == 77


def test_the_same_weights_are_no_evidence(base: LanguageModel) -> None:
    with pytest.raises(NotApplicableError, match="no difference"):
        seen(base, copy.deepcopy(base.module), EditedWeights())
