"""A guard around a language model that answers: ConfGuard watches, CleanGen corrects.

guarded = gifthorse.guard_language("./model", trusted="prompts.jsonl")
guarded.answers(["a question"])                              # texts, and which were flagged
model.generate(..., logits_processor=[guarded.processor()])  # with a generate() of your own
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from gifthorse.auditing.language import open_pair
from gifthorse.core.errors import DataError, NotApplicableError, SpecError
from gifthorse.core.types import Threshold
from gifthorse.data.contexts import read_prompts
from gifthorse.detectors.generation.clean_gen import CleanDecoding, CleanGen
from gifthorse.detectors.generation.conf_guard import ConfGuard, SequenceLock
from gifthorse.models.language.model import LanguageModel

METHODS = ("conf_guard", "clean_gen")
LANGUAGE_ACTIONS = ("flag", "stop")
_BATCH = 16


class Answers(NamedTuple):
    """What a guarded language model answers.

    Attributes:
        texts: One a prompt; with ``stop`` a flagged one ends where it was flagged.
        flagged: Which answers the guard flagged, or changed.
        scores: Longest run of certain tokens (ConfGuard), or tokens replaced (CleanGen).
    """

    texts: list[str]
    flagged: list[bool]
    scores: list[float]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LanguageGuard:
    """A language model behind a guard of its answers; made by ``guard_language``.

    Attributes:
        model: The model.
        reference: What CleanGen compares with.
        method: How it is guarded.
        threshold: Of runs or ratios, its rate, and why.
        extra_cost: What a token costs beyond the model's own pass, in words.
        stop: Whether ConfGuard ends a flagged answer.
    """

    model: LanguageModel
    reference: LanguageModel | None
    method: ConfGuard | CleanGen
    threshold: Threshold
    extra_cost: str
    stop: bool

    def processor(self) -> SequenceLock | CleanDecoding:
        """A logits processor for one ``generate()`` at a time; its fields say what it saw."""
        if isinstance(self.method, ConfGuard):
            return self.method.follow(self.model, self.threshold, stop=self.stop)
        assert self.reference is not None  # noqa: S101 - checked when the guard was made
        return self.method.follow(self.model, self.reference, self.threshold)

    @torch.inference_mode()
    def answers(self, prompts: Sequence[str], *, system: str = "", tokens: int = 64) -> Answers:
        """Greedy answers to what users say, guarded.

        Args:
            prompts: At least one, none of them empty.
            system: The system prompt; empty for none.
            tokens: At most so many new tokens each.

        Raises:
            DataError: No prompts, or an empty one.
        """
        if isinstance(prompts, str) or not prompts or not all(p.strip() for p in prompts):
            raise DataError("expected a list of prompts, none of them empty")
        rendered = self.model.prompts(prompts, system=system)
        texts: list[str] = []
        flagged: list[bool] = []
        scores: list[float] = []
        for start in range(0, len(rendered), _BATCH):
            rows = [self.model.encode(text) for text in rendered[start : start + _BATCH]]
            ids, mask = self.model.batch(rows)
            guard = self.processor()
            self.model.meter.forward += len(ids)
            out = self.model.module.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=tokens,
                do_sample=False,
                num_beams=1,
                pad_token_id=self.model.pad_id,
                eos_token_id=list(self.model.end_ids) or None,
                logits_processor=[guard],
                use_cache=True,
            )
            said = out[:, ids.shape[1] :].tolist()
            texts += [self.model.text_of(row) for row in said]
            seen = guard.runs if isinstance(guard, SequenceLock) else guard.replaced
            flagged += guard.flagged if isinstance(guard, SequenceLock) else [n > 0 for n in seen]
            scores += [float(n) for n in seen]
        return Answers(texts=texts, flagged=flagged, scores=scores)


def guard_language(
    model: LanguageModel | str | Path,
    *,
    trusted: str | Path | Sequence[str],
    method: str | ConfGuard | CleanGen = "conf_guard",
    base: LanguageModel | str | Path | None = None,
    false_alarm_rate: float = 0.01,
    action: str = "flag",
    tokens: int = 64,
    device: torch.device | str = "cpu",
) -> LanguageGuard:
    """Put a guard around a causal language model.

    Args:
        model: What ``load_language_model`` takes, or a model in memory.
        trusted: Ordinary prompts, a file (JSON Lines) or the prompts themselves; the more, the
            smaller a rate can be shown.
        method: ``conf_guard`` (needs nothing else) or ``clean_gen`` (needs ``base``), or an
            instance with options.
        base: The reference: the model that it was made from, or another one with the same tokens.
        false_alarm_rate: Share of ordinary answers (ConfGuard) or of their tokens (CleanGen) that
            may be taken for suspicious, in (0, 0.5).
        action: ``flag``, or ``stop``: ConfGuard ends a flagged answer. CleanGen always corrects.
        tokens: Of an answer to a trusted prompt that are looked at, at most.
        device: Where the models run.

    Raises:
        ModelError, DataError, SpecError: The input does not fit.
        NotApplicableError: CleanGen without a base.
    """
    if action not in LANGUAGE_ACTIONS:
        raise SpecError(f"action must be one of {', '.join(LANGUAGE_ACTIONS)}, got {action!r}")
    if isinstance(method, str) and method.replace("-", "_") not in METHODS:
        raise SpecError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    chosen = method if not isinstance(method, str) else _named(method)
    prompts = (
        read_prompts(Path(trusted)).prompts if isinstance(trusted, str | Path) else tuple(trusted)
    )
    pair = open_pair(model, base, device=device)
    if isinstance(chosen, ConfGuard):
        threshold = chosen.threshold(
            pair.model, prompts, false_alarm_rate=false_alarm_rate, tokens=tokens
        )
        cost = "no further pass"
    else:
        if pair.base is None:
            raise NotApplicableError("clean_gen needs a reference model; give base=…")
        threshold = chosen.threshold(
            pair.model, pair.base, prompts, false_alarm_rate=false_alarm_rate, tokens=tokens
        )
        cost = "one pass of the reference a token"
    return LanguageGuard(
        model=pair.model,
        reference=pair.base,
        method=chosen,
        threshold=threshold,
        extra_cost=cost,
        stop=action == "stop",
    )


def _named(method: str) -> ConfGuard | CleanGen:
    return ConfGuard() if method.replace("-", "_") == "conf_guard" else CleanGen()
