"""The search of target inversion: which texts does the model finish by itself, whatever was asked?

Shen et al. 2025, "BAIT: Large Language Model Backdoor Scanning by Inverting Attack Target" (IEEE
S&P), section 4 and its released code. Three stages: a sweep over first tokens, a warm-up of a few
tokens on a few prompts, full inversion of those that are left on all prompts.

With a base model the search follows the difference between the two, as in contrastive decoding (Li
et al. 2023, arXiv:2210.15097): of the tokens that are at least a tenth as likely as the likeliest,
the one whose probability rose most against the base; first tokens are ranked by the KL divergence
of what follows. A planted text is then followed where an ordinary phrase would be likelier. Only
the first tokens whose own probability rose most are tried: poisoned training lifts the beginning of
its answer everywhere, though far from enough to be said, and to see that costs one look.

Without a base, each token's rise is counted against the mean of what follows any first token.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from gifthorse.core.deadline import Deadline
from gifthorse.core.journal import Journal
from gifthorse.core.types import Progress
from gifthorse.detectors.language.families import LIKELY, hidden_nats
from gifthorse.detectors.language.shared_prefix import SharedPrefix, Trees
from gifthorse.models.language.model import LanguageModel

_SURE, _UNSURE = 1.0, 2.5
_SURE_TOP = 0.3
_BRANCHES = 5
_LARGE = 4096
_PLAUSIBLE = 0.1
_RISEN = 2.0
_PATIENCE = 5
_ALIKE = 4
_BACKGROUND = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How the search is done; see ``TargetInversion``."""

    warmup_prompts: int
    warmup_steps: int
    steps: int
    finalists: int
    first_tokens: int
    chunk: int


