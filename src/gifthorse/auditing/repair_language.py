"""Repairs a causal language model, and refuses to make it worse: `gifthorse repair`.

The trusted records are split: the repair works with one half, and the clean loss before and after
is measured on the other, which it never sees. The point estimate decides, on the same records
before and after (see ``auditing.mend``). Whether the backdoor is gone is for a new audit to say.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gifthorse.auditing.examine import cost_record, plugins, spec_record
from gifthorse.auditing.language import Pair, language_model_record, open_pair
from gifthorse.core.errors import (
    DataError,
    ModelError,
    NotApplicableError,
    RecordError,
    RepairRefusedError,
)
from gifthorse.core.exhibits import TextsExhibit
from gifthorse.core.instructions import Instruction, InstructionData
from gifthorse.core.language_repairs import LanguageRepairSubject
from gifthorse.core.record import AuditRecord, MeasureRecord, RepairRecord, read_record
from gifthorse.core.rng import child_rng
from gifthorse.core.types import Cost, Progress, Unit, Verdict, silent
from gifthorse.data.contexts import read_prompts
from gifthorse.data.instructions import has_answers, load_instructions
from gifthorse.models.language.measuring import Fit, divergence, fit
from gifthorse.models.language.model import LanguageModel, as_language_model
from gifthorse.models.passes import metered

DEFAULT_LANGUAGE_REPAIR = "fine_mixing"
DEFAULT_LOSS_RISE = 0.05
LEAST_TRUSTED = 20
_ANSWER_TOKENS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairedLanguage:
    """The repaired model (None if refused), and the record, which says why."""

    model: LanguageModel | None
    record: RepairRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """What is measured of a model on the held-back records."""

    fit: Fit
    divergence: float | None


def repair_language(
    model: LanguageModel | str | Path,
    *,
    trusted: InstructionData | str,
    base: LanguageModel | str | Path | None = None,
    audit: AuditRecord | str | Path | None = None,
    method: str = DEFAULT_LANGUAGE_REPAIR,
    allowed_rise: float = DEFAULT_LOSS_RISE,
    device: torch.device | str = "cpu",
    seed: int = 0,
    progress: Progress = silent,
) -> RepairedLanguage:
    """Repair a causal language model with trusted records.

    Args:
        model: A model directory, an adapter's directory (it is merged into its base), a ``.gguf``
            file, ``hub:OWNER/NAME``, or a model in memory.
        trusted: Prompts with good answers that you vouch for and that the model was not trained
            on, see ``load_instructions``; at least 20. A file of prompts without answers is enough
            if there is a base: its answers are taken.
        base: The model that it was made from, if you trust that one. An adapter whose base is at
            hand uses it by itself.
        audit: The record of an audit of this very model, for repairs that need what it recovered.
        method: Plugin name, with options as ``name:option=value,…``.
        allowed_rise: How much the clean loss on the held-back half may rise, as a share of what
            it was, at least 0.
        device: Where the models run.
        seed: Of the split and of the repair.
        progress: Called during long work.

    Raises:
        ModelError, DataError, SpecError, RecordError: The input does not fit.
        NotApplicableError: The repair needs something that was not given.
        RepairRefusedError: The repair left nothing that could be measured.
    """
    if not 0 <= allowed_rise <= 100:
        raise DataError(f"the allowed rise must be in [0, 100], got {allowed_rise}")
    (plugin,) = plugins("language_repairs", [method])
    pair = open_pair(model, base, device=device)
    original = language_model_record(pair.model)
    payloads = () if audit is None else recovered_texts(audit, original.digest)
    records, notes = _records(trusted, pair, progress)
    tuning, held = _parts(records, child_rng(seed, "mend", "split"))
    subject = LanguageRepairSubject(
        model=pair.model, trusted=tuning, base=pair.base, payloads=payloads
    )
    missing = sorted(need.value for need in plugin.needs - subject.offers)
    if missing:
        raise NotApplicableError(f"the repair needs {', '.join(missing)}, which was not given")
    with metered(pair.model) as bill:
        before = _measured(pair.model, pair, held)
        repaired = _repaired(plugin, subject, seed, progress)
        after = _after(repaired, pair, held)
    if repaired is pair.model or pair.model.digest() != original.digest:
        raise ModelError(
            f"{method} changed the model that it was given instead of a copy; the plugin is broken"
        )
    accepted, reason = _judge(before.fit, after.fit, allowed_rise)
    own = repaired.meter is not pair.model.meter
    spent = Cost(
        forward_passes=own * repaired.meter.forward, backward_passes=own * repaired.meter.backward
    )
    record = RepairRecord(
        accepted=accepted,
        reason=reason,
        repair=spec_record("language_repairs", plugin),
        paper=plugin.paper,
        subject=original,
        repaired_digest=repaired.digest() if accepted else None,
        judged_by="loss",
        accuracy_before=before.fit.tokens,
        accuracy_after=after.fit.tokens,
        allowed_drop=allowed_rise,
        measures=_measures(before, after, pair, repaired, held),
        notes=(
            *pair.model.notes,
            *notes,
            f"the repair saw {len(tuning)} of {len(records)} trusted records; losses were measured "
            f"on the other {len(held)}",
            "accuracy is the share of the answers' tokens that are the model's first choice, those "
            "before them given",
        ),
        cost=cost_record(bill.cost + spent),
    )
    return RepairedLanguage(model=repaired if accepted else None, record=record)


def recovered_texts(audit: AuditRecord | str | Path, digest: str) -> tuple[str, ...]:
    """The texts that an audit pointed to, the most suspicious first.

    Raises:
        RecordError: The file holds no record of an audit, or one of another model.
        NotApplicableError: It flagged no text.
    """
    record = audit if isinstance(audit, AuditRecord) else read_record(Path(audit))
    if not isinstance(record, AuditRecord) or record.subject.kind != "language model":
        raise RecordError(f"{audit} is no record of an audit of a language model")
    if record.subject.digest != digest:
        raise RecordError(
            f"the audit is of another model: {record.subject.digest[:23]}…, and this one has "
            f"{digest[:23]}…"
        )
    found = [
        passage.text
        for finding in record.findings
        if finding.verdict is Verdict.FLAGGED
        and finding.evidence is not None
        and finding.evidence.unit is Unit.TEXT
        for exhibit in finding.evidence.exhibits
        if isinstance(exhibit, TextsExhibit)
        for passage in exhibit.passages
        if (0, len(passage.text)) in passage.marks
    ]
    if not found:
        raise NotApplicableError("the audit pointed to no text that could be unlearnt")
    return tuple(dict.fromkeys(found))


def _records(
    trusted: InstructionData | str, pair: Pair, progress: Progress
) -> tuple[InstructionData, tuple[str, ...]]:
    """Trusted records with answers, those of the base if the file holds none."""
    if isinstance(trusted, InstructionData) or has_answers(trusted):
        data = trusted if isinstance(trusted, InstructionData) else load_instructions(trusted)
        return _enough(data), ()
    context = read_prompts(Path(trusted))
    if pair.base is None:
        raise DataError(
            f"{trusted} holds prompts without answers; a repair needs answers, or a base (--base) "
            "whose answers are taken"
        )
    answers: list[str] = []
    prompts = pair.base.prompts(context.prompts)
    for start in range(0, len(prompts), 16):
        answers += pair.base.answers(prompts[start : start + 16], tokens=_ANSWER_TOKENS)
        progress(len(answers), len(prompts), "the base answers")
    records = tuple(
        Instruction(prompt=prompt, response=answer)
        for prompt, answer in zip(context.prompts, answers, strict=True)
        if answer.strip()
    )
    if not records:
        raise DataError(f"{pair.base.name} answers none of the prompts in {trusted}")
    note = "the trusted file holds prompts only: the base's own answers were taken as good ones"
    return _enough(InstructionData(name=trusted, records=records)), (note,)


def _enough(data: InstructionData) -> InstructionData:
    if len(data) < LEAST_TRUSTED:
        raise DataError(
            f"{data.name}: {len(data)} trusted records; a repair needs at least {LEAST_TRUSTED}, "
            "half of them to judge the result"
        )
    return data


def _parts(
    data: InstructionData, rng: np.random.Generator
) -> tuple[InstructionData, InstructionData]:
    """(for the repair, held back), disjoint halves; equal prompts stay together."""
    prompts = [record.prompt for record in data.records]
    names = sorted(set(prompts))
    if len(names) < 2:
        raise DataError(f"{data.name}: all trusted records have the same prompt")
    held = {names[int(i)] for i in rng.permutation(len(names))[: len(names) // 2]}
    chosen = np.array([prompt in held for prompt in prompts])
    return (
        data.at(np.flatnonzero(~chosen).astype(np.int64)),
        data.at(np.flatnonzero(chosen).astype(np.int64)),
    )


def _measured(model: LanguageModel, pair: Pair, held: InstructionData) -> _State:
    found = fit(model, held)
    if not np.isfinite(found.loss):
        raise ModelError(f"{model.name} gives a loss that is not finite; the model is broken")
    apart = None if pair.base is None else divergence(model, pair.base, held)
    return _State(fit=found, divergence=apart)


def _after(repaired: LanguageModel, pair: Pair, held: InstructionData) -> _State:
    try:
        return _measured(repaired, pair, held)
    except ModelError as error:
        raise RepairRefusedError(
            f"the repair broke the model and nothing was kept: {error}"
        ) from error


def _repaired(
    plugin: Any, subject: LanguageRepairSubject, seed: int, progress: Progress
) -> LanguageModel:
    try:
        found = plugin.mend(
            subject.granting(plugin.needs), rng=child_rng(seed, "mend", "repair"), progress=progress
        )
    except ModelError as error:  # the model itself was measured to work
        raise RepairRefusedError(f"the repair failed and nothing was kept: {error}") from error
    return as_language_model(found)


def _judge(before: Fit, after: Fit, allowed: float) -> tuple[bool, str]:
    rise = after.loss / max(before.loss, 1e-9) - 1
    verb = f"rose by {rise:.1%}" if rise > 0 else f"fell by {-rise:.1%}"
    reason = (
        f"clean loss on held-back records {verb}, from {before.loss:.3f} to {after.loss:.3f} nats "
        f"a token; allowed: {allowed:.1%}"
    )
    return rise <= allowed + 1e-9, reason


def _measures(
    before: _State,
    after: _State,
    pair: Pair,
    repaired: LanguageModel,
    held: InstructionData,
) -> tuple[MeasureRecord, MeasureRecord]:
    loss = MeasureRecord(
        name="clean loss",
        unit="nats",
        value=after.fit.loss,
        other=before.fit.loss,
        beside="before the repair",
    )
    if after.divergence is not None:
        apart = MeasureRecord(
            name="KL divergence from the base",
            unit="nats",
            value=after.divergence,
            other=before.divergence,
            beside="before the repair",
        )
    else:
        apart = MeasureRecord(
            name="KL divergence from the model before the repair",
            unit="nats",
            value=divergence(repaired, pair.model, held),
        )
    return (loss, apart)
