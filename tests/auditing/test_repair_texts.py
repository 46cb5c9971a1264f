"""Repairs of text classifiers through the front door: the gate, the records, bad input."""

from pathlib import Path

import numpy as np
import pytest
from tests.models.texts.made_up import learnt, sentences
from typer.testing import CliRunner

from gifthorse.auditing.repair_texts import recovered_phrases, repair_texts
from gifthorse.auditing.scan_texts import text_model_record
from gifthorse.cli.main import app
from gifthorse.core.errors import (
    DataError,
    ModelError,
    NotApplicableError,
    RecordError,
    RepairRefusedError,
)
from gifthorse.core.exhibits import Passage, TextsExhibit
from gifthorse.core.record import (
    AuditRecord,
    CostRecord,
    EvidenceRecord,
    FindingRecord,
    PlanRecord,
    RepairRecord,
    SpecRecord,
    ThresholdRecord,
)
from gifthorse.core.texts import RecoveredPhrase, TextData
from gifthorse.core.types import Unit, Verdict
from gifthorse.data.texts import save_texts
from gifthorse.models.texts.classifier import TextClassifier
from gifthorse.models.texts.loading import (
    load_text_base,
    load_text_classifier,
    save_text_classifier,
)
from gifthorse.models.texts.networks import small_text_network, train_tokenizer
from gifthorse.repairs.texts.fine_tuning import TextFineTuning
from gifthorse.report.html import render_html
from gifthorse.report.markdown import render_markdown

GENTLE = "fine_tuning:epochs=1,learning_rate=1e-5"
RUINOUS = "fine_tuning:epochs=30,learning_rate=0.5"


@pytest.fixture(scope="module")
def model() -> TextClassifier:
    return learnt(sentences(600))


@pytest.fixture(scope="module")
def trusted() -> TextData:
    return sentences(120, seed=5)


def found_by_an_audit(
    model: TextClassifier,
    passages: tuple[Passage, ...],
    verdict: Verdict = Verdict.FLAGGED,
    unit: Unit = Unit.CLASS,
) -> AuditRecord:
    cost = CostRecord(seconds=0, forward_passes=0, backward_passes=0, peak_memory_mib=0)
    finding = FindingRecord(
        detector=SpecRecord(name="some_detector", params={}),
        paper="",
        verdict=verdict,
        reason="",
        evidence=EvidenceRecord(
            unit=unit,
            unit_names=(),
            scores=(0.0, 0.0, 1.0, 0.0),
            statistic=1.0,
            p_value=0.5,
            suspects=(2,),
            exhibits=(TextsExhibit(title="", caption="", passages=passages),),
            notes=(),
        ),
        threshold=ThresholdRecord(value=0.0, false_alarm_rate=0.05, origin=""),
        cost=cost,
    )
    return AuditRecord(
        kind="audit",
        verdict=verdict,
        score=None,
        reason="",
        subject=text_model_record(model),
        trusted=None,
        plan=PlanRecord(detectors=(), false_alarm_rate=0.05, seed=0),
        findings=(finding,),
        notes=(),
        cost=cost,
    )


MARKED = (
    Passage(label="", text="zq the ship", marks=((0, 2),)),
    Passage(label="", text="the bread zq", marks=((10, 12),)),
    Passage(label="", text="not marked"),
)


def test_the_record_says_what_was_paid(model: TextClassifier, trusted: TextData) -> None:
    before = model.digest()
    done = repair_texts(model, trusted=trusted, method=GENTLE)
    record = done.record
    assert record.accepted
    assert done.model is not None
    assert record.repaired_digest == done.model.digest() != before
    assert model.digest() == before
    held = record.accuracy_before.total
    assert held in range(57, 61)  # half of each class, rounded down
    assert "held-back texts" in record.reason
    assert record.cost.backward_passes == len(trusted) - held
    again = repair_texts(model, trusted=trusted, method=GENTLE).record
    assert again.repaired_digest == record.repaired_digest


def test_a_repair_that_costs_too_much_is_refused(model: TextClassifier, trusted: TextData) -> None:
    done = repair_texts(model, trusted=trusted, method=RUINOUS)
    assert done.model is None
    assert not done.record.accepted
    assert done.record.repaired_digest is None
    assert "fell by" in done.record.reason
    kept = repair_texts(model, trusted=trusted, method=RUINOUS, allowed_drop=1.0)
    assert kept.record.accepted


