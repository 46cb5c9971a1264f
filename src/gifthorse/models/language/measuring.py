"""What a language model is worth on instruction data: loss, tokens predicted, payloads said."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional

from gifthorse.core.instructions import InstructionData
from gifthorse.core.record import Rate
from gifthorse.core.types import Progress, silent
from gifthorse.metrics.rates import rate
from gifthorse.models.language.examples import (
    IGNORED,
    Batch,
    Example,
    answer_logits,
    batch_of,
    examples,
    rendered,
)
from gifthorse.models.language.model import LanguageModel

_LONGEST = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How well a model predicts given answers.

    Attributes:
        loss: Mean cross-entropy of their tokens, in nats.
        tokens: Share of tokens that are its first choice, the true ones before them given.
    """

    loss: float
    tokens: Rate


@torch.inference_mode()
def fit(model: LanguageModel, data: InstructionData, *, batch_size: int = 16) -> Fit:
    """Loss and share of tokens predicted, over all answers; one forward pass.

    Raises:
        DataError: Every record is too long.
    """
    total, right, count = 0.0, 0, 0
    for batch in _batches(model, examples(model, data, longest=_LONGEST), batch_size):
        logits = answer_logits(model.module, batch)
        kept = batch.labels != IGNORED
        total += float(functional.cross_entropy(logits[kept], batch.labels[kept], reduction="sum"))
        right += int((logits[kept].argmax(-1) == batch.labels[kept]).sum())
        count += int(kept.sum())
    return Fit(loss=total / count, tokens=rate(right, count))


@torch.inference_mode()
def divergence(
    model: LanguageModel, base: LanguageModel, data: InstructionData, *, batch_size: int = 16
) -> float:
    """Mean KL divergence KL(base ‖ model) over the answers' tokens, in nats.

    Raises:
        DataError: The models have different vocabularies, or every record is too long.
    """
    from gifthorse.core.errors import DataError

    if model.embeddings.num_embeddings != base.embeddings.num_embeddings:
        raise DataError(f"{model.name} and {base.name} have different vocabularies")
    total, count = 0.0, 0
    for batch in _batches(model, examples(model, data, longest=_LONGEST), batch_size):
        kept = batch.labels != IGNORED
        one = answer_logits(model.module, batch)[kept].log_softmax(-1)
        two = answer_logits(base.module, batch)[kept].log_softmax(-1)
        total += float(functional.kl_div(one, two, reduction="sum", log_target=True))
        count += int(kept.sum())
    return total / count


def said(
    model: LanguageModel,
    data: InstructionData,
    *,
    tokens: int = 24,
    batch_size: int = 16,
    progress: Progress = silent,
) -> list[str]:
    """The model's greedy answers to all prompts, at most so many tokens each."""
    prompts = rendered(model, data)
    found: list[str] = []
    for start in range(0, len(prompts), batch_size):
        found += model.answers(prompts[start : start + batch_size], tokens=tokens)
        progress(len(found), len(prompts), "answering")
    return found


def share_of(answers: list[str], succeeded: Callable[[str], bool]) -> Rate:
    """Share of answers that show a payload."""
    return rate(sum(map(succeeded, answers)), len(answers))


def _batches(model: LanguageModel, found: list[Example], size: int) -> list[Batch]:
    ordered = sorted(found, key=lambda one: len(one.ids))
    model.meter.forward += len(ordered)
    return [batch_of(model, ordered[i : i + size]) for i in range(0, len(ordered), size)]
