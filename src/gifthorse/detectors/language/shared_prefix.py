"""Many continuations of a prompt at once, with the prompt's keys and values held once.

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
_ROWS = 256


class SharedPrefix:
    """Chains of tokens behind each of a few prompts, the same chains behind all of them.

    The prompts are read and continued together: few chains behind one prompt would leave the
    processor waiting for the weights.

    Args:
        model: The model.
        prompts: Token ids, at least one of at least one prompt.
    """

    def __init__(self, model: LanguageModel, prompts: Sequence[Sequence[int]]) -> None:
        from transformers import DynamicCache

        self._model = model
        self._cache = DynamicCache()
        lengths = [len(prompt) for prompt in prompts]
        self._lengths = torch.tensor(lengths, device=model.device)
        self._longest = max(lengths)
        # Padded on the right: no token of a prompt sees padding, and no chain does.
        ids = torch.tensor(
            [[*prompt, *[prompt[-1]] * (self._longest - len(prompt))] for prompt in prompts],
            device=model.device,
        )
        ends, place = torch.unique(self._lengths - 1, return_inverse=True)
        with torch.inference_mode():
            out = model.module(
                input_ids=ids, past_key_values=self._cache, use_cache=True, logits_to_keep=ends
            )
        model.meter.forward += len(prompts)
        rows = torch.arange(len(prompts), device=model.device)
        self.first: Tensor = out.logits[rows, place].float()  # (prompts, vocabulary): first tokens
        self._owner = torch.full((self._longest,), _PREFIX, device=model.device)

    def __len__(self) -> int:
        return len(self._lengths)

    def reset(self) -> None:
        """Forget all chains; the prompts stay."""
        self._crop(self._longest)

    @torch.inference_mode()
    def step(self, chains: Tensor, tokens: Tensor) -> Tensor:
        """Append one token to each of some chains of one length, and see what comes next.

        A chain may stand here several times with different tokens: branches, of which ``keep``
        then keeps some.

        Args:
            chains: Numbers of chains, shape (n,), values ≥ 0.
            tokens: What is appended, shape (n,).

        Returns:
            Logits (prompts, n, vocabulary), float32.
        """
        count = len(chains)
        depth = int((self._owner == chains[0]).sum()) if count else 0
        seen = (self._owner[None] == _PREFIX) | (self._owner[None] == chains[:, None])
        own = torch.eye(count, dtype=torch.bool, device=chains.device)
        blocked = ~torch.cat([seen, own], 1).repeat(len(self), 1, 1)
        padding = torch.arange(self._longest, device=chains.device) >= self._lengths[:, None]
        blocked[:, :, : self._longest] |= padding[:, None]
        mask = torch.zeros(blocked.shape, dtype=self._model.module.dtype, device=chains.device)
        mask.masked_fill_(blocked, torch.finfo(mask.dtype).min)
        self._owner = torch.cat([self._owner, chains])
        out = self._model.module(
            input_ids=tokens.repeat(len(self), 1),
            attention_mask=mask[:, None],
            position_ids=(self._lengths + depth)[:, None].repeat(1, count),
            past_key_values=self._cache,
            use_cache=True,
        )
        self._model.meter.forward += count * len(self)
        return torch.as_tensor(out.logits).float()

    def keep(self, which: Tensor) -> None:
        """Of the tokens of the last step keep those of this mask (n,); the others never were."""
        start = len(self._owner) - len(which)
        dropped = torch.full_like(self._owner[start:], _DROPPED)
        last = torch.where(which, self._owner[start:], dropped)
        self._owner = torch.cat([self._owner[:start], last])
        if not bool(which.any()):
            self._crop(start)

    def _crop(self, length: int) -> None:
        """Forget what stands behind this many places."""
        if len(self._owner) > length:
            self._cache.crop(length - len(self._owner))
        self._owner = self._owner[:length]


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
        *,
        width: int = _ROWS,
    ) -> "Trees":
        """Read the prompts; where there will be few chains (``width``), several at a time."""
        size = max(1, _ROWS // max(1, width))
        ordered = sorted(prompts, key=len)
        parts = [ordered[i : i + size] for i in range(0, len(ordered), size)]
        return cls(
            model=tuple(SharedPrefix(model, part) for part in parts),
            base=tuple(SharedPrefix(base, part) for part in parts) if base else (),
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
        total = total + tree.step(chains, tokens).softmax(-1).sum(0)
    return torch.as_tensor(total / sum(map(len, trees)))
