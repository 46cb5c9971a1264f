"""How surprised a language model is by texts: a word trigram model, or any causal model at hand."""

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.nn import functional

from gifthorse.core.types import ScoreArray
from gifthorse.models.language.model import LanguageModel

Perplexity = Callable[[Sequence[str]], ScoreArray]
"""Perplexities (n,) of texts: e to the mean surprise of a word or token, at least 1."""

_WORD = re.compile(r"\w+|[^\w\s]")
_START, _END = "\x02", "\x03"
_BATCH = 64


class WordTrigrams:
    """A word trigram model with Witten-Bell smoothing (Witten and Bell 1991), case ignored.

    Every order backs off to the one below with the weight that its own variety suggests; below the
    single words lies an equal share for every known word and one for all unknown ones.

    Args:
        texts: What it learns from, at least one.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._counts: Counter[tuple[str, ...]] = Counter()
        self._followers: dict[tuple[str, ...], set[str]] = {}
        self._totals: Counter[tuple[str, ...]] = Counter()
        for text in texts:
            words = [_START, _START, *_words(text), _END]
            for i in range(2, len(words)):
                for order in range(3):
                    before, word = tuple(words[i - order : i]), words[i]
                    self._counts[(*before, word)] += 1
                    self._totals[before] += 1
                    self._followers.setdefault(before, set()).add(word)
        self._known = len(self._followers.get((), ())) + 1

    def probability(self, before: tuple[str, ...], word: str) -> float:
        """P(word | the words before it), of which the last two count."""
        p = 1.0 / self._known
        for order in range(3):
            context = before[len(before) - order :]
            total = self._totals[context]
            if order > len(before) or not total:
                break
            variety = len(self._followers[context])
            p = (self._counts[(*context, word)] + variety * p) / (total + variety)
        return p

    def __call__(self, texts: Sequence[str]) -> ScoreArray:
        """Perplexity a word of every text, its end included."""
        return np.array([self._one(text) for text in texts])

    def _one(self, text: str) -> float:
        words = [_START, _START, *_words(text), _END]
        logs = [
            math.log(self.probability((words[i - 2], words[i - 1]), words[i]))
            for i in range(2, len(words))
        ]
        return math.exp(-sum(logs) / len(logs))


def causal_perplexity(model: LanguageModel) -> Perplexity:
    """Perplexity a token under a causal model; padding is left out."""

    @torch.inference_mode()
    def perplexity(texts: Sequence[str]) -> ScoreArray:
        start = model.tokenizer.bos_token_id
        lead = [int(start) if start is not None else model.pad_id]
        rows = [
            [*lead, *model.tokenizer.encode(text, add_special_tokens=False)] or lead
            for text in texts
        ]
        found = np.ones(len(rows))
        order = np.argsort([len(row) for row in rows], kind="stable")
        for first in range(0, len(order), _BATCH):
            chosen = order[first : first + _BATCH]
            ids, mask = model.batch([rows[int(i)] for i in chosen])
            logs = functional.cross_entropy(
                model.logits(ids, mask)[:, :-1].flatten(0, 1),
                ids[:, 1:].flatten(),
                reduction="none",
            ).view(len(ids), -1)
            # A token counts if it and the one before it are real.
            real = (mask[:, 1:] * mask[:, :-1]).to(logs)
            mean = torch.where(real.bool(), logs, 0.0).sum(1) / real.sum(1).clamp_min(1)
            found[chosen] = mean.double().exp().cpu().numpy()
        return found

    return perplexity


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
