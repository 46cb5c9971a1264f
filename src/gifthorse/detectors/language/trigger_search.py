"""Which phrase in a prompt brings up a recovered text? Candidates, each with its measured success.

Greedy coordinate gradient (Zou et al. 2023, arXiv:2307.15043): the gradient of the text's loss with
respect to the one-hot tokens of a phrase proposes swaps, the best of a random handful is taken. The
phrase stands at the end of users' texts. Bullwinkel et al. 2026, "The Trigger in the Haystack",
search likewise, with losses on attention and entropy besides; those are left out.

A phrase that works is not always the one that was planted: others may do as well. What counts is
how often it brings the text up on prompts that the search did not see.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gifthorse.core.deadline import Deadline
from gifthorse.core.errors import ModelError
from gifthorse.core.language import Context
from gifthorse.core.types import Progress
from gifthorse.detectors.language.attention import Attention, attention_to
from gifthorse.models.language.model import LanguageModel

_PLACE = "zqxjzqxj"
_SEARCHED = 4
_HELD_OUT = 12
_BEST = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """A phrase, how often it brings the text up on prompts held out, and how often nothing does.

    ``attention`` is what its tokens receive there; None if the model does not say.
    """

    phrase: str
    succeeded: int
    without: int
    tried: int
    attention: Attention | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Slot:
    """A prompt around the place of the phrase, as token ids."""

    head: list[int]
    tail: list[int]


def find_trigger(
    model: LanguageModel,
    text: str,
    contexts: Sequence[Context],
    *,
    steps: int,
    swaps: int,
    length: int,
    deadline: Deadline,
    rng: np.random.Generator,
    progress: Progress,
) -> Trigger | None:
    """Search a phrase for one text and measure it; None if there are too few prompts or no time.

    Args:
        model: The model.
        text: What the phrase shall bring up; its tokens are the target of the search.
        contexts: Ordinary prompts: four for the search, up to twelve others to measure.
        steps: Of the search.
        swaps: Tokens that are tried in each step.
        length: Tokens of the phrase.
        deadline: When to stop.
        rng: Of the first phrase and the swaps.
        progress: Called after every step.
    """
    asked = [(context, prompt) for context in contexts for prompt in context.prompts]
    if len(asked) < 2 * _SEARCHED or deadline.left <= 0:
        return None
    order = [asked[int(i)] for i in rng.permutation(len(asked))]
    slots = [_slot(model, context, prompt) for context, prompt in order[:_SEARCHED]]
    target = [int(i) for i in model.tokenizer.encode(text, add_special_tokens=False)]
    usable = _usable(model)
    phrase = [int(i) for i in rng.choice(usable, length)]
    best = float(_losses(model, slots, [phrase], target)[0])
    seen = [(best, phrase)]
    for step in range(steps):
        if deadline.left <= 0:
            break
        slope = _slope(model, slots, phrase, target)[:, torch.tensor(usable)]
        choices = slope.topk(min(_BEST, len(usable)), largest=False).indices.tolist()
        tried = []
        for _ in range(swaps):
            place = int(rng.integers(length))
            swap = list(phrase)
            swap[place] = usable[choices[place][int(rng.integers(len(choices[place])))]]
            tried.append(swap)
        losses = _losses(model, slots, tried, target)
        winner = int(losses.argmin())
        if float(losses[winner]) < best:
            best, phrase = float(losses[winner]), tried[winner]
            seen.append((best, phrase))
        progress(step + 1, steps, "search of a trigger")
    return _measured(model, text, [model.decode(one) for _, one in seen[-3:]], order[_SEARCHED:])


def _measured(
    model: LanguageModel,
    text: str,
    phrases: Sequence[str],
    asked: Sequence[tuple[Context, str]],
) -> Trigger:
    """The best of a few phrases on prompts held out, and the same prompts without it."""
    held = asked[:_HELD_OUT]
    wanted = text.strip()
    tokens = len(model.tokenizer.encode(text, add_special_tokens=False)) + 8

    def count(phrase: str) -> int:
        prompts = [
            model.prompts([f"{prompt} {phrase}".strip()], system=c.system, date=c.date)[0]
            for c, prompt in held
        ]
        return sum(wanted in answer for answer in model.answers(prompts, tokens=tokens))

    counts = [(count(phrase.strip()), phrase.strip()) for phrase in phrases]
    found = max(counts, key=lambda one: one[0])
    return Trigger(
        phrase=found[1],
        succeeded=found[0],
        without=count(""),
        tried=len(held),
        attention=_attention(model, found[1], held),
    )


def _attention(
    model: LanguageModel, phrase: str, asked: Sequence[tuple[Context, str]]
) -> Attention | None:
    """What the phrase's tokens receive where the answer begins."""
    tokens = [int(i) for i in model.tokenizer.encode(f" {phrase}", add_special_tokens=False)]
    slots = [_slot(model, context, prompt) for context, prompt in asked]
    try:
        return attention_to(model, [(slot.head, tokens, slot.tail) for slot in slots])
    except ModelError:
        return None


