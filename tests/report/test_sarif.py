"""SARIF: results for what was flagged, notifications for what was not checked."""

import json
import math
from typing import Any

import pytest

from gifthorse.core.record import AuditRecord, PlantRecord, RepairRecord, StoryRecord
from gifthorse.core.types import Verdict
from gifthorse.report.sarif import render_sarif

from . import examples


def log_of(record: AuditRecord | RepairRecord | PlantRecord | StoryRecord) -> dict[str, Any]:
    log = json.loads(render_sarif(record))
    assert log["version"] == "2.1.0"
    assert isinstance(log, dict)
    return log


def test_flagged_findings_are_results() -> None:
    (run,) = log_of(examples.audit_flagged())["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == [
        "activation_clustering", "universality", "strip", "neural_cleanse", "fine_pruning_probe",
    ]  # fmt: skip
    (result,) = run["results"]
    assert (result["ruleId"], result["level"]) == ("neural_cleanse", "error")
    assert rules[result["ruleIndex"]]["id"] == "neural_cleanse"
    assert "bird" in result["message"]["text"]
    assert result["properties"]["pValue"] == 3.1e-6
    location = result["locations"][0]["physicalLocation"]["artifactLocation"]
    assert run["artifacts"][location["index"]]["location"]["uri"] == location["uri"]


def test_what_was_not_checked_is_a_notification() -> None:
    (run,) = log_of(examples.audit_flagged())["runs"]
    (invocation,) = run["invocations"]
    assert invocation["executionSuccessful"] is False
    assert invocation["endTimeUtc"] == "2026-03-01T12:00:00Z"
    levels = {
        note["associatedRule"]["id"]: note["level"]
        for note in invocation["toolExecutionNotifications"]
    }
    assert levels == {
        "strip": "error",
        "fine_pruning_probe": "warning",
        "activation_clustering": "note",
    }


def test_clear_has_no_results() -> None:
    (run,) = log_of(examples.audit_clear())["runs"]
    assert run["results"] == []
    assert run["invocations"][0]["executionSuccessful"] is True


@pytest.mark.parametrize(
    ("name", "uri"),
    [
        ("models/street signs", "models/street%20signs"),
        ("/data/m%x#1?", "file:///data/m%25x%231%3F"),
        ("//host/share", "file:///host/share"),
        ("javascript:alert(1)", "javascript%3Aalert%281%29"),
        ("C:\\models\\a", "C%3A/models/a"),
        ("모델", "%EB%AA%A8%EB%8D%B8"),
        ("", "subject"),
    ],
)
def test_names_become_uris(name: str, uri: str) -> None:
    record = examples.audit_of(
        Verdict.FLAGGED, (examples.flagged(),), score=4.0, reason="Found.", name=name
    )
    (run,) = log_of(record)["runs"]
    location = run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]
    assert location["uri"] == uri


def test_messages_make_no_links() -> None:
    finding = examples.flagged().model_copy(update={"reason": "see [this](http://x) {0}"})
    record = examples.audit_of(Verdict.FLAGGED, (finding,), score=4.0, reason="Found.")
    (run,) = log_of(record)["runs"]
    assert run["results"][0]["message"]["text"].startswith("see \\[this\\](http://x) {{0}}")


def test_a_detector_used_twice_is_one_rule_and_two_results() -> None:
    first = examples.flagged()
    spec = first.detector.model_copy(update={"params": {"steps": 9}})
    second = first.model_copy(update={"detector": spec})
    record = examples.audit_of(Verdict.FLAGGED, (first, second), score=4.0, reason="Found.")
    (run,) = log_of(record)["runs"]
    assert len(run["tool"]["driver"]["rules"]) == 1
    prints = {result["partialFingerprints"]["subjectAndDetector/v1"] for result in run["results"]}
    assert len(prints) == 2


def test_numbers_that_are_none_stay_json() -> None:
    record = examples.audit_clear().model_copy(update={"score": math.inf})
    (run,) = log_of(record)["runs"]
    assert run["properties"]["score"] is None


def test_repairs_and_plants_have_no_results() -> None:
    for record in (examples.repair(), examples.repair(accepted=False), examples.plant()):
        (run,) = log_of(record)["runs"]
        assert run["results"] == []
        assert len(run["invocations"][0]["toolExecutionNotifications"]) == 1


def test_story_is_one_run_a_chapter() -> None:
    runs = log_of(examples.story())["runs"]
    assert [len(run["results"]) for run in runs] == [0, 1, 0, 0, 0]
    assert len({run["automationDetails"]["id"] for run in runs}) == 5


def test_no_detector_is_said() -> None:
    record = examples.audit_of(Verdict.INCONCLUSIVE, (), score=None, reason="Nothing planned.")
    (run,) = log_of(record)["runs"]
    (note,) = run["invocations"][0]["toolExecutionNotifications"]
    assert note["message"]["text"] == "No detector was run."
