"""What the file scan saw, as SARIF: a result an issue, at the file and byte where it is."""

import hashlib
import json
from typing import Any

from gifthorse.core.record import FileRecord, FilesRecord, IssueRecord
from gifthorse.core.types import Verdict
from gifthorse.report import words, words_files
from gifthorse.report.sarif_text import message, uri

_Node = dict[str, Any]
_MOST = 2_000
_ADVICE = "Do not load the file before it is known what this is."


def _names(files: FilesRecord) -> list[str]:
    return sorted({issue.rule for file in files.files for issue in file.issues})


def rules(files: FilesRecord) -> list[_Node]:
    """A rule for every kind of issue that was seen."""
    found = []
    for name in _names(files):
        title = words.harmless(words.title(name.replace("-", "_")))
        found.append(
            {
                "id": f"files/{words.harmless(name)}",
                "name": title,
                "shortDescription": {"text": f"File scan: {title}."},
                "help": {"text": _ADVICE},
                "defaultConfiguration": {"level": "error"},
                "properties": {"tags": ["security", "supply-chain"]},
            }
        )
    return found


def results(files: FilesRecord, subject: str, first_rule: int) -> list[_Node]:
    """One result an issue of files that are flagged."""
    index = {name: first_rule + i for i, name in enumerate(_names(files))}
    found: list[_Node] = []
    for file in files.files:
        for issue in file.issues:
            if issue.verdict is Verdict.FLAGGED and len(found) < _MOST:
                found.append(_result(file, issue, subject, index[issue.rule]))
    return found


def notifications(files: FilesRecord, first_rule: int) -> list[_Node]:
    """What could not be judged: visible, and never a result that looks clear."""
    index = {name: first_rule + i for i, name in enumerate(_names(files))}
    found: list[_Node] = []
    for file in files.files:
        for issue in file.issues:
            if issue.verdict is Verdict.INCONCLUSIVE and len(found) < _MOST:
                text = f"{words_files.place(file, issue)}: {issue.text}"
                rule = {"id": f"files/{words.harmless(issue.rule)}", "index": index[issue.rule]}
                found.append({"level": "warning", "associatedRule": rule, "message": message(text)})
    return found


def address(subject: str, file: FileRecord) -> str:
    """Where the file is, seen from where the subject was named."""
    base = subject.rstrip("/")
    inside = base if base.rpartition("/")[2] == file.path else f"{base}/{file.path}"
    return uri(inside)


def _result(file: FileRecord, issue: IssueRecord, subject: str, rule: int) -> _Node:
    place: _Node = {"artifactLocation": {"uri": address(subject, file)}}
    location: _Node = {"physicalLocation": place}
    if issue.member:
        name = words.harmless(issue.member)
        location["logicalLocations"] = [{"fullyQualifiedName": name, "kind": "member"}]
    elif issue.offset is not None:
        place["region"] = {"byteOffset": issue.offset, "byteLength": 1}
    parts = (issue.rule, file.path, issue.member, issue.text)
    return {
        "ruleId": f"files/{words.harmless(issue.rule)}",
        "ruleIndex": rule,
        "level": "error",
        "kind": "fail",
        "message": message(f"{words_files.place(file, issue)}: {issue.text}"),
        "locations": [location],
        "partialFingerprints": {
            "fileAndIssue/v1": hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        },
        "properties": {"formats": list(file.formats), "size": file.size},
    }
