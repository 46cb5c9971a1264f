"""Repairs of language models: what can be worked out by hand."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from tests.models.language.made_up import dialogues, untrained

from gifthorse.core.errors import ModelError, NotApplicableError
from gifthorse.core.instructions import Instruction, InstructionData
from gifthorse.core.language_repairs import LanguageRepairSubject
from gifthorse.core.registry import Scalar, Spec, build, names
from gifthorse.core.types import Need, silent
from gifthorse.models.language.examples import Example, batch_of, examples
from gifthorse.models.language.model import LanguageModel
from gifthorse.repairs.language.crow import hidden_states, inconsistency, moved_embeddings
from gifthorse.repairs.language.embedding_reset import suspicious_rows
from gifthorse.repairs.language.fine_mixing import mixed_with
from gifthorse.repairs.language.payload_unlearning import (
    log_others,
    luring_prefix,
    tokens_loss,
    with_answers,
)
from gifthorse.repairs.language.tuning import copied
from gifthorse.repairs.language.wanda import input_norms, kept_weights


def records(n: int = 24) -> InstructionData:
    pairs = dialogues(n, seed=4)
    return InstructionData(
        name="trusted", records=tuple(Instruction(prompt=p, response=r) for p, r in pairs)
    )


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return untrained()


@pytest.fixture(scope="module")
def base() -> LanguageModel:
    return untrained(seed=1)


def weights(model: LanguageModel) -> dict[str, torch.Tensor]:
    return dict(model.module.named_parameters())


def test_a_mixture_holds_the_weights_of_both(model: LanguageModel, base: LanguageModel) -> None:
    rng = np.random.default_rng(0)
    nothing = mixed_with(model, base, keep=0.0, mixing="average", rng=rng)
    half = mixed_with(model, base, keep=0.25, mixing="average", rng=rng)
    drawn = mixed_with(model, base, keep=0.25, mixing="random", rng=rng)
    ours, theirs = weights(model), weights(base)
    kept = total = 0
    for name, w in weights(drawn).items():
        assert torch.equal(weights(nothing)[name], theirs[name])
        torch.testing.assert_close(
            weights(half)[name], 0.25 * ours[name] + 0.75 * theirs[name], rtol=1e-5, atol=1e-6
        )
        differ = ours[name] != theirs[name]
        assert bool(((w == ours[name]) | (w == theirs[name])).all())
        kept += int((w == ours[name])[differ].sum())
        total += int(differ.sum())
    assert abs(kept / total - 0.25) < 0.02


def test_rows_are_ranked_by_change_for_their_frequency() -> None:
    base = torch.zeros(5, 2)
    ours = torch.tensor([[0.0, 0.0], [3.0, 4.0], [3.0, 4.0], [6.0, 8.0], [0.3, 0.4]])
    # Changes 0, 5, 5, 10, .5; frequencies below 20 count as 20; ln 20 = 3.0, ln 20^4 = 12.0.
    often = torch.tensor([0.0, 0.0, 20.0**4, 20.0**4, 1.0])
    assert suspicious_rows(ours, base, often, 1.0).tolist() == [1, 3, 2, 4]  # 1.67, .83, .42, .17
    assert suspicious_rows(ours, base, often, 0.3).tolist() == [1, 3]


def test_wanda_takes_the_least_important_of_every_row() -> None:
    weight = torch.tensor([[1.0, -2.0, 3.0, 0.1], [4.0, 1.0, 1.0, 1.0]])
    norms = torch.tensor([10.0, 1.0, 1.0, 1.0])
    # Importances: 10, 2, 3, .1 and 40, 1, 1, 1 (ties go by place).
    assert kept_weights(weight, norms, 0.5).tolist() == [[1, 0, 1, 0], [1, 0, 0, 1]]
    assert kept_weights(weight, norms, 0.2).sum() == 8


def test_padding_has_no_part_in_the_norms(model: LanguageModel) -> None:
    data = InstructionData(
        name="two",
        records=(
            Instruction(prompt="What is a red house?", response="A house."),
            Instruction(prompt="Say something.", response="I like the river when it is blue."),
        ),
    )
    one, both = (input_norms(model, data, batch_size=size) for size in (1, 2))
    assert one.keys() == both.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, both[name], rtol=1e-4, atol=1e-4)


def test_inconsistency_by_hand() -> None:
    up, right = torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0])
    one = torch.stack([up, up])[None]  # (1, 2, 2)
    two = torch.stack([right, up])[None]
    three = torch.stack([right, -up])[None]
    mask = torch.ones(1, 2)
    assert float(inconsistency([one, one], mask)) == 0
    # Pairs: (one, two) 1 and 0, (two, three) 0 and 2; the mean of four.
    assert float(inconsistency([one, two, three], mask)) == pytest.approx(0.75)
    broken = one.clone()
    broken[0, 0] = float("nan")
    assert float(inconsistency([broken, three], torch.tensor([[0, 1]]))) == pytest.approx(2)


def test_the_moved_embeddings_make_layers_disagree_more(model: LanguageModel) -> None:
    found = examples(model, records(), longest=400)[:6]
    batch = batch_of(model, found)
    module: Any = copied(model).module
    plain = module.get_input_embeddings()(batch.ids)
    moved = moved_embeddings(module, batch, 0.01)
    apart = (moved - plain).detach()[batch.mask.bool()]
    assert float(apart.abs().max()) <= 0.01 + 1e-6
    before, after = (
        float(inconsistency(hidden_states(module, batch, x), batch.mask)) for x in (plain, moved)
    )
    assert after > before
    # What padding stands beside a text does not change what is done to it.
    alone = moved_embeddings(module, batch_of(model, found[:1]), 0.01)
    mine = moved[0][batch.mask[0].bool()]
    same = torch.isclose(mine, alone[0], atol=1e-5).float().mean()
    assert float(same) > 0.99


def test_unlikelihood_is_exact_and_keeps_a_gradient() -> None:
    logits = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 40.0]], requires_grad=True)
    labels = torch.tensor([1, 2])
    found = log_others(logits, labels)
    p = math.exp(2) / (math.exp(1) + math.exp(2) + math.exp(3))
    assert float(found.detach()[0]) == pytest.approx(math.log(1 - p), rel=1e-5)
    assert float(found.detach()[1]) == pytest.approx(math.log(2) - 40, rel=1e-4)
    (-found.sum()).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert float(logits.grad[1, 2]) == pytest.approx(1.0, abs=1e-4)


def test_other_answers_to_the_same_prompts(model: LanguageModel) -> None:
    found = examples(model, records(), longest=400)[:3]
    other = with_answers(model, batch_of(model, found), [(5, 6), (7,), (8, 9, 10)])
    again = batch_of(
        model,
        [Example(one.prompt, a) for one, a in zip(found, [(5, 6), (7,), (8, 9, 10)], strict=True)],
    )
    assert torch.equal(other.ids, again.ids)
    assert torch.equal(other.labels, again.labels)


def test_a_luring_prefix_brings_the_text_nearer(model: LanguageModel) -> None:
    found = examples(model, records(), longest=400)[:4]
    batch = batch_of(model, found)
    rng = np.random.default_rng(0)
    few, many = (luring_prefix(model.module, batch, 3, steps, rng) for steps in (1, 20))
    assert few.shape == (3, 32)
    with torch.inference_mode():
        losses = [float(tokens_loss(model.module, batch, front=f)) for f in (few, many)]
    assert losses[1] < losses[0]


QUICK: dict[str, dict[str, Scalar]] = {
    "crow": {"epochs": 1},
    "embedding_reset": {"share": 0.1},
    "fine_mixing": {"epochs": 1},
    "fine_tuning": {"epochs": 1},
    "payload_unlearning": {"epochs": 1},
    "wanda": {},
}


@pytest.mark.parametrize("name", names("language_repairs"))
def test_every_repair_works_on_a_copy_and_repeats_itself(
    name: str, model: LanguageModel, base: LanguageModel
) -> None:
    plugin = build("language_repairs", Spec(name, QUICK.get(name, {})))
    subject = LanguageRepairSubject(
        model=model, trusted=records(), base=base, payloads=("A house is a ship.",)
    )
    assert plugin.needs <= subject.offers
    before = model.digest()
    torch.manual_seed(5)
    one = plugin.mend(subject, rng=np.random.default_rng(3), progress=silent)
    torch.manual_seed(6)
    two = plugin.mend(subject, rng=np.random.default_rng(3), progress=silent)
    assert model.digest() == before
    assert one.digest() == two.digest() != before
    with torch.inference_mode():
        ids, mask = one.batch([one.encode("What is a red house?")])
        assert bool(torch.isfinite(one.logits(ids, mask)).all())


def test_what_a_repair_does_not_declare_it_is_not_given(
    model: LanguageModel, base: LanguageModel
) -> None:
    subject = LanguageRepairSubject(model=model, trusted=records(), base=base, payloads=("x",))
    held = subject.granting(frozenset({Need.WEIGHTS}))
    assert held.base is None
    assert held.payloads == ()
    for name, word in (("fine_mixing", "base"), ("payload_unlearning", "audit")):
        plugin = build("language_repairs", Spec(name, {}))
        with pytest.raises(NotApplicableError, match=word):
            plugin.mend(held, rng=np.random.default_rng(0), progress=silent)


def test_a_base_of_another_shape_is_refused(model: LanguageModel) -> None:
    subject = LanguageRepairSubject(model=model, trusted=records(), base=untrained(width=16))
    plugin = build("language_repairs", Spec("fine_mixing", {}))
    with pytest.raises(ModelError, match="another shape"):
        plugin.mend(subject, rng=np.random.default_rng(0), progress=silent)
