"""How much the beginning of an answer attends to each token of a phrase in the prompt.

Bullwinkel et al. 2026, "The Trigger in the Haystack", find that a trigger's tokens take over the
attention of the middle layers. Here that is shown for a phrase that was found otherwise, and judges
nothing. The first token of a prompt is left out of the comparison: it is where attention goes when
it has nowhere to go (Xiao et al. 2023, arXiv:2309.17453).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from gifthorse.core.errors import ModelError
from gifthorse.core.types import ScoreArray
from gifthorse.models.language.model import LanguageModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """Attention to the tokens of a phrase, and to an ordinary token of the prompt.

    Attributes:
        tokens: The phrase's tokens as text.
        shares: Mean attention that each receives, as many, in [0, 1].
        ordinary: Median over the prompt's other tokens, the first one left out.
    """

    tokens: tuple[str, ...]
    shares: tuple[float, ...]
    ordinary: float


def attention_to(
    model: LanguageModel, rows: Sequence[tuple[Sequence[int], Sequence[int], Sequence[int]]]
) -> Attention:
    """Mean over prompts, heads and the middle third of the layers, from the last token of a prompt.

    Args:
        model: A causal model.
        rows: Token ids before the phrase, of the phrase (as many in every row), and after it.

    Raises:
        ModelError: The model does not give its attention.
    """
    length = len(rows[0][1])
    shares, ordinary = np.zeros(length), []
    with _eager(model):
        for head, phrase, tail in rows:
            seen = _from_last(model, [*head, *phrase, *tail])
            place = np.arange(len(seen))
            inside = (place >= len(head)) & (place < len(head) + length)
            shares += seen[inside] / len(rows)
            ordinary.append(float(np.median(seen[~inside & (place > 0)])))
    return Attention(
        tokens=tuple(model.decode([token]) for token in rows[0][1]),
        shares=tuple(float(share) for share in shares),
        ordinary=float(np.mean(ordinary)),
    )


@torch.inference_mode()
def _from_last(model: LanguageModel, ids: Sequence[int]) -> ScoreArray:
    """Attention of the last token to all, (length,)."""
    model.meter.forward += 1
    given = torch.tensor([list(ids)], device=model.device)
    layers = model.module(input_ids=given, output_attentions=True, use_cache=False).attentions
    # Fast attention kernels give none, without a word.
    if not layers or layers[0] is None or layers[0].shape[-1] != len(ids):
        raise ModelError(f"{model.name} does not give its attention")
    third = len(layers) // 3
    middle = layers[third : max(third + 1, len(layers) - third)]
    found = torch.stack([layer[0, :, -1].float().mean(0) for layer in middle]).mean(0)
    return np.asarray(found.cpu().numpy(), dtype=np.float64)


@contextmanager
def _eager(model: LanguageModel) -> Iterator[None]:
    """Plain attention for a while."""
    before = getattr(model.module.config, "_attn_implementation", None)
    try:
        model.module.set_attn_implementation("eager")
    except (AttributeError, ValueError) as error:
        raise ModelError(f"{model.name} does not give its attention") from error
    try:
        yield
    finally:
        if before:
            model.module.set_attn_implementation(before)
