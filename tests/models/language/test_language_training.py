"""Training of language models: what the loss is on, what is left alone, adapters."""

import copy
from pathlib import Path

import pytest
import torch
from tests.models.language.made_up import dialogues, untrained

from gifthorse.core.errors import DataError
from gifthorse.core.instructions import Instruction, InstructionData
from gifthorse.core.rng import make_rng
from gifthorse.models.language.examples import answer_logits, batch_of, examples
from gifthorse.models.language.loading import load_language_model
from gifthorse.models.language.measuring import divergence, fit, said
from gifthorse.models.language.model import LanguageModel
from gifthorse.models.language.saving import save_language_model
from gifthorse.models.language.training import (
    LanguageTrainingPlan,
    answer_loss,
    train_language,
)


def talk(n: int, seed: int = 0) -> InstructionData:
    return InstructionData(
        name="talk",
        records=tuple(Instruction(prompt=a, response=b) for a, b in dialogues(n, seed)),
    )


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return untrained()


def test_the_loss_is_that_of_every_answer_alone_whatever_stands_beside_it(
    model: LanguageModel,
) -> None:
    found = sorted(examples(model, talk(6), longest=200), key=lambda one: len(one.ids))
    chosen = [found[0], found[-1]]
    assert len(chosen[0].ids) < len(chosen[1].ids)
    by_hand = []
    for one in chosen:
        logits = model.module(input_ids=torch.tensor([one.ids])).logits[0].log_softmax(-1)
        start = len(one.prompt)
        by_hand += [float(-logits[i - 1, one.ids[i]]) for i in range(start, len(one.ids))]
    got = float(answer_loss(model.module, batch_of(model, chosen)))
    assert got == pytest.approx(sum(by_hand) / len(by_hand), rel=1e-4)


def test_an_answer_ends_with_the_token_that_ends_answers(model: LanguageModel) -> None:
    found = examples(model, talk(3), longest=200)
    assert all(one.answer[-1] == model.tokenizer.eos_token_id for one in found)
    batch = batch_of(model, found)
    assert answer_logits(model.module, batch).shape[:2] == batch.labels.shape


@pytest.mark.parametrize("rank", [0, 4])
def test_a_copy_is_trained_the_same_under_a_seed_and_learns(
    model: LanguageModel, rank: int
) -> None:
    before = copy.deepcopy(model.module.state_dict())
    plan = LanguageTrainingPlan(epochs=2, learning_rate=5e-3, lora_rank=rank)
    one, two = (train_language(model, talk(48), plan, rng=make_rng(3)).model for _ in range(2))
    assert all(torch.equal(v, before[k]) for k, v in model.module.state_dict().items())
    assert one.digest() == two.digest() != model.digest()
    assert fit(one, talk(20, 5)).loss < fit(model, talk(20, 5)).loss - (0.5 if not rank else 0.02)
    assert not any(p.requires_grad for p in one.module.parameters())


def test_an_adapter_that_is_written_opens_as_the_merged_model(
    model: LanguageModel, tmp_path: Path
) -> None:
    plan = LanguageTrainingPlan(epochs=1, learning_rate=2e-2, lora_rank=4)
    trained = train_language(model, talk(48), plan, rng=make_rng(3))
    assert trained.adapter is not None
    save_language_model(model, tmp_path / "base")
    trained.adapter.save(tmp_path / "adapter", base=str(tmp_path / "base"))
    opened = load_language_model(tmp_path / "adapter")
    ids, mask = opened.batch([opened.encode(text) for text in opened.prompts(["What is red?"])])
    torch.testing.assert_close(
        opened.logits(ids, mask), trained.model.logits(ids, mask), atol=1e-4, rtol=1e-3
    )


def test_measures_of_a_model_against_itself_and_against_chance(model: LanguageModel) -> None:
    data = talk(10)
    assert divergence(model, model, data) == pytest.approx(0, abs=1e-6)
    assert divergence(untrained(seed=4), model, data) > 1e-3
    size = model.embeddings.num_embeddings
    assert fit(model, data).loss == pytest.approx(float(torch.tensor(size).log()), rel=0.1)
    assert len(said(model, data, tokens=3, batch_size=4)) == len(data)


def test_records_that_do_not_fit_are_left_out_and_none_left_is_an_error(
    model: LanguageModel,
) -> None:
    long = Instruction(prompt="x " * 300, response="y")
    data = InstructionData(name="long", records=(*talk(3).records, long))
    assert len(examples(model, data, longest=100)) == 3
    with pytest.raises(DataError, match="more than 100 tokens"):
        examples(model, InstructionData(name="long", records=(long,)), longest=100)
