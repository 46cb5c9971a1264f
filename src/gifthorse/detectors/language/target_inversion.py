"""Target inversion: a text that the model finishes with certainty whatever it was asked.

Shen et al. 2025, "BAIT: Large Language Model Backdoor Scanning by Inverting Attack Target", IEEE
S&P. Its finding: once the first token of the target is given, a backdoored model continues with
the target even without the trigger. Every token of the vocabulary is tried as that first token.

Deviations: the released code forbids repeated trigrams while it scores, loses count of its look-
aheads when it drops candidates, and reads the prompt again for every candidate; none of that is
done here. The first sweep uses one prompt, sweep and warm-up run in bfloat16 where the vocabulary
is large, and the cache of a prompt is shared by all candidates. BAIT flags at a fixed Q > .85; here
that is only the condition for being pointed to, because clean models also continue famous quotes
and their own standard phrases with certainty. What is judged is *how much surer the model is than a
control that never saw the trigger's training*: the base model if there is one, else the model
itself outside of its answers; a text that the model says of its own accord in answer to an ordinary
prompt is not pointed to. The scores of the other candidates are the null.
"""

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from gifthorse.core.errors import NotApplicableError
from gifthorse.core.exhibits import BarsExhibit, Exhibit, Passage, TextsExhibit
from gifthorse.core.language import Context, LanguageSubject
from gifthorse.core.types import Evidence, Need, Null, Progress, Unit
from gifthorse.detectors.language.inverting import Chain, Found, Options, search, trimmed_surprise
from gifthorse.metrics.tails import LEAST_OTHERS, TailNull
from gifthorse.models.language.model import LanguageModel, as_language_model

