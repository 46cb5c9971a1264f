"""Many continuations of one prompt at once, with the prompt's keys and values held once.

All chains lie side by side in *one* sequence behind the prompt; a mask lets every token see the
prompt, its own chain and itself. The cache of the prompt is therefore broadcast over the chains and
never copied (the tree attention of Miao et al. 2023, SpecInfer, arXiv:2305.09781, without the
drafts). Costs a wider mask; saves reading the prompt once per candidate.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from gifthorse.models.language.model import LanguageModel

_PREFIX, _DROPPED = -1, -2


class SharedPrefix:
    """Chains of tokens behind one prompt.

    Args:
        model: The model.
        prompt: Token ids, at least one.
    """

    def __init__(self, model: LanguageModel, prompt: Sequence[int]) -> None:
        from transformers import DynamicCache

        self._model = model
        self._length = len(prompt)
        self._cache = DynamicCache()
        ids = torch.tensor([list(prompt)], device=model.device)
        with torch.inference_mode():
            out = model.module(
                input_ids=ids, past_key_values=self._cache, use_cache=True, logits_to_keep=1
            )
        model.meter.forward += 1
        self.first: Tensor = out.logits[0, -1].float()  # (vocabulary,): what the answer begins with
        self._owner = torch.full((self._length,), _PREFIX, device=model.device)

    def reset(self) -> None:
        """Forget all chains; the prompt stays."""
        added = len(self._owner) - self._length
        if added:
            self._cache.crop(-added)
        self._owner = self._owner[: self._length]

    @torch.inference_mode()
    def step(self, chains: Tensor, tokens: Tensor) -> Tensor:
        """Append one token to each of some chains of one length, and see what comes next.

        A chain may stand here several times with different tokens: branches, of which ``keep``
        then keeps some.

        Args:
            chains: Numbers of chains, shape (n,), values ≥ 0.
            tokens: What is appended, shape (n,).

        Returns:
            Logits (n, vocabulary), float32.
        """
        count = len(chains)
        depth = int((self._owner == chains[0]).sum()) if count else 0
        seen = (self._owner[None] == _PREFIX) | (self._owner[None] == chains[:, None])
        own = torch.eye(count, dtype=torch.bool, device=chains.device)
        blocked = ~torch.cat([seen, own], 1)
        mask = torch.zeros(blocked.shape, dtype=self._model.module.dtype, device=chains.device)
        mask.masked_fill_(blocked, torch.finfo(mask.dtype).min)
        self._owner = torch.cat([self._owner, chains])
        out = self._model.module(
            input_ids=tokens[None],
            attention_mask=mask[None, None],
            position_ids=torch.full_like(tokens, self._length + depth)[None],
            past_key_values=self._cache,
            use_cache=True,
        )
        self._model.meter.forward += count
        return torch.as_tensor(out.logits)[0].float()

    def keep(self, which: Tensor) -> None:
        """Of the tokens of the last step keep those of this mask (n,); the others never were."""
        start = len(self._owner) - len(which)
        dropped = torch.full_like(self._owner[start:], _DROPPED)
        last = torch.where(which, self._owner[start:], dropped)
        self._owner = torch.cat([self._owner[:start], last])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trees:
    """The same chains behind the same prompts, in the model and in the base if there is one.

    ``background`` (vocabulary,) is the control where there is no base.
    """

    model: tuple[SharedPrefix, ...]
    base: tuple[SharedPrefix, ...]
    background: Tensor | None = None

    @classmethod
    def of(
        cls,
        model: LanguageModel,
        base: LanguageModel | None,
        prompts: Sequence[Sequence[int]],
        background: Tensor | None = None,
    ) -> "Trees":
        """Read the prompts."""
        return cls(
            model=tuple(SharedPrefix(model, prompt) for prompt in prompts),
            base=tuple(SharedPrefix(base, prompt) for prompt in prompts) if base else (),
            background=background,
        )

    def reset(self) -> None:
        """Forget all chains."""
        for tree in (*self.model, *self.base):
            tree.reset()

    def drop(self, count: int) -> None:
        """Forget the last ``count`` tokens, which were a look ahead; the base never sees those."""
        for tree in self.model:
            tree.keep(torch.zeros(count, dtype=torch.bool, device=tree.first.device))

    def ahead(self, chains: Tensor, tokens: Tensor) -> Tensor:
        """What comes next in the model alone, (n, vocabulary); ``drop`` follows."""
        return _mean(self.model, chains, tokens)

    def step(self, chains: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Mean over prompts of what comes next, both (n, vocabulary), in model and control."""
        found = _mean(self.model, chains, tokens)
        if self.base:
            ground = _mean(self.base, chains, tokens)
            return found, functional.pad(ground, (0, max(0, found.shape[1] - ground.shape[1])))
        if self.background is None:
            return found, found
        return found, self.background.expand_as(found)


def _mean(trees: Sequence[SharedPrefix], chains: Tensor, tokens: Tensor) -> Tensor:
    """Mean over prompts of the next-token distributions, (n, vocabulary)."""
    total: Any = 0
    for tree in trees:
        total = total + tree.step(chains, tokens).softmax(-1)
    return torch.as_tensor(total / len(trees))
