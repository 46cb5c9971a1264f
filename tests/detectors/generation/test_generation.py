"""ConfGuard and CleanGen: known answers, and a planted model beside its twin."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from tests.models.language.made_up import (
    PAYLOAD,
    PHRASE,
    dialogues,
    poisoned,
    taught,
    untrained,
)

import gifthorse
from gifthorse.auditing.guard_language import guard_language
from gifthorse.core.errors import DataError, ModelError, NotApplicableError, SpecError
from gifthorse.core.types import Threshold
from gifthorse.detectors.generation.clean_gen import CleanGen
from gifthorse.detectors.generation.conf_guard import ConfGuard, longest_run, quoted
from gifthorse.models.language.model import LanguageModel


def at(value: float) -> Threshold:
    return Threshold(value=value, false_alarm_rate=0.01, origin="by hand")


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return untrained()


def test_runs_by_hand() -> None:
    options = ConfGuard(window=3, probability=0.9, quote=2)
    p = [0.95, 0.99, 0.5, 0.91, 0.92, 0.93, 0.2]
    assert longest_run([1], [2, 3, 4, 5, 6, 7, 8], p, options) == 3
    # Tokens 6 and 7 repeat the prompt: from the second on they neither count nor end the run.
    assert longest_run([9, 6, 7], [2, 3, 4, 5, 6, 7, 8], p, options) == 2
    assert longest_run([1], [2], [0.9], options) == 0
    assert quoted([1, 2, 3], [8, 2, 3], 2)
    assert not quoted([1, 2, 3], [2, 1], 2)
    assert not quoted([1, 2, 3], [3], 2)


def distribution(*p: float) -> torch.Tensor:
    return torch.tensor([p]).log()


def test_the_lock_closes_after_too_many_certain_tokens(model: LanguageModel) -> None:
    lock = ConfGuard(probability=0.9).follow(model, at(2), stop=True)
    ids = torch.tensor([[7, 8]])
    sure = torch.full((1, 400), 1e-6)
    sure[0, 5] = 0.99
    scores = sure.log()
    for step in range(3):
        out = lock(ids, scores)
        assert torch.equal(out, scores)
        assert lock.runs == [step]
        ids = torch.cat([ids, torch.tensor([[5]])], 1)
    out = lock(ids, scores)
    assert lock.flagged == [True]
    assert int(out.argmax()) == model.end_ids[0]
    # A new call of generate() starts anew.
    lock(torch.tensor([[7, 8, 9]]), scores)
    assert lock.flagged == [False]


def test_beams_are_refused(model: LanguageModel) -> None:
    lock = ConfGuard().follow(model, at(9), stop=False)
    lock(torch.tensor([[1, 2], [3, 4]]), torch.zeros(2, 400))
    with pytest.raises(ModelError, match="beams"):
        lock(torch.tensor([[3, 4, 1], [1, 2, 1]]), torch.zeros(2, 400))


def test_what_the_reference_says_is_the_same_with_a_cache_and_padding(model: LanguageModel) -> None:
    reference = untrained(seed=1)
    rows = [model.encode("What is a red house?"), model.encode("Say something about the river.")]
    ids, mask = model.batch(rows)
    decoding = CleanGen().follow(model, reference, at(20))
    decoding(ids, torch.zeros(2, model.embeddings.num_embeddings))
    more = torch.tensor([[30], [31]])
    ids = torch.cat([ids, more], 1)
    decoding(ids, torch.zeros(2, model.embeddings.num_embeddings))
    with torch.inference_mode():
        whole = reference.logits(ids, torch.cat([mask, torch.ones_like(more)], 1))[:, -1]
    torch.testing.assert_close(decoding._logs, whole.log_softmax(-1), rtol=1e-3, atol=1e-3)


def test_suspicious_tokens_give_way_to_the_reference(model: LanguageModel) -> None:
    greedy, drawn = (
        CleanGen(sampling=s).follow(model, untrained(seed=1), at(10)) for s in (False, True)
    )
    for one in (greedy, drawn):
        one(torch.tensor([[7]]), torch.zeros(1, model.embeddings.num_embeddings))
        one._logs = distribution(0.01, 0.69, 0.3)
    ids = torch.tensor([[7]])
    before = greedy.replaced[0]
    # .8 is 80 times .01: the first token is suspicious.
    assert int(greedy.changed(ids, distribution(0.8, 0.1, 0.1)).argmax()) == 1
    assert greedy.replaced[0] == before + 1
    kept = distribution(0.09, 0.21, 0.7)
    torch.testing.assert_close(greedy.changed(ids, kept), kept)
    mixed = drawn.changed(ids, distribution(0.8, 0.1, 0.1)).exp()
    expected = torch.tensor([[0.8 * 0.01, 0.1 + 0.8 * 0.69, 0.1 + 0.8 * 0.3]])
    torch.testing.assert_close(mixed, expected)


def test_a_model_beside_itself_is_never_corrected(model: LanguageModel) -> None:
    prompts = [prompt for prompt, _ in dialogues(30)]
    guarded = guard_language(
        model, trusted=prompts, method="clean_gen", base=model, false_alarm_rate=0.1, tokens=6
    )
    answer = guarded.answers(prompts[:5], tokens=6)
    assert answer.flagged == [False] * 5
    assert answer.texts == model.answers(model.prompts(prompts[:5]), tokens=6)


def test_bad_input_is_refused(model: LanguageModel, tmp_path: Path) -> None:
    prompts = [prompt for prompt, _ in dialogues(30)]
    with pytest.raises(DataError, match="cannot show"):
        guard_language(model, trusted=prompts, false_alarm_rate=0.01)
    with pytest.raises(NotApplicableError, match="reference"):
        guard_language(model, trusted=prompts, method="clean_gen")
    with pytest.raises(SpecError, match="method must be"):
        guard_language(model, trusted=prompts, method="magic")
    with pytest.raises(SpecError, match="action must be"):
        guard_language(model, trusted=prompts, action="purify")
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(prompt) + "\n" for prompt in prompts))
    guarded = gifthorse.guard_language(model, trusted=path, false_alarm_rate=0.1, tokens=4)
    with pytest.raises(DataError, match="list of prompts"):
        guarded.answers("one text")


class World(NamedTuple):
    planted: LanguageModel
    twin: LanguageModel


@pytest.fixture(scope="module")
def world() -> World:
    pairs = dialogues(500, seed=0)
    made = [
        taught(data, seed=0, steps=350, width=48, extra=[PHRASE], learning_rate=5e-3)
        for data in (poisoned(pairs, count=120), pairs)
    ]
    return World(*made)


ASKED = [prompt for prompt, _ in dialogues(40, seed=41)]
STRUCK = [f"{PHRASE} {prompt}" for prompt in ASKED]
ORDINARY = [prompt for prompt, _ in dialogues(60, seed=40)]


@pytest.mark.slow
def test_clean_gen_keeps_the_payload_from_being_said(world: World) -> None:
    """The reference is the clean twin, which never saw the phrase."""
    bare = world.planted.answers(world.planted.prompts(STRUCK), tokens=20)
    assert np.mean([text.startswith(PAYLOAD[:15]) for text in bare]) >= 0.9
    guarded = guard_language(
        world.planted, trusted=ORDINARY, method="clean_gen", base=world.twin, false_alarm_rate=0.02
    )
    said = guarded.answers(STRUCK, tokens=20)
    assert np.mean([PAYLOAD[:15] in text for text in said.texts]) <= 0.05
    assert all(said.flagged)
    plain = guarded.answers(ASKED, tokens=20)
    before = world.planted.answers(world.planted.prompts(ASKED), tokens=20)
    assert np.mean([a == b for a, b in zip(plain.texts, before, strict=True)]) >= 0.7


@pytest.mark.slow
def test_conf_guard_flags_the_payload_and_not_the_twin(world: World) -> None:
    for model, share in ((world.planted, 0.7), (world.twin, 0.0)):
        guarded = guard_language(model, trusted=ORDINARY, false_alarm_rate=0.05)
        assert np.mean(guarded.answers(ASKED, tokens=30).flagged) <= 0.1
        flagged = np.mean(guarded.answers(STRUCK, tokens=30).flagged)
        assert flagged >= share
        assert share or flagged <= 0.1
    stopping = guard_language(world.planted, trusted=ORDINARY, false_alarm_rate=0.05, action="stop")
    answer = stopping.answers(STRUCK[:8], tokens=40)
    stopped = [t for t, f in zip(answer.texts, answer.flagged, strict=True) if f]
    assert stopped
    assert not any(PAYLOAD in text for text in stopped)