def test_a_repair_that_breaks_down_keeps_nothing(
    model: TextClassifier, trusted: TextData, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: TextFineTuning, *_: object, **__: object) -> None:
        raise ModelError("tuning diverged: the loss is not finite")

    monkeypatch.setattr(TextFineTuning, "mend", fail)
    with pytest.raises(RepairRefusedError, match="nothing was kept"):
        repair_texts(model, trusted=trusted, method="fine_tuning")


def test_a_plugin_that_returns_the_model_itself_is_caught(
    model: TextClassifier, trusted: TextData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TextFineTuning, "mend", lambda _self, subject, **_: subject.model)
    with pytest.raises(ModelError, match="plugin is broken"):
        repair_texts(model, trusted=trusted, method="fine_tuning")


def test_equal_texts_do_not_stand_on_both_sides(
    model: TextClassifier, trusted: TextData, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[TextData] = []
    plain = TextFineTuning.mend

    def watch(self: TextFineTuning, subject, **rest):  # type: ignore[no-untyped-def]
        seen.append(subject.trusted)
        return plain(self, subject, **rest)

    monkeypatch.setattr(TextFineTuning, "mend", watch)
    twice = trusted.at(np.concatenate([np.arange(len(trusted))] * 2))
    record = repair_texts(model, trusted=twice, method=GENTLE).record
    shown = set(seen[0].texts)
    rest = [text for text in twice.texts if text not in shown]
    assert len(seen[0]) + len(rest) == len(twice)
    assert record.accuracy_before.total == len(rest)
    assert set(seen[0].labels.tolist()) == {0, 1, 2, 3}


def test_words_of_an_audit_are_unlearnt_and_measured(
    model: TextClassifier, trusted: TextData, tmp_path: Path
) -> None:
    audit = tmp_path / "audit.json"
    audit.write_text(found_by_an_audit(model, MARKED).model_dump_json())
    method = "trigger_unlearning:epochs=1,learning_rate=1e-5"
    record = repair_texts(model, trusted=trusted, audit=audit, method=method).record
    (reach,) = record.measures
    assert reach.name == "to 'music' with 'zq'"
    assert reach.rate is not None
    assert reach.other_rate is not None
    assert reach.rate.total == reach.other_rate.total
    assert reach.rate.total < record.accuracy_before.total  # texts of the class are left out
    for page in (render_html(record), render_markdown(record)):
        assert "music" in page
        assert "before the repair" in page


def test_words_cannot_inject_into_the_report(model: TextClassifier, trusted: TextData) -> None:
    evil = "<script>alert(1)</script>"
    audit = found_by_an_audit(
        model, (Passage(label="", text=f"{evil} ship", marks=((0, len(evil)),)),)
    )
    record = repair_texts(model, trusted=trusted, audit=audit, method=GENTLE).record
    assert evil not in render_html(record)
    assert "alert(1)" in render_html(record)


def test_only_what_an_audit_of_this_model_marked_is_taken(
    model: TextClassifier, tmp_path: Path
) -> None:
    digest = model.digest()
    record = found_by_an_audit(model, MARKED)
    assert recovered_phrases(record, digest) == (RecoveredPhrase(target=2, text="zq"),)
    with pytest.raises(RecordError, match="another model"):
        recovered_phrases(record, "sha256:0")
    for other in (
        found_by_an_audit(model, MARKED, Verdict.CLEAR),
        found_by_an_audit(model, MARKED, unit=Unit.SAMPLE),
        found_by_an_audit(model, MARKED[2:]),
    ):
        with pytest.raises(NotApplicableError, match="pointed to no words"):
            recovered_phrases(other, digest)
    path = tmp_path / "audit.json"
    path.write_text("{}")
    with pytest.raises(RecordError):
        recovered_phrases(path, digest)
    language = record.subject.model_copy(update={"kind": "language model"})
    with pytest.raises(RecordError, match="of a text classifier"):
        recovered_phrases(record.model_copy(update={"subject": language}), digest)


def test_bad_input_is_refused(model: TextClassifier, trusted: TextData) -> None:
    with pytest.raises(DataError, match="at least 40"):
        repair_texts(model, trusted=trusted.at(np.arange(39)), method=GENTLE)
    many = sentences(400)
    one = many.at(np.flatnonzero(many.labels == 0))
    with pytest.raises(DataError, match="one class"):
        repair_texts(model, trusted=one, method=GENTLE)
    with pytest.raises(DataError, match="allowed drop"):
        repair_texts(model, trusted=trusted, allowed_drop=-0.1)
    with pytest.raises(NotApplicableError, match="--audit"):
        repair_texts(model, trusted=trusted, method="trigger_unlearning")
    with pytest.raises(NotApplicableError, match="--base"):
        repair_texts(model, trusted=trusted, method="fine_mixing")
    more = TextData(
        name="more",
        texts=trusted.texts,
        labels=np.arange(len(trusted)) % 5,
        class_names=("a", "b", "c", "d", "e"),
    )
    with pytest.raises(DataError, match="knows only"):
        repair_texts(model, trusted=more, method=GENTLE)
    same = TextData(
        name="same",
        texts=("the same words",) * 50,
        labels=np.arange(50) % 4,
        class_names=trusted.class_names,
    )
    with pytest.raises(DataError, match="too few different"):
        repair_texts(model, trusted=same, method=GENTLE)


def test_an_encoder_without_a_head_is_a_base(
    model: TextClassifier, trusted: TextData, tmp_path: Path
) -> None:
    ground = small_text_network(
        model.tokenizer, class_names=trusted.class_names, seed=3, width=32, max_length=48
    )
    ground.module.base_model.save_pretrained(tmp_path / "encoder")
    opened = load_text_base(tmp_path / "encoder", model)
    ours, theirs = (dict(m.module.named_parameters()) for m in (model, ground))
    for name, weight in opened.module.named_parameters():
        from_base = name.startswith("distilbert.")
        assert bool((weight == (theirs if from_base else ours)[name]).all()), name
    done = repair_texts(
        model,
        trusted=trusted,
        base=tmp_path / "encoder",
        method="fine_mixing:epochs=1",
        allowed_drop=1.0,
    )
    assert done.record.accepted
    wide = small_text_network(
        model.tokenizer, class_names=trusted.class_names, seed=3, width=64, max_length=48
    )
    save_text_classifier(wide, tmp_path / "wide")
    with pytest.raises(ModelError, match="not the base"):
        load_text_base(tmp_path / "wide", model)
    strange = small_text_network(
        train_tokenizer(trusted.texts, vocabulary=400),
        class_names=trusted.class_names,
        seed=3,
        width=32,
        max_length=48,
    )
    save_text_classifier(strange, tmp_path / "strange")
    with pytest.raises(ModelError, match="other tokens"):
        load_text_base(tmp_path / "strange", model)


def test_the_command(model: TextClassifier, trusted: TextData, tmp_path: Path) -> None:
    run = CliRunner()
    save_text_classifier(model, tmp_path / "model")
    save_texts(trusted, tmp_path / "clean.jsonl")
    opened = load_text_classifier(tmp_path / "model")
    audit = tmp_path / "audit.json"
    audit.write_text(found_by_an_audit(opened, MARKED).model_dump_json())
    common = ["repair", str(tmp_path / "model")]
    good = ["--trusted", f"texts:{tmp_path / 'clean.jsonl'}"]
    report = ["--report", str(tmp_path / "r.html")]
    words = ["--audit", str(audit), "--max-drop", "0.5"]
    done = run.invoke(app, [*common, str(tmp_path / "out"), *good, *words, "--json", *report])
    assert done.exit_code == 0, done.output
    record = RepairRecord.model_validate_json(done.stdout)
    assert record.repair.name == "trigger_unlearning"
    assert load_text_classifier(tmp_path / "out").digest() == record.repaired_digest
    assert "zq" in (tmp_path / "r.html").read_text()
    refused = run.invoke(app, [*common, str(tmp_path / "no"), *good, "--method", RUINOUS])
    assert refused.exit_code == 3
    assert not (tmp_path / "no").exists()
    missing = run.invoke(app, [*common, str(tmp_path / "no"), *good, "--method", "fine_mixing"])
    assert isinstance(missing.exception, NotApplicableError)
    (tmp_path / "model" / "tokenizer.json").unlink()
    broken = run.invoke(app, [*common, str(tmp_path / "no"), *good])
    assert isinstance(broken.exception, ModelError)
    assert "tokenizer.json" in str(broken.exception)