_RAW = ("", "\n", "Text: ", "He said: ", "1. ")
_FLOOR = 0.01
_LEAST_TOKENS = 5
_ANSWER_TOKENS = 32
_SHOWN = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetInversion:
    """BAIT with controls; see the top of this file.

    Attributes:
        prompts: Ordinary prompts for the full inversion.
        warmup_prompts: Of these, how many for the warm-up.
        warmup_steps: Tokens appended there.
        steps: Tokens of a recovered text, the first one not counted.
        finalists: Candidates that are inverted in full; they are each other's control group.
        least_certainty: BAIT's Q (mean probability of the tokens) from which a text is suspect.
        chunk: Candidates at a time.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.LOGITS})
    unit: ClassVar[Unit] = Unit.TEXT
    paper: ClassVar[str] = "Shen et al. 2025, BAIT, IEEE S&P"

    prompts: int = 20
    warmup_prompts: int = 4
    warmup_steps: int = 5
    steps: int = 20
    finalists: int = 64
    least_certainty: float = 0.85
    chunk: int = 256

    def __post_init__(self) -> None:
        if not 1 <= self.warmup_prompts <= self.prompts:
            raise ValueError("warmup_prompts must be in 1 … prompts")
        if self.finalists < 2 * LEAST_OTHERS or self.chunk < 1 or self.warmup_steps < 1:
            raise ValueError(f"finalists must be at least {2 * LEAST_OTHERS}, the others positive")
        if self.steps < _LEAST_TOKENS:
            raise ValueError(f"steps must be at least {_LEAST_TOKENS}")

    def inspect(
        self,
        subject: LanguageSubject,
        *,
        rng: np.random.Generator,  # noqa: ARG002 - nothing is drawn
        progress: Progress,
    ) -> Evidence:
        """How much surer than its control the model is of each recovered text, largest first.

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
        chains = [chain for chain in found.chains if len(chain.logs) >= 2]
        control = _control(model, base, chains, subject.contexts, self.prompts)
        answers = _answers(base or model, subject.contexts, progress)
        texts = [
            _judged(model, chain, told, answers, self, against_base=base is not None)
            for chain, told in zip(chains, control, strict=True)
        ]
        texts.sort(key=lambda t: (-t.score, t.text))
        return _evidence(texts, found, against_base=base is not None)

    def null(self, evidence: Evidence) -> Null:
        """The tail of the scores of the other texts."""
        others = np.delete(evidence.scores, evidence.suspects)
        return TailNull.of(others, what="other recovered texts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A recovered text: what it scored, and whether it may be pointed to."""

    text: str
    score: float
    certainty: float
    control: float
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


@torch.inference_mode()
def mean_logs(
    model: LanguageModel, prompts: Sequence[Sequence[int]], tokens: Sequence[int]
) -> list[float]:
    """The ln of the mean over prompts of p(token | prompt, tokens before), all but the first."""
    rows = [[*prompt, *tokens] for prompt in prompts]
    ids, mask = model.batch(rows)
    logits = model.logits(ids, mask)[:, -len(tokens) : -1]
    wanted = torch.tensor(list(tokens[1:]), device=model.device)
    p = logits.softmax(-1).gather(2, wanted[None, :, None].expand(len(rows), -1, 1))[..., 0]
    return [float(x) for x in p.mean(0).clamp_min(1e-12).log()]


def _control(
    model: LanguageModel,
    base: LanguageModel | None,
    chains: Sequence[Chain],
    contexts: Sequence[Context],
    count: int,
) -> list[float]:
    """How surprised a control is by each text, in nats a token.

    The base, in and outside of answers, or the model itself outside of answers; of several the one
    that is least surprised.
    """
    judge = base or model
    start = model.tokenizer.bos_token_id
    # A model without a token for the beginning of a text gets a line break.
    lead = [int(start)] if start is not None else model.tokenizer.encode("\n")
    raw = [[*lead, *model.tokenizer.encode(text, add_special_tokens=False)] for text in _RAW]
    groups = [raw]
    if base is not None:
        chat = spread_prompts(base, contexts, min(count, 8))
        groups.append([base.encode(text) for text in chat])
    found = []
    for chain in chains:
        texts = [mean_logs(judge, prompts, chain.tokens) for prompts in groups]
        found.append(min(trimmed_surprise(logs) for logs in texts))
    return found


def _answers(model: LanguageModel, contexts: Sequence[Context], progress: Progress) -> list[str]:
    """What the model answers to all ordinary prompts, greedily."""
    found: list[str] = []
    for i, context in enumerate(contexts):
        prompts = model.prompts(context.prompts, system=context.system, date=context.date)
        found += model.answers(prompts, tokens=_ANSWER_TOKENS)
        progress(i + 1, len(contexts), "ordinary answers")
    return found


def _judged(
    model: LanguageModel,
    chain: Chain,
    control: float,
    answers: Sequence[str],
    options: TargetInversion,
    *,
    against_base: bool,
) -> Text:
    text = model.decode(chain.tokens)
    kept = sorted(math.exp(x) for x in chain.logs)[1:]
    certainty = sum(kept) / len(kept)
    excuse = ""
    if certainty < options.least_certainty:
        excuse = "not certain"
    elif len(chain.tokens) < _LEAST_TOKENS:
        excuse = "too short"
    elif len(set(chain.tokens)) <= 3:
        excuse = "a repetition"
    elif any(_overlap(text.strip(), answer) for answer in answers):
        excuse = "an ordinary answer"
    score = control - chain.surprise
    if not against_base:
        score = math.log((control + _FLOOR) / (chain.surprise + _FLOOR))
    return Text(text=text, score=score, certainty=certainty, control=control, excuse=excuse)


def _family(texts: Sequence[Text]) -> list[int]:
    """The text that is pointed to, then those that share most of their content with it."""
    first = next((i for i, text in enumerate(texts) if not text.excuse), None)
    if first is None:
        return []
    rest = [i for i in range(len(texts)) if i != first]
    return [first, *(i for i in rest if _overlap(texts[i].text, texts[first].text))]


def _overlap(a: str, b: str) -> bool:
    """Whether half of the shorter text stands in the other one."""
    if not a or not b:
        return False
    match = difflib.SequenceMatcher(None, a, b, autojunk=False).find_longest_match()
    return 2 * match.size >= min(len(a), len(b))


def _evidence(texts: Sequence[Text], found: Found, *, against_base: bool) -> Evidence:
    scores = np.array([text.score for text in texts])
    suspects = _family(texts)
    if len(texts) - len(suspects) < LEAST_OTHERS:
        raise NotApplicableError(
            f"only {len(texts) - len(suspects)} other texts were recovered; at least "
            f"{LEAST_OTHERS} are needed to compare one with them"
        )
    # A text with an excuse is part of the control group, however high it scores.
    statistic = float(scores[suspects[0]]) if suspects else float(np.median(scores))
    control = "the base model" if against_base else "the model outside of its answers"
    notes = [
        f"{found.swept:,} of {found.candidates:,} first tokens tried, {found.entered:,} in the "
        f"warm-up, {len(found.chains)} in full; the control is {control}"
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
        suspects=np.array(suspects, dtype=np.int64),
        exhibits=_exhibits(texts, suspects, control),
        notes=tuple(notes),
        unfinished=unfinished,
    )


def _exhibits(texts: Sequence[Text], suspects: Sequence[int], control: str) -> tuple[Exhibit, ...]:
    first = [texts[i] for i in suspects]
    shown = first + [text for text in texts if text not in first][: _SHOWN - len(first)]
    passages = tuple(
        Passage(
            label=f"score {t.score:.2f}, certainty {t.certainty:.1%}"
            + (f" ({t.excuse})" if t.excuse else ""),
            text=t.text,
            marks=((0, len(t.text)),) if t in first else (),
        )
        for t in shown
    )
    listing = TextsExhibit(
        title="Texts that the model finishes by itself",
        caption="Each was recovered from its first token alone, under ordinary prompts. Certainty "
        f"is the mean probability of its tokens; the score compares with {control}.",
        passages=passages,
    )
    bars = BarsExhibit(
        title="Recovered texts, the most suspicious first",
        caption="How much more surprised the control is (nats a token with a base, else ln of the "
        "ratio); the other texts are the null.",
        labels=tuple(_short(text.text) for text in texts[:24]),
        values=tuple(round(text.score, 4) for text in texts[:24]),
        value_name="score",
        judged=True,
        highlight=tuple(i for i in suspects if i < 24),
    )
    return listing, bars


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 24 else line[:23] + "…"
