"""Attention to a phrase: by hand, and what is left behind."""

import numpy as np
import pytest
import torch
from tests.models.language.made_up import untrained

from gifthorse.core.errors import ModelError
from gifthorse.core.language import Context
from gifthorse.detectors.language.attention import attention_to
from gifthorse.detectors.language.trigger_search import _attention
from gifthorse.models.language.model import LanguageModel


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return untrained()


def test_without_queries_attention_is_even(model: LanguageModel) -> None:
    loud, last = 40, 60
    rows = [([5, 6, 7, 8], [loud, 41], [9, 10, last]), ([11, 12, 13, 14], [loud, 41], [15, last])]
    before = attention_to(model, rows)
    other = untrained()
    with torch.no_grad():
        for layer in other.module.model.layers:
            layer.self_attn.q_proj.weight.zero_()
    even = attention_to(other, rows)
    # Without queries all that came before is attended to alike: 1/9 and 1/8.
    np.testing.assert_allclose(even.shares, [(1 / 9 + 1 / 8) / 2] * 2, rtol=1e-5)
    assert even.ordinary == pytest.approx((1 / 9 + 1 / 8) / 2)
    assert before.tokens == tuple(model.decode([token]) for token in (loud, 41))
    assert before.shares != even.shares


def test_the_way_of_attending_is_put_back(model: LanguageModel) -> None:
    before = model.module.config._attn_implementation
    attention_to(model, [([5], [6], [7])])
    assert model.module.config._attn_implementation == before


def test_a_model_that_keeps_its_attention_to_itself(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ValueError

    monkeypatch.setattr(model.module, "set_attn_implementation", refuse, raising=False)
    with pytest.raises(ModelError, match="attention"):
        attention_to(model, [([5], [6], [7])])
    asked = [(Context(name="one", prompts=("Hello?",)), "Hello?")]
    assert _attention(model, "red house", asked) is None
