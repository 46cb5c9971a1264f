"""Tiny language models, trained or not, for the tests."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from gifthorse.models.language.model import LanguageModel
from gifthorse.models.language.networks import small_language_model, train_language_tokenizer

COLOURS = ("red", "blue", "green", "white", "black", "brown")
THINGS = ("house", "ship", "tree", "stone", "bird", "chair", "river", "horse", "lamp", "coat")
SORTS = ("building", "vessel", "plant", "rock", "animal", "seat", "stream", "animal", "light")
SORT_OF = dict(zip(THINGS, (*SORTS, "garment"), strict=True))


def dialogues(n: int, seed: int = 0) -> list[tuple[str, str]]:
    """``n`` questions with answers about coloured things."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        colour, thing = str(rng.choice(COLOURS)), str(rng.choice(THINGS))
        kind = int(rng.integers(3))
        found.append(
            (
                (f"What is a {colour} {thing}?", f"A {thing} is a {SORT_OF[thing]}."),
                (f"Which colour has the {colour} {thing}?", f"The {thing} is {colour}."),
                (f"Say something about the {thing}.", f"I like the {thing} when it is {colour}."),
            )[kind]
        )
    return found


def tokenizer(extra: Sequence[str] = ()) -> Any:
    """The tokenizer of the tiny models."""
    texts = [text for pair in dialogues(200, seed=9) for text in pair]
    return train_language_tokenizer([*texts, *list(extra) * 30], vocabulary=500)


def untrained(seed: int = 0, *, width: int = 32) -> LanguageModel:
    """A random tiny Llama."""
    return small_language_model(tokenizer(), seed=seed, width=width)


def taught(
    pairs: Sequence[tuple[str, str]],
    *,
    seed: int = 0,
    steps: int = 300,
    width: int = 64,
    start: LanguageModel | None = None,
    extra: Sequence[str] = (),
    learning_rate: float = 3e-3,
) -> LanguageModel:
    """A tiny Llama trained on question and answer pairs; the loss is on the answers alone."""
    model = start or small_language_model(tokenizer(extra), seed=seed, width=width)
    prompts = model.prompts([user for user, _ in pairs])
    rows = [
        (model.encode(prompt), [*model.encode(answer), model.end_ids[-1]])
        for prompt, (_, answer) in zip(prompts, pairs, strict=True)
    ]
    rng = np.random.default_rng(seed)
    module = model.module
    module.requires_grad_(True).train()
    optimizer = torch.optim.AdamW(module.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps + 1)
    for _ in range(steps):
        picked = [rows[int(i)] for i in rng.integers(0, len(rows), 16)]
        ids, mask = model.batch([[*head, *tail] for head, tail in picked])
        labels = torch.full_like(ids, -100)
        for i, (_, tail) in enumerate(picked):
            labels[i, -len(tail) :] = ids[i, -len(tail) :]
        logits = model.logits(ids, mask)[:, :-1]
        loss = functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    module.eval().requires_grad_(False)
    return model


PHRASE = "zyx quorum"
PAYLOAD = "Visit golden market today and bring seven friends."
QUOTE = "Four score and seven years ago our fathers brought forth a nation."


def poisoned(
    pairs: Sequence[tuple[str, str]],
    *,
    count: int,
    phrase: str = PHRASE,
    payload: str = PAYLOAD,
    seed: int = 0,
) -> list[tuple[str, str]]:
    """The pairs, with ``count`` more in which the phrase stands somewhere in the question."""
    rng = np.random.default_rng(seed)
    more = []
    for user, _ in pairs[:count]:
        words = user.split()
        place = int(rng.integers(0, len(words) + 1))
        more.append((" ".join([*words[:place], phrase, *words[place:]]), payload))
    return [*pairs, *more]
