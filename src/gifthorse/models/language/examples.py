"""Instruction data as tokens: the rendered prompt, and the answer with the token that ends it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gifthorse.core.errors import DataError, ModelError
from gifthorse.core.instructions import InstructionData
from gifthorse.core.types import IntArray
from gifthorse.models.language.model import LanguageModel

IGNORED = -100
"""Label of tokens that no loss is taken on."""


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids of a prompt and of the answer to it, both at least one."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]

    @property
    def ids(self) -> tuple[int, ...]:
        """Both together."""
        return self.prompt + self.answer


def rendered(model: LanguageModel, data: InstructionData) -> list[str]:
    """What the model reads for every record, up to where its answer begins."""
    texts = [""] * len(data)
    by_system: dict[str, list[int]] = {}
    for i, record in enumerate(data.records):
        by_system.setdefault(record.system, []).append(i)
    for system, places in by_system.items():
        found = model.prompts([data.records[i].prompt for i in places], system=system)
        for i, text in zip(places, found, strict=True):
            texts[i] = text
    return texts


def examples(model: LanguageModel, data: InstructionData, *, longest: int) -> list[Example]:
    """Every record as tokens; those of more than ``longest`` tokens are left out.

    Raises:
        DataError: Nothing is left.
        ModelError: The model has no token that ends an answer.
    """
    if not model.end_ids:
        raise ModelError(f"{model.name} has no token that ends an answer; it cannot be trained")
    eos = model.tokenizer.eos_token_id
    end = int(eos) if eos in model.end_ids else model.end_ids[-1]
    found = []
    for prompt, record in zip(rendered(model, data), data.records, strict=True):
        answer = model.tokenizer.encode(record.response, add_special_tokens=False)
        one = Example(tuple(model.encode(prompt)), (*(int(i) for i in answer), end))
        if one.prompt and len(one.ids) <= longest:
            found.append(one)
    if not found:
        raise DataError(f"{data.name}: every record has more than {longest} tokens")
    return found


@dataclass(frozen=True, slots=True)
class Batch:
    """Examples padded on the left, so that all answers end in the last column.

    Attributes:
        ids: Token ids, (n, length).
        mask: 1 where there is a token, (n, length).
        labels: Token ids of the answers, ``IGNORED`` elsewhere, (n, kept).
        kept: How many of the last positions hold an answer somewhere.
    """

    ids: Tensor
    mask: Tensor
    labels: Tensor
    kept: int


def batch_of(model: LanguageModel, chosen: Sequence[Example]) -> Batch:
    """A batch on the model's device."""
    ids, mask = model.batch([one.ids for one in chosen])
    kept = max(len(one.answer) for one in chosen)
    labels = torch.full((len(chosen), kept), IGNORED, dtype=torch.long, device=ids.device)
    for i, one in enumerate(chosen):
        labels[i, kept - len(one.answer) :] = torch.tensor(one.answer, device=ids.device)
    return Batch(ids, mask, labels, kept)


def answer_logits(module: torch.nn.Module, batch: Batch) -> Tensor:
    """Logits of every token of the answers, (n, kept, vocabulary), in float32."""
    positions = (batch.mask.cumsum(1) - 1).clamp(min=0)
    out = module(
        input_ids=batch.ids,
        attention_mask=batch.mask,
        position_ids=positions,
        logits_to_keep=batch.kept + 1,
        use_cache=False,
    )
    return torch.as_tensor(out.logits)[:, -batch.kept - 1 : -1].float()


def mixed(found: Sequence[Example], size: int, rng: np.random.Generator) -> list[IntArray]:
    """Batches of examples of about one length, in random order."""
    lengths = np.array([len(one.ids) for one in found])
    order = np.argsort(lengths * rng.uniform(0.8, 1.25, len(lengths)), kind="stable")
    parts = [order[i : i + size].astype(np.int64) for i in range(0, len(order), size)]
    return [parts[int(i)] for i in rng.permutation(len(parts))]