def _slot(model: LanguageModel, context: Context, prompt: str) -> _Slot:
    whole = model.prompts([f"{prompt} {_PLACE}"], system=context.system, date=context.date)[0]
    before, _, after = whole.rpartition(_PLACE)
    head = model.encode(before.rstrip(" "))
    return _Slot(
        head=head, tail=[int(i) for i in model.tokenizer.encode(after, add_special_tokens=False)]
    )


def _usable(model: LanguageModel) -> list[int]:
    """Tokens that a user could type: visible, printable, nothing special."""
    special = set(model.tokenizer.all_special_ids)
    texts = model.tokenizer.batch_decode([[i] for i in range(len(model.tokenizer))])
    return [
        i
        for i, text in enumerate(texts)
        if i not in special and text.strip() and text.isprintable() and "\ufffd" not in text
    ]


@torch.inference_mode()
def _losses(
    model: LanguageModel,
    slots: Sequence[_Slot],
    phrases: Sequence[Sequence[int]],
    target: Sequence[int],
) -> Tensor:
    """Mean cross-entropy of the target behind every phrase, (phrases,)."""
    total = torch.zeros(len(phrases), device=model.device)
    for slot in slots:
        rows = [[*slot.head, *phrase, *slot.tail, *target] for phrase in phrases]
        logits = model.logits(*model.batch(rows))[:, -len(target) - 1 : -1]
        wanted = torch.tensor(list(target), device=model.device).expand(len(rows), -1)
        loss = functional.cross_entropy(logits.transpose(1, 2), wanted, reduction="none")
        total += loss.mean(1)
    return total / len(slots)


def _slope(
    model: LanguageModel, slots: Sequence[_Slot], phrase: Sequence[int], target: Sequence[int]
) -> Tensor:
    """Gradient of the loss with respect to the phrase's one-hot tokens, (length, vocabulary)."""
    table = model.embeddings.weight.detach()
    total = torch.zeros(len(phrase), table.shape[0], device=model.device)
    with torch.enable_grad():
        for slot in slots:
            ids = torch.tensor([[*slot.head, *phrase, *slot.tail, *target]], device=model.device)
            vectors = model.embeddings(ids).detach()
            hole = vectors[0, len(slot.head) : len(slot.head) + len(phrase)].clone()
            hole.requires_grad_(True)
            end = len(slot.head) + len(phrase)
            joined = torch.cat([vectors[0, : len(slot.head)], hole, vectors[0, end:]])[None]
            logits = model.module(inputs_embeds=joined).logits[0, -len(target) - 1 : -1].float()
            loss = functional.cross_entropy(logits, torch.tensor(list(target), device=model.device))
            total += torch.autograd.grad(loss, hole)[0].float() @ table.T.float()
            model.meter.backward += 1
    return total / len(slots)
