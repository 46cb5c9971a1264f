"""A record as SARIF 2.1.0, for code-scanning services.

Only what was flagged becomes a result. What was not checked becomes a notification of the run, so
that a missing detector is visible and never looks like a clear one.
"""

import datetime as dt
import hashlib
import json
import math
from typing import Any

from gifthorse.core.record import (
    AuditRecord,
    FindingRecord,
    PlantRecord,
    RepairRecord,
    StoryRecord,
)
from gifthorse.core.types import Verdict
from gifthorse.report import sarif_files, words
from gifthorse.report.sarif_text import message, uri

_SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
_NOTIFIED = {
    Verdict.FAILED: "error",
    Verdict.INCONCLUSIVE: "warning",
    Verdict.NOT_APPLICABLE: "note",
}
_MOST_SUSPECTS = 100
_Node = dict[str, Any]
_Examined = AuditRecord | RepairRecord | PlantRecord


def render_sarif(record: AuditRecord | RepairRecord | PlantRecord | StoryRecord) -> str:
    """Render a record as a SARIF log: one run for an audit or scan, one a chapter for a story.

    Repairs and plants examine nothing: their runs have no results, and one notification.
    """
    if isinstance(record, StoryRecord):
        runs = [_run(chapter.record, position) for position, chapter in enumerate(record.chapters)]
    else:
        runs = [_run(record, None)]
    log = {"$schema": _SCHEMA, "version": "2.1.0", "runs": runs}
    return json.dumps(log, indent=2, allow_nan=False) + "\n"


def _run(record: _Examined, chapter: int | None) -> _Node:
    findings = record.findings if isinstance(record, AuditRecord) else ()
    files = record.files if isinstance(record, AuditRecord) else None
    rules = {name: position for position, name in enumerate(_detectors(findings))}
    driver: _Node = {"name": "gifthorse", "rules": [_rule(name, findings) for name in rules]}
    if files is not None:
        driver["rules"] += sarif_files.rules(files)
    if "gifthorse" in record.versions:
        driver["version"] = words.harmless(record.versions["gifthorse"])
    flagged = [finding for finding in words.judged(findings) if finding.verdict is Verdict.FLAGGED]
    # Services merge the runs of one category: without this, chapters would replace each other.
    category = f"gifthorse/{record.kind}/" + ("" if chapter is None else f"chapter-{chapter + 1}/")
    return {
        "tool": {"driver": driver},
        "automationDetails": {"id": category},
        "invocations": [_invocation(record, rules)],
        "artifacts": [{"location": {"uri": uri(record.subject.name)}, **_hashes(record)}],
        "results": [_result(finding, record, rules) for finding in flagged]
        + (sarif_files.results(files, record.subject.name, len(rules)) if files else []),
        "properties": _summary(record),
    }


def _detectors(findings: tuple[FindingRecord, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(finding.detector.name for finding in findings))


def _rule(name: str, findings: tuple[FindingRecord, ...]) -> _Node:
    paper = next(finding.paper for finding in findings if finding.detector.name == name)
    title = words.harmless(words.title(name))
    text = f"{title} saw more than clean subjects show."
    return {
        "id": words.harmless(name),
        "name": title,
        "shortDescription": {"text": text},
        "fullDescription": {"text": f"{text} Method: {words.harmless(paper)}" if paper else text},
        "help": {"text": "Do not use the subject before the evidence in the record was looked at."},
        "defaultConfiguration": {"level": "error"},
        "properties": {"tags": ["security", "backdoor"]},
    }


def _result(finding: FindingRecord, record: _Examined, rules: dict[str, int]) -> _Node:
    named = words.suspects(finding)
    text = finding.reason
    if named:
        some = ", ".join(named[:10])
        text += f" Points to: {some}{' and others' if len(named) > 10 else ''}."
    location = {"physicalLocation": {"artifactLocation": _artifact(record.subject.name)}}
    return {
        "ruleId": words.harmless(finding.detector.name),
        "ruleIndex": rules[finding.detector.name],
        "level": "error",
        "kind": "fail",
        "message": message(text),
        "locations": [location],
        "partialFingerprints": {"subjectAndDetector/v1": _fingerprint(finding, record)},
        "properties": _measures(finding, named),
    }


def _measures(finding: FindingRecord, named: tuple[str, ...]) -> _Node:
    """The numbers behind a finding; JSON has no NaN, so what is not a number is null."""
    found: _Node = {"suspectCount": len(named)}
    found["suspects"] = [words.harmless(name) for name in named[:_MOST_SUSPECTS]]
    if finding.evidence is not None:
        found["statistic"] = _json(finding.evidence.statistic)
        found["pValue"] = _json(finding.evidence.p_value)
    if finding.threshold is not None:
        found["threshold"] = _json(finding.threshold.value)
        found["falseAlarmRate"] = _json(finding.threshold.false_alarm_rate)
    return found


def _invocation(record: _Examined, rules: dict[str, int]) -> _Node:
    invocation: _Node = {"executionSuccessful": True}
    notes: list[_Node] = []
    if isinstance(record, AuditRecord):
        notes = [_notification(finding, rules) for finding in words.unjudged(record.findings)]
        failed = any(finding.verdict is Verdict.FAILED for finding in record.findings)
        invocation["executionSuccessful"] = not failed and record.verdict is not Verdict.FAILED
        if record.files is not None:
            notes += sarif_files.notifications(record.files, len(rules))
        elif not record.findings:
            notes = [{"level": "warning", "message": {"text": "No detector was run."}}]
    else:
        outcome = words.outcome(record)
        text = f"{outcome.kind}: {outcome.word}. {outcome.reason}"
        level = "note" if outcome.tone != "unsure" else "warning"
        notes = [{"level": level, "message": message(text)}]
    if notes:
        invocation["toolExecutionNotifications"] = notes
    ended = _utc(record.created)
    if ended is not None:
        invocation["endTimeUtc"] = ended
    return invocation


def _notification(finding: FindingRecord, rules: dict[str, int]) -> _Node:
    name, word = finding.detector.name, words.VERDICT_WORDS[finding.verdict]
    return {
        "level": _NOTIFIED[finding.verdict],
        "associatedRule": {"id": words.harmless(name), "index": rules[name]},
        "message": message(
            f"{words.title(name)}: {word.lower()}, so this was not checked. {finding.reason}"
        ),
    }


def _summary(record: _Examined) -> _Node:
    outcome = words.outcome(record)
    found: _Node = {
        "verdict": str(record.verdict) if isinstance(record, AuditRecord) else outcome.word,
        "reason": words.harmless(outcome.reason),
        "digest": words.harmless(record.subject.digest),
    }
    if isinstance(record, AuditRecord):
        found["score"] = _json(record.score)
        found["falseAlarmRate"] = _json(record.plan.false_alarm_rate)
    return found


def _hashes(record: _Examined) -> _Node:
    method, _, value = record.subject.digest.partition(":")
    known = method == "sha256" and value and all(sign in "0123456789abcdef" for sign in value)
    return {"hashes": {"sha-256": value}} if known else {}


def _artifact(name: str) -> _Node:
    return {"uri": uri(name), "index": 0}


def _fingerprint(finding: FindingRecord, record: _Examined) -> str:
    detector = finding.detector.model_dump(mode="json")
    parts = (detector, record.subject.name, record.subject.digest)
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _json(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _utc(created: str) -> str | None:
    """A time stamp as SARIF wants it; None if it is not one."""
    try:
        time = dt.datetime.fromisoformat(created).astimezone(dt.UTC)
    except (ValueError, OverflowError):
        return None
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"
