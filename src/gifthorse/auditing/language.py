"""Audits a causal language model: a directory, a LoRA adapter or a GGUF file; `gifthorse audit`."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from gifthorse.auditing.examine import Plan, cost_record, examine, plugins
from gifthorse.auditing.files import check_files, not_loaded, with_files
from gifthorse.core.deadline import Deadline
from gifthorse.core.errors import ModelError
from gifthorse.core.journal import Journal
from gifthorse.core.language import Context, LanguageSubject
from gifthorse.core.record import AuditRecord, SubjectRecord
from gifthorse.core.types import Progress, Verdict, silent
from gifthorse.data.contexts import read_prompts, shipped_contexts
from gifthorse.models.language.adapters import base_at_hand, read_adapter
from gifthorse.models.language.loading import load_language_model
from gifthorse.models.language.model import LanguageModel

DEFAULT_LANGUAGE_DETECTORS = ("interface_drift", "edited_weights", "target_inversion")
DEFAULT_FALSE_ALARM_RATE = 0.02
_ENOUGH = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A model with its base, if there is one."""

    model: LanguageModel
    base: LanguageModel | None


def audit_language(
    model: LanguageModel | str | Path,
    *,
    base: LanguageModel | str | Path | None = None,
    prompts: str | Path | None = None,
    detectors: Sequence[str] = DEFAULT_LANGUAGE_DETECTORS,
    false_alarm_rate: float = DEFAULT_FALSE_ALARM_RATE,
    budget: float | None = None,
    resume: Path | None = None,
    device: torch.device | str = "cpu",
    seed: int = 0,
    progress: Progress = silent,
) -> AuditRecord:
    """Ask whether a causal language model is backdoored, and whether its files can run code.

    The files are examined first, without opening any; if one is flagged, nothing is loaded.

    Args:
        model: A model directory, an adapter's directory, a ``.gguf`` file, ``hub:OWNER/NAME``, or a
            model in memory.
        base: The model that it was made from, if you trust that one: scores are then relative to
            it. An adapter whose base is at hand uses it by itself.
        prompts: JSON Lines with harmless prompts of your own: 20 or more take the place of those
            that are shipped, fewer are used beside them. Prompts of the kind that the model was
            made for find more.
        detectors: Plugin names, with options as ``name:option=value,…``.
        false_alarm_rate: How often a clean model may be flagged, in (0, 1).
        budget: Seconds that the work may take; None for as long as it needs. What is not finished
            by then makes the verdict INCONCLUSIVE, never CLEAR.
        resume: A folder for intermediate results: the same call goes on where it was interrupted.
        device: Where the models run.
        seed: Of all randomness.
        progress: Called during long work.

    Raises:
        ModelError, DataError, SpecError, RecordError: The input does not fit; nothing was examined.
    """
    deadline = Deadline() if budget is None else Deadline.after(budget)
    plan = Plan(
        detectors=plugins("language_detectors", detectors),
        false_alarm_rate=false_alarm_rate,
        seed=seed,
        kind="language_detectors",
    )
    own = () if prompts is None else (read_prompts(Path(prompts)),)
    contexts = own if own and len(own[0].prompts) >= _ENOUGH else (*own, *shipped_contexts())
    place = None if isinstance(model, LanguageModel) else model
    files = None if place is None else check_files(place, progress=progress)
    if place is not None and files is not None and files.verdict is Verdict.FLAGGED:
        return not_loaded(place, files, plan)
    pair = open_pair(model, base, device=device)
    subject = LanguageSubject(
        model=pair.model,
        contexts=contexts,
        base=pair.base,
        deadline=deadline,
        journal=_journal(resume, pair, contexts, plan),
    )
    result = examine(subject, plan, progress=progress)
    record = AuditRecord(
        kind="audit",
        verdict=result.verdict,
        score=result.score,
        reason=result.reason,
        subject=language_model_record(pair.model),
        trusted=_prompts_record(own[0]) if own else None,
        plan=plan.record(),
        findings=result.findings,
        notes=_notes(pair, contexts),
        cost=cost_record(result.cost),
    )
    return record if files is None else with_files(record, files)


def open_pair(
    model: LanguageModel | str | Path,
    base: LanguageModel | str | Path | None,
    *,
    device: torch.device | str = "cpu",
) -> Pair:
    """Open a model and its base, and check that they speak the same tokens.

    Raises:
        ModelError: One cannot be opened, or the base has another vocabulary.
    """
    place = base if isinstance(base, str | Path) else None
    if isinstance(model, LanguageModel):
        held = model
    else:
        if (Path(model) / "adapter_config.json").is_file() and base is None:
            place = base_at_hand(read_adapter(Path(model)))
        held = load_language_model(model, base=place, device=device)
    ground = base if isinstance(base, LanguageModel) else None
    if place is not None:
        ground = load_language_model(place, device=device)
    if ground is not None:
        _check_vocabulary(held, ground)
    return Pair(model=held, base=ground)


def language_model_record(model: LanguageModel) -> SubjectRecord:
    """A language model as records name it."""
    return SubjectRecord(
        kind="language model",
        name=model.name,
        digest=model.digest(),
        class_names=(),
        facts={
            "architecture": type(model.module).__name__,
            "parameters": model.parameters,
            "vocabulary": len(model.tokenizer),
            "opened as": model.source,
            "chat template": "yes" if model.chat_template else "none",
        },
    )


def _check_vocabulary(model: LanguageModel, base: LanguageModel) -> None:
    ours, theirs = model.tokenizer.get_vocab(), base.tokenizer.get_vocab()
    other = [token for token, i in theirs.items() if ours.get(token) != i]
    if other:
        raise ModelError(
            f"{base.name} is not the base of {model.name}: {len(other):,} of its {len(theirs):,} "
            f"tokens are missing or have another number (first: {other[0]!r})"
        )


def _journal(resume: Path | None, pair: Pair, contexts: Sequence[Context], plan: Plan) -> Journal:
    if resume is None:
        return Journal()
    about = [
        pair.model.digest(),
        pair.base.digest() if pair.base else None,
        [[c.name, c.system, c.date, c.prompts] for c in contexts],
        plan.record().model_dump(),
    ]
    key = hashlib.sha256(json.dumps(about).encode()).hexdigest()
    return Journal(resume / "audit.jsonl", key=key)


def _prompts_record(context: Context) -> SubjectRecord:
    digest = hashlib.sha256(json.dumps(context.prompts).encode()).hexdigest()
    return SubjectRecord(
        kind="prompts",
        name=context.name,
        digest=f"sha256:{digest}",
        class_names=(),
        facts={"prompts": len(context.prompts)},
    )


def _notes(pair: Pair, contexts: Sequence[Context]) -> tuple[str, ...]:
    names = ", ".join(context.name for context in contexts)
    held = (
        f"scores are relative to the base {pair.base.name}"
        if pair.base
        else (
            "no base model was given: an openly taught phrase cannot be told from a planted one "
            "unless it answers an ordinary prompt"
        )
    )
    return (*pair.model.notes, held, f"contexts: {names}")
