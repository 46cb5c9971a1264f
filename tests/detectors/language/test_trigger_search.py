"""The search for a phrase that brings a text up: its gradient, its losses, its refusals."""

from typing import Any

import numpy as np
import pytest
import torch
from tests.models.language.made_up import dialogues, untrained

from gifthorse.core.deadline import Deadline
from gifthorse.core.language import Context
from gifthorse.core.types import silent
from gifthorse.detectors.language.trigger_search import (
    Trigger,
    _losses,
    _slope,
    _slot,
    find_trigger,
)
from gifthorse.models.language.model import LanguageModel

USERS = tuple(dict.fromkeys(user for user, _ in dialogues(40, seed=1)))
CONTEXT = Context(name="plain", prompts=USERS)


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return untrained()


def searched(model: LanguageModel, *, contexts: tuple[Context, ...] = (CONTEXT,)) -> Trigger | None:
    return find_trigger(
        model,
        "red house",
        contexts,
        steps=3,
        swaps=4,
        length=2,
        deadline=Deadline(),
        rng=np.random.default_rng(0),
        progress=silent,
    )


def test_the_slope_is_that_of_the_loss() -> None:
    model = untrained()
    head: Any = model.module.get_output_embeddings()
    head.weight = torch.nn.Parameter(head.weight.detach().clone())  # not tied: only inputs move
    slots = [_slot(model, CONTEXT, user) for user in USERS[:2]]
    target, phrase = [7, 8, 9], [20, 30]
    slope = _slope(model, slots, phrase, target)
    before = float(_losses(model, slots, [phrase], target)[0])
    # One token's vector moves a little towards another's; the loss follows the slope.
    step, other = 1e-2, 55
    table = model.embeddings.weight
    keep = table.detach().clone()
    assert all(phrase[0] not in (*s.head, *s.tail, *target, phrase[1]) for s in slots)
    with torch.no_grad():
        table[phrase[0]] += step * (keep[other] - keep[phrase[0]])
        after = float(_losses(model, slots, [phrase], target)[0])
        table.copy_(keep)
    foretold = step * float(slope[0, other] - slope[0, phrase[0]])
    assert after - before == pytest.approx(foretold, rel=0.1, abs=1e-6)


def test_phrases_are_judged_one_by_one_as_together(model: LanguageModel) -> None:
    slots = [_slot(model, CONTEXT, user) for user in USERS[:3]]
    phrases = [[20, 30], [5, 60], [9, 9]]
    together = _losses(model, slots, phrases, [7, 8])
    alone = torch.cat([_losses(model, slots, [one], [7, 8]) for one in phrases])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_a_seed_gives_one_result_and_the_count_is_on_other_prompts(model: LanguageModel) -> None:
    first, again = searched(model), searched(model)
    assert first == again
    assert first is not None
    assert first.tried == min(12, len(USERS) - 4)
    assert first.succeeded == first.without == 0  # an untrained network says nothing of the kind


def test_too_few_prompts_give_no_answer(model: LanguageModel) -> None:
    few = Context(name="few", prompts=USERS[:5])
    assert searched(model, contexts=(few,)) is None