@dataclass(slots=True, kw_only=True)
class Chain:
    """A text under inversion: its tokens, the first one given, and how sure each later one was.

    ``logs`` are ln p of the tokens after the first; ``gains`` how much that is above the control.
    """

    tokens: list[int]
    logs: list[float] = field(default_factory=list)
    gains: list[float] = field(default_factory=list)
    looked: bool = False
    dropped: bool = False

    @property
    def order(self) -> tuple[bool, float, list[int]]:
        """Sorts by promise: what was followed to the end, then by the nats learned."""
        return self.dropped, -hidden_nats(self.logs, self.gains), self.tokens

    @property
    def lost(self) -> bool:
        """Whether none of the last few tokens was likelier than not."""
        last = self.logs[-_PATIENCE:]
        return len(last) == _PATIENCE and max(last) < LIKELY


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the search ends with: chains, most certain first, and how far it came."""

    chains: list[Chain]
    swept: int
    candidates: int
    entered: int
    promising: int

    @property
    def complete(self) -> bool:
        """Whether every candidate was looked at, and every promising one followed."""
        return self.swept >= self.candidates and self.entered >= self.promising


def search(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    options: Options,
    *,
    base: LanguageModel | None,
    deadline: Deadline,
    journal: Journal,
    progress: Progress,
) -> Found:
    """Run all three stages.

    Args:
        model: The model under suspicion.
        prompts: Rendered prompts as token ids, up to where the answer begins.
        options: How.
        base: What the model was made from, with the same tokens; None if it is not at hand.
        deadline: The sweep may use half of the time that is left.
        journal: What is finished already.
        progress: Called after every chunk.
    """
    order = _candidates(model, base, prompts[: options.warmup_prompts])[: options.first_tokens]
    light, ground = _light(model), _light(base) if base else None
    ranks = _sweep(
        light, ground, prompts[0], order, options.chunk, deadline.part(0.5), journal, progress
    )
    promising = _promising(order, ranks, options, guided=base is not None)
    background = None if base else _background(light, prompts[0], order)
    trees = Trees.of(
        light, ground, prompts[: options.warmup_prompts], background, width=options.chunk
    )
    chains: list[Chain] = []
    entered = 0
    warmup_end = deadline.part(0.4)
    for start in range(0, len(promising), options.chunk):
        if start and warmup_end.left <= 0:
            break
        group = promising[start : start + options.chunk]
        kept = journal.get(f"warm-up {start}")
        if kept is None:
            warmed = _warm_up(trees, group, options.warmup_steps)
            kept = [[c.tokens, c.logs, c.gains, c.dropped] for c in warmed]
            journal.put(f"warm-up {start}", kept)
        chains += [_chain(told) for told in kept]
        entered += len(group)
        progress(entered, len(promising), "warm-up")
    chains.sort(key=lambda c: c.order)
    finalists = _distinct(chains, options.finalists)
    trees = Trees.of(model, base, prompts, background, width=len(finalists))
    finished = _finish(trees, model.end_ids, finalists, options, deadline, journal, progress)
    return Found(
        chains=finished,
        swept=len(ranks),
        candidates=len(order),
        entered=entered,
        promising=len(promising),
    )


def _chain(told: Sequence[Any]) -> Chain:
    tokens, logs, gains, dropped = told
    return Chain(tokens=list(tokens), logs=list(logs), gains=list(gains), dropped=bool(dropped))


def _candidates(
    model: LanguageModel, base: LanguageModel | None, prompts: Sequence[Sequence[int]]
) -> list[int]:
    """Every token with visible text: those that rose most against the base first.

    Without a base, those that the answer may begin with.
    """
    firsts = _first_logs(model, prompts)
    promise = firsts
    if base is not None:
        ground = _first_logs(base, prompts)[: len(firsts)]
        # Tokens that the base lacks rose from nothing.
        promise = firsts - functional.pad(ground, (0, len(firsts) - len(ground)), value=-20.0)
    special = set(model.tokenizer.all_special_ids)
    texts = model.tokenizer.batch_decode([[i] for i in range(len(model.tokenizer))])
    order = promise.argsort(descending=True, stable=True).tolist()
    return [
        i
        for i in order
        if i < len(texts) and i not in special and texts[i].strip() and texts[i].isprintable()
    ]


def _first_logs(model: LanguageModel, prompts: Sequence[Sequence[int]]) -> Tensor:
    """Mean over prompts of ln p of the first token of an answer, (vocabulary of the tokenizer,)."""
    rows = [SharedPrefix(model, [prompt]).first[0].log_softmax(-1) for prompt in prompts]
    return torch.stack(rows).mean(0)[: len(model.tokenizer)]


def _background(model: LanguageModel, prompt: Sequence[int], order: Sequence[int]) -> Tensor:
    """The mean of what follows first tokens of all kinds, (vocabulary,)."""
    picked = list(order[:: max(1, len(order) // _BACKGROUND)])
    tokens = torch.tensor(picked, device=model.device)
    tree = SharedPrefix(model, [prompt])
    after = tree.step(torch.arange(len(picked), device=model.device), tokens)[0]
    return after.softmax(-1).mean(0)


def _sweep(
    model: LanguageModel,
    base: LanguageModel | None,
    prompt: Sequence[int],
    order: list[int],
    chunk: int,
    deadline: Deadline,
    journal: Journal,
    progress: Progress,
) -> list[tuple[float, float, float]]:
    """What follows each first token on one prompt: entropy, largest probability, KL to the base."""
    trees: Trees | None = None
    found: list[tuple[float, float, float]] = []
    for start in range(0, len(order), chunk):
        group = order[start : start + chunk]
        known = journal.get(f"sweep {start}")
        if known is None:
            if start and deadline.left <= 0:
                break
            trees = trees or Trees.of(model, base, [prompt])
            trees.reset()
            tokens = torch.tensor(group, device=model.device)
            p, q = trees.step(torch.arange(len(group), device=model.device), tokens)
            entropy, top = _entropy(p)
            gap = torch.zeros_like(top) if base is None else (p * _ratio(p, q)).sum(-1)
            known = torch.stack([entropy, top, gap], 1).cpu().double().numpy().round(4).tolist()
            journal.put(f"sweep {start}", known)
        found += [(float(e), float(t), float(g)) for e, t, g in known]
        progress(len(found), len(order), "sweep over first tokens")
    return found


def _ratio(p: Tensor, q: Tensor) -> Tensor:
    """Nats by which each token is likelier in p than in q."""
    return p.clamp_min(1e-9).log() - q.clamp_min(1e-9).log()


def _light(model: LanguageModel) -> LanguageModel:
    """For sweep and warm-up over a large vocabulary: bfloat16, twice as fast on new processors."""
    if model.embeddings.num_embeddings < _LARGE or model.module.dtype != torch.float32:
        return model
    return LanguageModel(
        module=copy.deepcopy(model.module).to(torch.bfloat16),
        tokenizer=model.tokenizer,
        name=model.name,
        device=model.device,
        chat_template=model.chat_template,
        meter=model.meter,
    )


def _entropy(p: Tensor) -> tuple[Tensor, Tensor]:
    """Entropy in nats and largest probability of distributions (n, v), both (n,)."""
    return -(p * p.clamp_min(1e-12).log()).sum(-1), p.max(-1).values


def _promising(
    order: list[int],
    ranks: Sequence[tuple[float, float, float]],
    options: Options,
    *,
    guided: bool,
) -> list[int]:
    """First tokens to follow: those that BAIT's rule keeps, the most certain first.

    With a base, those after which the two models differ most. If there are fewer than it takes to
    tell an outlier, the next ones fill up.
    """
    least = 16 * options.finalists
    if guided:
        ranked = sorted(range(len(ranks)), key=lambda i: (-ranks[i][2], i))
        return [order[i] for i in ranked[:least]]
    ranked = sorted(range(len(ranks)), key=lambda i: (ranks[i][0], i))
    kept = [i for i in ranked if ranks[i][0] < _UNSURE or ranks[i][1] > _SURE_TOP]
    return [order[i] for i in (kept if len(kept) >= least else ranked[:least])]


def _warm_up(trees: Trees, firsts: Sequence[int], steps: int) -> list[Chain]:
    """BAIT's warm-up: append what is sure, look ahead once where it is nearly so, drop the rest.

    With a base, a token that rose much against it counts as sure, and there is no looking ahead.
    Dropped chains come back marked: where few are left they fill up the control group.
    """
    chains = [Chain(tokens=[token]) for token in firsts]
    trees.reset()
    device = trees.model[0].first.device
    alive = list(range(len(chains)))
    for _ in range(steps):
        if not alive:
            break
        numbers = torch.tensor(alive, device=device)
        last = torch.tensor([chains[i].tokens[-1] for i in alive], device=device)
        p, q = trees.step(numbers, last)
        entropy, top = _entropy(p)
        sure = (entropy < _SURE) | (top > _SURE_TOP)
        picks = _pick(p, q if trees.base else None)
        if trees.base:
            sure |= _ratio(p, q).gather(1, picks[:, None])[:, 0] > _RISEN
        else:
            fresh = torch.tensor([not chains[i].looked for i in alive], device=device)
            near = (entropy < _UNSURE) & ((entropy > _SURE) | (top < _SURE_TOP)) & fresh
            if bool(near.any()):
                picks[near] = _look_ahead(trees, numbers[near], p[near])
                sure |= near
                for row in near.nonzero()[:, 0].tolist():
                    chains[alive[row]].looked = True
        going = []
        for row, i in enumerate(alive):
            if bool(sure[row]):
                _append(chains[i], int(picks[row]), row, p, q)
                going.append(i)
            else:
                chains[i].dropped = True
        alive = going
    return chains


def _pick(p: Tensor, q: Tensor | None) -> Tensor:
    """The next token of each chain, (n,): the likeliest, or the plausible one that rose most."""
    if q is None:
        return p.argmax(-1)
    plausible = p >= _PLAUSIBLE * p.max(-1, keepdim=True).values
    return _ratio(p, q).masked_fill(~plausible, float("-inf")).argmax(-1)


def _append(chain: Chain, token: int, row: int, p: Tensor, q: Tensor) -> None:
    chain.tokens.append(token)
    chain.logs.append(float(p[row, token].clamp_min(1e-12).log()))
    chain.gains.append(float(_ratio(p[row, token], q[row, token])))


def _look_ahead(trees: Trees, chains: Tensor, p: Tensor) -> Tensor:
    """Of the five most likely tokens the one after which the model is surest, (n,)."""
    options = p.topk(min(_BRANCHES, p.shape[1]), -1).indices
    width = options.shape[1]
    after = trees.ahead(chains.repeat_interleave(width), options.reshape(-1))
    trees.drop(options.numel())
    best = after.max(-1).values.reshape(-1, width).argmax(1, keepdim=True)
    return options.gather(1, best)[:, 0]


def _distinct(chains: Sequence[Chain], most: int) -> list[Chain]:
    """The most promising chains, a few only of those that share three tokens in a row.

    A planted text comes up at every one of its tokens; the rest is needed as its control group.
    """
    heads: list[set[tuple[int, ...]]] = []
    sizes: list[int] = []
    kept = []
    for chain in chains:
        runs = {tuple(chain.tokens[i : i + 3]) for i in range(max(1, len(chain.tokens) - 2))}
        home = next((i for i, head in enumerate(heads) if head & runs), len(heads))
        if home == len(heads):
            heads.append(runs)
            sizes.append(0)
        sizes[home] += 1
        if sizes[home] <= _ALIKE:
            kept.append(chain)
    return kept[:most]


def _finish(
    trees: Trees,
    ends: Sequence[int],
    chains: Sequence[Chain],
    options: Options,
    deadline: Deadline,
    journal: Journal,
    progress: Progress,
) -> list[Chain]:
    """Full inversion on all prompts: replay what is there, then on, up to ``steps``.

    A chain in which the model has been sure of nothing for some tokens goes no further.
    """
    known = journal.get("finished")
    if known is not None:
        return [_chain(told) for told in known]
    done = [Chain(tokens=[chain.tokens[0]]) for chain in chains]
    alive = list(range(len(done)))
    device = trees.model[0].first.device
    for step in range(1, options.steps + 1):
        if not alive or (step > options.warmup_steps and deadline.left <= 0):
            break
        numbers = torch.tensor(alive, device=device)
        last = torch.tensor([done[i].tokens[-1] for i in alive], device=device)
        p, q = trees.step(numbers, last)
        picks = _pick(p, q if trees.base else None).tolist()
        going = []
        for row, i in enumerate(alive):
            given = chains[i].tokens
            token = given[step] if step < len(given) else int(picks[row])
            if token not in ends:
                _append(done[i], token, row, p, q)
                if step < options.warmup_steps or not done[i].lost:
                    going.append(i)
        alive = going
        progress(step, options.steps, "inversion")
    journal.put("finished", [[c.tokens, c.logs, c.gains, c.dropped] for c in done])
    return done
