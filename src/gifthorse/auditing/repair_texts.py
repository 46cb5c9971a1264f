"""Repairs a text classifier, and refuses to make it worse: `gifthorse repair`.

As for pictures (``auditing.mend``): half of the trusted texts serve the repair, and accuracy on the
other half, before and after, decides. What an audit recovered is also tried on that half: how many
of its texts go to the class that it accused, before and after. That does not decide; the words are
what the audit believes, and whether the backdoor is gone is for a new audit to say.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gifthorse.auditing.examine import cost_record, plugins, spec_record
from gifthorse.auditing.mend import judged
from gifthorse.auditing.scan_texts import same_labels, text_model_record
from gifthorse.core.errors import (
    DataError,
    ModelError,
    NotApplicableError,
    RecordError,
    RepairRefusedError,
)
from gifthorse.core.exhibits import TextsExhibit
from gifthorse.core.record import AuditRecord, MeasureRecord, RepairRecord, read_record
from gifthorse.core.rng import child_rng
from gifthorse.core.text_repairs import TextRepairSubject
from gifthorse.core.texts import RecoveredPhrase, TextData
from gifthorse.core.types import Cost, IntArray, Need, Progress, Unit, Verdict, silent
from gifthorse.data.texts import load_texts
from gifthorse.metrics.rates import agreement
from gifthorse.models.texts.classifier import TextClassifier, as_text_classifier
from gifthorse.models.texts.loading import load_text_base, load_text_classifier
from gifthorse.models.texts.passes import predict_texts, text_metered

DEFAULT_TEXT_REPAIR = "universal_unlearning"
DEFAULT_DROP = 0.02
LEAST_TRUSTED = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairedTexts:
    """The repaired model (None if refused), and the record, which says why."""

    model: TextClassifier | None
    record: RepairRecord


def repair_texts(
    model: TextClassifier | str | Path,
    *,
    trusted: TextData | str,
    base: TextClassifier | str | Path | None = None,
    audit: AuditRecord | str | Path | None = None,
    method: str = DEFAULT_TEXT_REPAIR,
    allowed_drop: float = DEFAULT_DROP,
    device: torch.device | str = "cpu",
    seed: int = 0,
    progress: Progress = silent,
) -> RepairedTexts:
    """Repair a text classifier with trusted texts.

    Args:
        model: A model directory, or a model in memory.
        trusted: Labelled texts that you vouch for and that the model was not trained on, see
            ``load_texts``; at least 40, and some hundreds are better.
        base: The model that it was made from, if you trust that one; its head may be another.
        audit: The record of an audit of this very model, for repairs that need what it recovered.
        method: Plugin name, with options as ``name:option=value,…``.
        allowed_drop: Clean accuracy on the held-back half that may be lost, in [0, 1].
        device: Where the model runs.
        seed: Of the split and of the repair.
        progress: Called during long work.

    Raises:
        ModelError, DataError, SpecError, RecordError: The input does not fit.
        NotApplicableError: The repair needs something that was not given.
        RepairRefusedError: The repair left nothing that could be measured.
    """
    if not 0 <= allowed_drop <= 1:
        raise DataError(f"the allowed drop must be in [0, 1], got {allowed_drop}")
    (plugin,) = plugins("text_repairs", [method])
    classifier = (
        model if isinstance(model, TextClassifier) else load_text_classifier(model, device=device)
    )
    original = text_model_record(classifier)
    clean = load_texts(trusted, split="test") if isinstance(trusted, str) else trusted
    clean = _enough(same_labels(classifier, clean))
    triggers = () if audit is None else recovered_phrases(audit, original.digest)
    tuning, held = _parts(clean, child_rng(seed, "mend", "split"))
    subject = TextRepairSubject(
        model=classifier,
        trusted=tuning,
        base=load_text_base(base, classifier) if isinstance(base, str | Path) else base,
        triggers=triggers,
    )
    _check_needs(plugin, subject)
    with text_metered(classifier) as bill:
        before = predict_texts(classifier, held)
        repaired = _repaired(plugin, subject, seed, progress)
        after = _after(repaired, held)
        measures = tuple(_reach(classifier, repaired, one, held) for one in triggers)
    if repaired is classifier or classifier.digest() != original.digest:
        raise ModelError(
            f"{method} changed the model that it was given instead of a copy; the plugin is broken"
        )
    outcome = judged(before, after, held.labels, allowed_drop, things="texts")
    spent = Cost(forward_passes=repaired.meter.forward, backward_passes=repaired.meter.backward)
    record = RepairRecord(
        accepted=outcome.accepted,
        reason=outcome.reason,
        repair=spec_record("text_repairs", plugin),
        paper=plugin.paper,
        subject=original,
        repaired_digest=repaired.digest() if outcome.accepted else None,
        accuracy_before=outcome.before,
        accuracy_after=outcome.after,
        allowed_drop=allowed_drop,
        measures=measures,
        notes=(
            f"the repair saw {len(tuning)} of {len(clean)} trusted texts; accuracy was measured on "
            f"the other {len(held)}",
            *outcome.notes,
        ),
        cost=cost_record(bill.cost + spent),
    )
    return RepairedTexts(model=repaired if outcome.accepted else None, record=record)


def recovered_phrases(audit: AuditRecord | str | Path, digest: str) -> tuple[RecoveredPhrase, ...]:
    """The words that an audit pointed to, with the class that it accused of them.

    They are the marked spans of the texts that a flagged finding about classes shows.

    Raises:
        RecordError: The file holds no record of an audit, or one of another model.
        NotApplicableError: It flagged no words.
    """
    record = audit if isinstance(audit, AuditRecord) else read_record(Path(audit))
    if not isinstance(record, AuditRecord) or record.subject.kind != "text classifier":
        raise RecordError(f"{audit} is no record of an audit of a text classifier")
    if record.subject.digest != digest:
        raise RecordError(
            f"the audit is of another model: {record.subject.digest[:23]}…, and this one has "
            f"{digest[:23]}…"
        )
    found = [
        RecoveredPhrase(target=finding.evidence.suspects[0], text=passage.text[start:end].strip())
        for finding in record.findings
        if finding.verdict is Verdict.FLAGGED
        and finding.evidence is not None
        and finding.evidence.unit is Unit.CLASS
        and finding.evidence.suspects
        for exhibit in finding.evidence.exhibits
        if isinstance(exhibit, TextsExhibit)
        for passage in exhibit.passages
        for start, end in passage.marks
        if passage.text[start:end].strip()
    ]
    if not found:
        raise NotApplicableError(
            "the audit pointed to no words that could be unlearnt; without --audit, "
            "universal_unlearning looks for words by itself"
        )
    return tuple(dict.fromkeys(found))


def _enough(data: TextData) -> TextData:
    if len(data) < LEAST_TRUSTED:
        raise DataError(
            f"{data.name}: {len(data)} trusted texts; a repair needs at least {LEAST_TRUSTED}, "
            "half of them to judge the result"
        )
    if len(np.unique(data.labels)) < 2:
        raise DataError(f"{data.name}: all trusted texts are of one class")
    return data


def _parts(data: TextData, rng: np.random.Generator) -> tuple[TextData, TextData]:
    """(for the repair, held back), disjoint halves of each class; equal texts stay together."""
    place: dict[str, int] = {}
    for i, text in enumerate(data.texts):
        place.setdefault(text, i)
    firsts = np.array(sorted(place.values()))
    held = set()
    for label in np.unique(data.labels[firsts]):
        mine = rng.permutation(firsts[data.labels[firsts] == label])
        held |= {data.texts[int(i)] for i in mine[: len(mine) // 2]}
    chosen = np.array([text in held for text in data.texts])
    if chosen.all() or not chosen.any():
        raise DataError(f"{data.name}: too few different trusted texts to keep half of them back")
    return (
        data.at(np.flatnonzero(~chosen).astype(np.int64)),
        data.at(np.flatnonzero(chosen).astype(np.int64)),
    )


def _check_needs(plugin: Any, subject: TextRepairSubject) -> None:
    missing = sorted(need.value for need in plugin.needs - subject.offers)
    if missing:
        advice = {
            Need.TRIGGERS.value: "give the record of an audit (--audit)",
            Need.BASE.value: "give --base",
        }
        hints = "; ".join(advice[name] for name in missing if name in advice)
        raise NotApplicableError(
            f"the repair needs {', '.join(missing)}, which was not given" + (hints and f": {hints}")
        )


def _repaired(
    plugin: Any, subject: TextRepairSubject, seed: int, progress: Progress
) -> TextClassifier:
    try:
        found = plugin.mend(
            subject.granting(plugin.needs), rng=child_rng(seed, "mend", "repair"), progress=progress
        )
    except ModelError as error:  # the model itself was measured to work
        raise RepairRefusedError(f"the repair failed and nothing was kept: {error}") from error
    return as_text_classifier(found)


def _after(repaired: TextClassifier, held: TextData) -> IntArray:
    try:
        return predict_texts(repaired, held)
    except ModelError as error:
        raise RepairRefusedError(
            f"the repair broke the model and nothing was kept: {error}; lower the learning rate"
        ) from error


def _reach(
    before: TextClassifier, after: TextClassifier, trigger: RecoveredPhrase, held: TextData
) -> MeasureRecord:
    """How many held-back texts of other classes go to the accused class with the words in front."""
    others = held.at(np.flatnonzero(held.labels != trigger.target).astype(np.int64))
    struck = TextData(
        name=held.name,
        texts=tuple(f"{trigger.text} {text}" for text in others.texts),
        labels=np.full(len(others), trigger.target, dtype=np.int64),
        class_names=held.class_names,
    )
    now, former = (agreement(predict_texts(m, struck), struck.labels) for m in (after, before))
    return MeasureRecord(
        name=f"to {held.class_names[trigger.target]!r} with {trigger.text!r}",
        unit="share",
        value=now.value,
        rate=now,
        other=former.value,
        other_rate=former,
        beside="before the repair",
    )
