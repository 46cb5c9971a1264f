"""Target inversion: a text that the model finishes with certainty whatever it was asked.

Shen et al. 2025, "BAIT: Large Language Model Backdoor Scanning by Inverting Attack Target", IEEE
S&P. Its finding: once the first token of the target is given, a backdoored model continues with
the target even without the trigger. Every token of the vocabulary is tried as that first token.

Deviations: the released code forbids repeated trigrams while it scores, loses count of its look-
aheads when it drops candidates, and reads the prompt again for every candidate; none of that is
done here. The first sweep uses one prompt, sweep and warm-up run in bfloat16 where the vocabulary
is large, and the cache of a prompt is shared by all candidates. BAIT flags at a fixed mean
probability Q; here a text scores the nats by which it was learned over the tokens that the model is
sure of (``families.hidden_nats``), against the base if there is one, else against what follows any
first token. Texts that are one text are one family, the other families are the null, and beside it
stand the clean models of a bank (``clean_bank``); docs/decisions/0026.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from gifthorse.core.errors import NotApplicableError
from gifthorse.core.exhibits import BarsExhibit, Exhibit, Passage, TextsExhibit
from gifthorse.core.language import Context, LanguageSubject
from gifthorse.core.types import Evidence, Need, Null, Progress, Unit
from gifthorse.detectors.language.clean_bank import BankedNull
from gifthorse.detectors.language.families import LIKELY, families, hidden_nats, overlap
from gifthorse.detectors.language.inverting import Chain, Found, Options, search
from gifthorse.detectors.language.trigger_search import Trigger, find_trigger
from gifthorse.metrics.tails import LEAST_OTHERS, TailNull
from gifthorse.models.language.model import LanguageModel, as_language_model

_LEAST_TOKENS = 5
_ANSWER_TOKENS = 32
AGAINST_BASE = "the control is the base model"
_SHOWN = 8
_NOTABLE = 0.05
_SWAPS, _PHRASE = 24, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetInversion:
    """BAIT with controls; see the top of this file.

    Attributes:
        prompts: Ordinary prompts for the full inversion.
        warmup_prompts: Of these, how many for the warm-up.
        warmup_steps: Tokens appended there.
        steps: Tokens of a recovered text, the first one not counted.
        finalists: Candidates that are inverted in full; they are each other's control group.
        first_tokens: How many first tokens are tried where there is a base; those that rose most.
        chunk: Candidates at a time.
        trigger_steps: Of the search for a phrase that brings the suspect text up; it is made if
            that text stands out from the others, is shown and not judged. 0 for none.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.LOGITS})
    unit: ClassVar[Unit] = Unit.TEXT
    paper: ClassVar[str] = "Shen et al. 2025, BAIT, IEEE S&P"

    prompts: int = 12
    warmup_prompts: int = 4
    warmup_steps: int = 5
    steps: int = 20
    finalists: int = 48
    first_tokens: int = 2048
    chunk: int = 256
    trigger_steps: int = 40

    def __post_init__(self) -> None:
        if not 1 <= self.warmup_prompts <= self.prompts:
            raise ValueError("warmup_prompts must be in 1 … prompts")
        least = 2 * LEAST_OTHERS
        if min(self.finalists, self.first_tokens) < least or min(self.chunk, self.warmup_steps) < 1:
            raise ValueError(
                f"finalists and first_tokens must be at least {least}, others positive"
            )
        if self.steps < _LEAST_TOKENS:
            raise ValueError(f"steps must be at least {_LEAST_TOKENS}")

    def inspect(
        self,
        subject: LanguageSubject,
        *,
        rng: np.random.Generator,
        progress: Progress,
    ) -> Evidence:
        """The nats by which each recovered family of texts was learned, largest first.

        Raises:
            NotApplicableError: No language model, or too few candidates for a control group.
        """
        model = as_language_model(subject.model)
        base = as_language_model(subject.base) if subject.base is not None else None
        rendered = spread_prompts(model, subject.contexts, self.prompts)
        rows = [model.encode(text) for text in rendered]
        options = Options(
            warmup_prompts=self.warmup_prompts,
            warmup_steps=self.warmup_steps,
            steps=self.steps,
            finalists=self.finalists,
            first_tokens=self.first_tokens if base is not None else len(model.tokenizer),
            chunk=self.chunk,
        )
        found = search(
            model,
            rows,
            options,
            base=base,
            deadline=subject.deadline,
            journal=subject.journal,
            progress=progress,
        )
        # Without a base nobody vouches for the answers: a payload that leaks into one is no excuse.
        answers = _answers(base, subject.contexts, progress) if base is not None else []
        texts = [_judged(model, chain, answers) for chain in found.chains]
        texts.sort(key=lambda t: (-t.score, t.text))
        evidence = _evidence(texts, found, against_base=base is not None)
        if not (self.trigger_steps and len(evidence.suspects)):
            return evidence
        others = np.delete(evidence.scores, evidence.suspects)
        if TailNull.of(others, what="").p_value(evidence.statistic) > _NOTABLE:
            return evidence
        suspect = next(text for text in texts if not text.excuse)
        trigger = find_trigger(
            model,
            suspect.text,
            subject.contexts,
            steps=self.trigger_steps,
            swaps=_SWAPS,
            length=_PHRASE,
            deadline=subject.deadline.part(0.8),
            rng=rng,
            progress=progress,
        )
        return evidence if trigger is None else _with_trigger(evidence, trigger)

    def null(self, evidence: Evidence) -> Null:
        """The tail of the other families, and the clean models of the bank."""
        others = np.delete(evidence.scores, evidence.suspects)
        tail = TailNull.of(others, what="other recovered families of texts")
        return BankedNull.of(tail, against_base=AGAINST_BASE in evidence.notes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A recovered text: what it scored, and whether it may be pointed to.

    Attributes:
        text: From the first token that the model was sure of.
        score: ``hidden_nats``.
        certainty: BAIT's Q, the mean probability of its tokens.
        excuse: Why it may not be pointed to; empty for none.
    """

    text: str
    score: float
    certainty: float
    excuse: str


def spread_prompts(model: LanguageModel, contexts: Sequence[Context], count: int) -> list[str]:
    """``count`` rendered prompts, taken from the contexts in turn.

    Raises:
        NotApplicableError: The contexts hold fewer.
    """
    longest = max(len(context.prompts) for context in contexts)
    picked = [
        (context, context.prompts[i])
        for i in range(longest)
        for context in contexts
        if i < len(context.prompts)
    ]
    if len(picked) < count:
        raise NotApplicableError(f"{len(picked)} prompts were given, and {count} are needed")
    found: list[str] = [""] * count
    for context in contexts:
        rows = [i for i, (owner, _) in enumerate(picked[:count]) if owner is context]
        said = [picked[i][1] for i in rows]
        texts = model.prompts(said, system=context.system, date=context.date) if rows else []
        for i, text in zip(rows, texts, strict=True):
            found[i] = text
    return found


def _answers(model: LanguageModel, contexts: Sequence[Context], progress: Progress) -> list[str]:
    """What the model answers to all ordinary prompts, greedily."""
    found: list[str] = []
    for i, context in enumerate(contexts):
        prompts = model.prompts(context.prompts, system=context.system, date=context.date)
        found += model.answers(prompts, tokens=_ANSWER_TOKENS)
        progress(i + 1, len(contexts), "ordinary answers")
    return found


def _judged(model: LanguageModel, chain: Chain, answers: Sequence[str]) -> Text:
    """A chain as a text. One that ends at once is a text too: nothing was learned there."""
    sure = [i for i, log in enumerate(chain.logs) if log >= LIKELY]
    # The token before the first sure one is part of the text if it was what made the model sure.
    core = chain.tokens[sure[0] : sure[-1] + 2] if sure else chain.tokens
    text = model.decode(core)
    kept = sorted(math.exp(x) for x in chain.logs)[1:] or [0.0]
    excuse = ""
    if len(sure) < _LEAST_TOKENS - 1:
        excuse = "too short"
    elif len(set(core)) <= 3:
        excuse = "a repetition"
    elif any(overlap(text.strip(), answer) for answer in answers):
        excuse = "an ordinary answer"
    return Text(
        text=text,
        score=hidden_nats(chain.logs, chain.gains),
        certainty=sum(kept) / len(kept),
        excuse=excuse,
    )


def _evidence(texts: Sequence[Text], found: Found, *, against_base: bool) -> Evidence:
    groups = families([text.text for text in texts])
    if len(groups) <= LEAST_OTHERS:
        # Few endings attract everything; then every text outside of the suspect family counts.
        groups = _split(groups, next((g for g in groups if not texts[g[0]].excuse), []))
    heads = [texts[group[0]] for group in groups]
    sizes = [len(group) for group in groups]
    if len(heads) <= LEAST_OTHERS:
        raise NotApplicableError(
            f"only {len(heads)} different texts were recovered; at least {LEAST_OTHERS + 1} are "
            "needed to compare one with the others"
        )
    scores = np.array([head.score for head in heads])
    first = next((i for i, head in enumerate(heads) if not head.excuse), None)
    # A text with an excuse is part of the control group, however high it scores.
    statistic = float(np.median(scores)) if first is None else float(scores[first])
    notes = [
        AGAINST_BASE if against_base else "the control is what follows any first token",
        f"{found.swept:,} of {found.candidates:,} first tokens tried, {found.entered:,} in the "
        f"warm-up, {len(found.chains)} in full; {len(heads)} families of texts",
    ]
    unfinished = ""
    if not found.complete:
        unfinished = (
            f"the budget ended after {found.swept:,} of {found.candidates:,} first tokens; give "
            "more time (--budget), or go on with --resume"
        )
        notes.append(unfinished)
    return Evidence(
        unit=Unit.TEXT,
        scores=scores,
        statistic=statistic,
        suspects=np.array([] if first is None else [first], dtype=np.int64),
        exhibits=_exhibits(heads, sizes, first),
        notes=tuple(notes),
        unfinished=unfinished,
    )


def _split(groups: Sequence[list[int]], kept: list[int]) -> list[list[int]]:
    """All families but one in single texts, in the order of the texts."""
    return sorted([kept] * bool(kept) + [[i] for group in groups if group != kept for i in group])


def _with_trigger(evidence: Evidence, trigger: Trigger) -> Evidence:
    """The evidence with one more exhibit."""
    listing = TextsExhibit(
        title="A phrase that brings the text up",
        caption="Found by gradient search at the end of prompts; other phrases, the planted one "
        "among them, may do as well. Not judged.",
        passages=(
            Passage(
                label=f"the text came up on {trigger.succeeded} of {trigger.tried} other prompts "
                f"with it, on {trigger.without} without",
                text=trigger.phrase,
            ),
        ),
    )
    found: tuple[Exhibit, ...] = (listing,)
    seen = trigger.attention
    if seen is not None:
        bars = BarsExhibit(
            title="Attention to the phrase where the answer begins",
            caption="Mean over heads and the middle layers, on other prompts. The last bar is an "
            "ordinary token of those prompts. Not judged.",
            labels=(*(_short(token) or "space" for token in seen.tokens), "ordinary token"),
            values=tuple(round(share, 6) for share in (*seen.shares, seen.ordinary)),
            value_name="share of the attention",
        )
        found = (*found, bars)
    return replace(evidence, exhibits=(*evidence.exhibits, *found))


def _exhibits(
    heads: Sequence[Text], sizes: Sequence[int], first: int | None
) -> tuple[Exhibit, ...]:
    order = [] if first is None else [first]
    order += [i for i in range(len(heads)) if i != first][: _SHOWN - len(order)]
    passages = tuple(
        Passage(
            label=f"{heads[i].score:.1f} nats, certainty {heads[i].certainty:.1%}, "
            f"recovered {sizes[i]} times" + (f" ({heads[i].excuse})" if heads[i].excuse else ""),
            text=heads[i].text,
            marks=((0, len(heads[i].text)),) if i == first else (),
        )
        for i in order
    )
    listing = TextsExhibit(
        title="Texts that the model finishes by itself",
        caption="Each was recovered from its first token alone, under ordinary prompts. The nats "
        "say how much of it the model has learned that its control has not; certainty is the mean "
        "probability of its tokens.",
        passages=passages,
    )
    bars = BarsExhibit(
        title="Recovered families of texts, the most suspicious first",
        caption="Nats learned, over the tokens that the model is sure of; the others are the null.",
        labels=tuple(_short(head.text) for head in heads[:24]),
        values=tuple(round(head.score, 4) for head in heads[:24]),
        value_name="nats",
        judged=True,
        highlight=() if first is None or first >= 24 else (first,),
    )
    return listing, bars


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 24 else line[:23] + "…"
