"""Records survive a trip through a file; what is not a record is refused with a reason."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gifthorse.core.errors import RecordError
from gifthorse.core.exhibits import BarsExhibit, HistogramExhibit, Picture, PicturesExhibit
from gifthorse.core.record import (
    AuditRecord,
    Chapter,
    CostRecord,
    EvidenceRecord,
    FindingRecord,
    PlanRecord,
    PlantRecord,
    Rate,
    RepairRecord,
    SpecRecord,
    StoryRecord,
    SubjectRecord,
    ThresholdRecord,
    read_record,
    versions,
)
from gifthorse.core.types import Unit, Verdict

COST = CostRecord(seconds=1.5, forward_passes=10, backward_passes=2, peak_memory_mib=100.25)
SPEC = SpecRecord(name="universality", params={"steps": 3, "goal": 0.9, "on": True, "x": None})
SUBJECT = SubjectRecord(
    kind="image classifier",
    name="modèle",
    digest="sha256:00",
    class_names=("a", "b"),
    facts={"parameters": 12, "layer": "x", "share": 0.25},
)
HALF = Rate(value=0.5, low=0.25, high=0.75, count=5, total=10)
EXHIBITS = (
    BarsExhibit(title="t", caption="c", labels=("a",), values=(0.1,), value_name="v"),
    HistogramExhibit(title="t", caption="c", value_name="v", edges=(0, 1), counts={"all": (3,)}),
    PicturesExhibit(
        title="t", caption="c", pictures=(Picture(label="l", png="AA==", width=1, height=1),)
    ),
)
EVIDENCE = EvidenceRecord(
    unit=Unit.CLASS,
    unit_names=("a", "b"),
    scores=(0.1, 1 / 3),
    statistic=1 / 3,
    p_value=1e-12,
    suspects=(1,),
    exhibits=EXHIBITS,
    notes=("note",),
)
THRESHOLD = ThresholdRecord(value=2.5, false_alarm_rate=0.01, origin="analytic")


def finding(verdict: Verdict, **fields: Any) -> FindingRecord:
    return FindingRecord(detector=SPEC, paper="p", verdict=verdict, reason="r", cost=COST, **fields)


AUDIT = AuditRecord(
    kind="audit",
    verdict=Verdict.CLEAR,
    score=0.3,
    reason="r",
    subject=SUBJECT,
    trusted=None,
    plan=PlanRecord(detectors=(SPEC,), false_alarm_rate=0.01, seed=7),
    findings=(
        finding(Verdict.CLEAR, evidence=EVIDENCE, threshold=THRESHOLD),
        finding(Verdict.NOT_APPLICABLE),
    ),
    notes=(),
    cost=COST,
)
REPAIR = RepairRecord(
    accepted=True,
    reason="r",
    repair=SPEC,
    paper="p",
    subject=SUBJECT,
    repaired_digest=None,
    accuracy_before=HALF,
    accuracy_after=HALF,
    allowed_drop=0.02,
    notes=("n",),
    cost=COST,
)
PLANT = PlantRecord(
    attack=SPEC,
    paper="p",
    mode="all-to-one",
    target="a",
    source=None,
    subject=SUBJECT,
    training_samples=100,
    poisoned_samples=5,
    cover_samples=0,
    clean_accuracy=HALF,
    attack_success_rate=HALF,
    robust_accuracy=HALF,
    twin_clean_accuracy=None,
    exhibits=EXHIBITS,
    notes=(),
    cost=COST,
)
STORY = StoryRecord(
    title="t",
    summary="s",
    chapters=tuple(Chapter(title="c", text="x", record=r) for r in (PLANT, AUDIT, REPAIR)),
)


@pytest.mark.parametrize("record", [AUDIT, REPAIR, PLANT, STORY], ids=lambda record: record.kind)
def test_a_record_survives_a_trip_through_a_file(
    record: AuditRecord | RepairRecord | PlantRecord | StoryRecord, tmp_path: Path
) -> None:
    path = tmp_path / "record.json"
    path.write_text(record.model_dump_json(indent=2), encoding="utf-8")
    again = read_record(path)
    assert type(again) is type(record)
    assert again == record


@pytest.mark.parametrize("verdict", [Verdict.FLAGGED, Verdict.CLEAR])
@pytest.mark.parametrize(
    "fields", [{}, {"evidence": EVIDENCE}, {"threshold": THRESHOLD}], ids=["none", "e", "t"]
)
def test_no_judgement_without_evidence_and_a_threshold(
    verdict: Verdict, fields: dict[str, Any]
) -> None:
    with pytest.raises(ValidationError, match=f"{verdict} needs evidence and a threshold"):
        finding(verdict, **fields)


@pytest.mark.parametrize("verdict", list(Verdict))
def test_every_verdict_is_possible_with_both(verdict: Verdict) -> None:
    made = finding(verdict, evidence=EVIDENCE, threshold=THRESHOLD)
    assert made.verdict is verdict


@pytest.mark.parametrize("verdict", [Verdict.INCONCLUSIVE, Verdict.NOT_APPLICABLE, Verdict.FAILED])
def test_what_was_not_judged_needs_no_evidence(verdict: Verdict) -> None:
    assert finding(verdict).evidence is None


def changed(**changes: Any) -> str:
    return json.dumps({**json.loads(AUDIT.model_dump_json()), **changes})


def without_evidence() -> str:
    data = json.loads(AUDIT.model_dump_json())
    data["findings"][0]["evidence"] = None
    return json.dumps(data)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("\x00\x01", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"a":' * 50_000 + "1" + "}" * 50_000, "not JSON"),
        ('{"schema_version": ' + "9" * 5000 + "}", "not JSON"),
        ("[]", "schema_version None"),
        ("null", "schema_version None"),
        ("{}", "schema_version None; this gifthorse reads 1"),
        (changed(schema_version=2), "schema_version 2"),
        (changed(schema_version="1"), "schema_version '1'"),
        ('{"schema_version": 1}', "kind"),
        (changed(kind="verdict"), "not a record"),
        (changed(extra=1), "extra"),
        (changed(verdict="MAYBE"), "verdict"),
        (changed(score="high"), "score"),
        (changed(plan=None), "plan"),
        (without_evidence(), "needs evidence and a threshold"),
    ],
    ids=lambda value: value[:24] if value else "empty",
)
def test_what_is_no_record_is_refused(text: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RecordError) as caught:
        read_record(path)
    assert str(path) in str(caught.value)
    assert expected in str(caught.value)
    assert len(str(caught.value)) < 500


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_bytes(b"\xff\xfe\x80")
    with pytest.raises(RecordError, match="not JSON"):
        read_record(path)


def test_a_missing_file_and_a_directory_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="No such file"):
        read_record(tmp_path / "nothing.json")
    with pytest.raises(RecordError, match="directory"):
        read_record(tmp_path)


def test_versions_name_what_can_change_a_result() -> None:
    assert {"python", "gifthorse", "torch", "numpy"} <= set(versions())
