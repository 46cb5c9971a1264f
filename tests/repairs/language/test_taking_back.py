"""Unlearning goes only as far as it must."""

import math

import numpy as np
import pytest
import torch
from tests.models.language.made_up import dialogues, untrained

from gifthorse.core.instructions import Instruction, InstructionData
from gifthorse.core.language_repairs import LanguageRepairSubject
from gifthorse.core.types import silent
from gifthorse.models.language.examples import Example, batch_of
from gifthorse.models.language.model import LanguageModel
from gifthorse.repairs.language.payload_unlearning import PayloadUnlearning, given_beginning


def records(n: int = 24) -> InstructionData:
    pairs = dialogues(n, seed=4)
    return InstructionData(
        name="trusted", records=tuple(Instruction(prompt=p, response=r) for p, r in pairs)
    )


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return untrained()


def change(one: LanguageModel, two: LanguageModel) -> float:
    theirs = dict(two.module.named_parameters())
    return math.sqrt(
        sum(float(((w - theirs[name]) ** 2).sum()) for name, w in one.module.named_parameters())
    )


def mended(model: LanguageModel, **options: float) -> LanguageModel:
    subject = LanguageRepairSubject(
        model=model, trusted=records(), payloads=("A house is a ship.",)
    )
    plugin = PayloadUnlearning(epochs=2, learning_rate=3e-3, **options)  # type: ignore[arg-type]
    return plugin.mend(subject, rng=np.random.default_rng(3), progress=silent)


def test_the_first_token_is_given_and_the_others_are_judged(model: LanguageModel) -> None:
    batch = batch_of(model, [Example((4, 5, 6), (7, 8, 9)), Example((4, 5), (7, 8))])
    with torch.inference_mode():
        logs = [
            model.module(torch.tensor([ids])).logits[0, -1].log_softmax(-1)[token]
            for ids, token in (([4, 5, 6, 7], 8), ([4, 5, 6, 7, 8], 9), ([4, 5, 7], 8))
        ]
    assert given_beginning(model.module, batch) == pytest.approx(
        float(torch.stack(logs).mean()), abs=1e-4
    )


def test_a_text_of_one_token_is_judged_itself(model: LanguageModel) -> None:
    batch = batch_of(model, [Example((4, 5, 6), (7,))])
    with torch.inference_mode():
        log = model.module(torch.tensor([[4, 5, 6]])).logits[0, -1].log_softmax(-1)[7]
    assert given_beginning(model.module, batch) == pytest.approx(float(log), abs=1e-4)


def test_no_more_is_changed_than_needed(model: LanguageModel) -> None:
    whole = mended(model, halvings=0)
    never = mended(model, gone=1e-30)  # cannot be reached: everything trained is kept
    least = mended(model, gone=0.9)  # is so from the start: the smallest share is kept
    assert change(whole, never) == 0
    assert change(least, model) == pytest.approx(change(whole, model) / 16, rel=1e-3)


@pytest.mark.parametrize("options", [{"gone": 0.0}, {"gone": 1.0}, {"halvings": 17}])
def test_options_out_of_range(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="gone must be"):
        PayloadUnlearning(**options)  # type: ignore[arg-type]
