"""Scans instruction data for poisoned records: `gifthorse scan FILE.jsonl`."""

import time
from collections.abc import Sequence
from typing import Literal

from gifthorse.auditing.examine import Plan, cost_record, examine, plugins
from gifthorse.auditing.scan import DEFAULT_FALSE_ALARM_RATE
from gifthorse.core.instructions import InstructionData
from gifthorse.core.record import AuditRecord, SubjectRecord
from gifthorse.core.types import Cost, Progress, Subject, silent
from gifthorse.data.instructions import digest_instructions, load_instructions

DEFAULT_INSTRUCTION_DETECTORS = ("response_trigger",)


def scan_instructions(
    data: InstructionData | str,
    *,
    detectors: Sequence[str] = DEFAULT_INSTRUCTION_DETECTORS,
    false_alarm_rate: float = DEFAULT_FALSE_ALARM_RATE,
    split: Literal["train", "test"] = "train",
    seed: int = 0,
    progress: Progress = silent,
) -> AuditRecord:
    """Ask whether instruction data is poisoned, and which records. Needs no model.

    Args:
        data: See ``load_instructions``.
        detectors: Plugin names, with options as ``name:option=value,…``.
        false_alarm_rate: How often clean data may be flagged, in (0, 1).
        split: Which part of the source to scan.
        seed: Of all randomness.
        progress: Called during long work.

    Returns:
        The record; each finding's ``suspects`` are indices into the data set.

    Raises:
        DataError, SpecError: The input does not fit; nothing was examined.
    """
    plan = Plan(
        detectors=plugins("detectors", detectors), false_alarm_rate=false_alarm_rate, seed=seed
    )
    started = time.perf_counter()
    suspect = load_instructions(data, split=split) if isinstance(data, str) else data
    reading = Cost(seconds=time.perf_counter() - started)
    result = examine(Subject(suspect=suspect), plan, progress=progress)
    return AuditRecord(
        kind="scan",
        verdict=result.verdict,
        score=result.score,
        reason=result.reason,
        subject=instructions_record(suspect),
        trusted=None,
        plan=plan.record(),
        findings=result.findings,
        notes=("only what prompts and answers say was examined; no model was asked",),
        cost=cost_record(reading + result.cost),
    )


def instructions_record(data: InstructionData) -> SubjectRecord:
    """Instruction data as records name it."""
    return SubjectRecord(
        kind="instruction data",
        name=data.name,
        digest=digest_instructions(data),
        class_names=(),
        facts={
            "records": len(data),
            "with a system prompt": sum(bool(r.system) for r in data.records),
        },
    )
