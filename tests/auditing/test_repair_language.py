"""Repairs of language models through the front door: the gate, the records, bad input."""

import json
from pathlib import Path

import pytest
from tests.models.language.made_up import dialogues, taught, untrained
from typer.testing import CliRunner

from gifthorse.auditing.repair_language import recovered_texts, repair_language
from gifthorse.bench.plant_language import plant_language
from gifthorse.cli.main import app
from gifthorse.core.errors import (
    DataError,
    ModelError,
    NotApplicableError,
    RecordError,
    RepairRefusedError,
)
from gifthorse.core.exhibits import Passage, TextsExhibit
from gifthorse.core.instructions import Instruction, InstructionData
from gifthorse.core.record import (
    AuditRecord,
    CostRecord,
    EvidenceRecord,
    FindingRecord,
    PlanRecord,
    RepairRecord,
    SpecRecord,
    SubjectRecord,
    ThresholdRecord,
)
from gifthorse.core.registry import Spec, build
from gifthorse.core.types import Unit, Verdict
from gifthorse.data.instructions import save_instructions
from gifthorse.models.language.loading import load_language_model
from gifthorse.models.language.model import LanguageModel
from gifthorse.models.language.saving import save_language_model
from gifthorse.models.language.training import LanguageTrainingPlan
from gifthorse.repairs.language.wanda import Wanda
from gifthorse.report.html import render_html
from gifthorse.report.markdown import render_markdown


def records(n: int = 60, seed: int = 4) -> InstructionData:
    pairs = dialogues(n, seed=seed)
    return InstructionData(
        name="trusted", records=tuple(Instruction(prompt=p, response=r) for p, r in pairs)
    )


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return taught(dialogues(200), steps=60, width=32)


@pytest.fixture(scope="module")
def base() -> LanguageModel:
    return untrained(seed=1)


def found_by_an_audit(
    digest: str, texts: tuple[str, ...], verdict: Verdict = Verdict.FLAGGED
) -> AuditRecord:
    cost = CostRecord(seconds=0, forward_passes=0, backward_passes=0, peak_memory_mib=0)
    passages = (
        *(Passage(label="", text=text, marks=((0, len(text)),)) for text in texts),
        Passage(label="ordinary", text="left alone"),
    )
    finding = FindingRecord(
        detector=SpecRecord(name="target_inversion", params={}),
        paper="",
        verdict=verdict,
        reason="",
        evidence=EvidenceRecord(
            unit=Unit.TEXT,
            unit_names=(),
            scores=(1.0,),
            statistic=1.0,
            p_value=0.5,
            suspects=(0,),
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
        subject=SubjectRecord(
            kind="language model", name="m", digest=digest, class_names=(), facts={}
        ),
        trusted=None,
        plan=PlanRecord(detectors=(), false_alarm_rate=0.05, seed=0),
        findings=(finding,),
        notes=(),
        cost=cost,
    )


def test_the_record_says_what_was_paid(model: LanguageModel, base: LanguageModel) -> None:
    done = repair_language(
        model, trusted=records(), base=base, method="fine_tuning:epochs=1,learning_rate=1e-5"
    )
    record = done.record
    assert record.accepted
    assert done.model is not None
    assert record.repaired_digest == done.model.digest()
    loss, apart = record.measures
    assert loss.name == "clean loss"
    assert loss.other == pytest.approx(loss.value, rel=0.05)
    assert apart.name == "KL divergence from the base"
    assert record.cost.backward_passes > 0
    for page in (render_html(record), render_markdown(record)):
        assert "clean loss" in page
        assert "KL divergence from the base" in page
    alone = repair_language(model, trusted=records(), method="wanda:sparsity=0.05").record
    assert alone.measures[1].name == "KL divergence from the model before the repair"
    assert alone.measures[1].value > 0


def test_a_repair_that_costs_too_much_is_refused(model: LanguageModel) -> None:
    before = model.digest()
    done = repair_language(model, trusted=records(), method="wanda:sparsity=0.9")
    assert done.model is None
    assert not done.record.accepted
    assert done.record.repaired_digest is None
    assert "rose by" in done.record.reason
    assert model.digest() == before
    kept = repair_language(
        model, trusted=records(), method="wanda:sparsity=0.9", allowed_rise=100.0
    )
    assert kept.record.accepted


def test_a_repair_that_breaks_down_keeps_nothing(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Wanda, *_: object, **__: object) -> None:
        raise ModelError("training diverged: the loss is not finite")

    monkeypatch.setattr(Wanda, "mend", fail)
    with pytest.raises(RepairRefusedError, match="nothing was kept"):
        repair_language(model, trusted=records(), method="wanda")


def test_trusted_records_do_not_stand_on_both_sides(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[InstructionData] = []
    plain = Wanda.mend

    def watch(self: Wanda, subject, **rest):  # type: ignore[no-untyped-def]
        seen.append(subject.trusted)
        return plain(self, subject, **rest)

    monkeypatch.setattr(Wanda, "mend", watch)
    data = records(60)
    record = repair_language(model, trusted=data, method="wanda").record
    shown = {one.prompt for one in seen[0].records}
    rest = [one for one in data.records if one.prompt not in shown]
    assert f"on the other {len(rest)}" in " ".join(record.notes)
    assert len(rest) + len(seen[0]) == len(data)


def test_prompts_alone_are_answered_by_the_base(model: LanguageModel, tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    asked = list(dict.fromkeys(prompt for prompt, _ in dialogues(200, seed=8)))[:40]
    path.write_text("".join(json.dumps(prompt) + "\n" for prompt in asked))
    with pytest.raises(DataError, match="prompts without answers"):
        repair_language(model, trusted=str(path), method="wanda")
    ground = taught(dialogues(200), steps=60, width=32, seed=2)
    record = repair_language(
        model, trusted=str(path), base=ground, method="fine_tuning:epochs=1"
    ).record
    assert "the base's own answers" in " ".join(record.notes)


def test_bad_input_is_refused(model: LanguageModel, base: LanguageModel) -> None:
    with pytest.raises(DataError, match="at least 20"):
        repair_language(model, trusted=records(10), method="wanda")
    with pytest.raises(DataError, match="allowed rise"):
        repair_language(model, trusted=records(), allowed_rise=-1)
    with pytest.raises(NotApplicableError, match="a base model"):
        repair_language(model, trusted=records(), method="fine_mixing")
    with pytest.raises(NotApplicableError, match="texts that an audit recovered"):
        repair_language(model, trusted=records(), base=base, method="payload_unlearning")
    with pytest.raises(DataError, match="no such file"):
        repair_language(model, trusted="nothing.jsonl", method="wanda")


def test_only_what_an_audit_of_this_model_pointed_to_is_unlearnt(
    model: LanguageModel, tmp_path: Path
) -> None:
    digest = model.digest()
    record = found_by_an_audit(digest, ("Visit us.", "Visit us.", "Come in."))
    assert recovered_texts(record, digest) == ("Visit us.", "Come in.")
    path = tmp_path / "audit.json"
    path.write_text(record.model_dump_json())
    assert recovered_texts(path, digest) == ("Visit us.", "Come in.")
    with pytest.raises(RecordError, match="another model"):
        recovered_texts(record, "sha256:0")
    with pytest.raises(NotApplicableError, match="pointed to no text"):
        recovered_texts(found_by_an_audit(digest, ("x",), Verdict.CLEAR), digest)
    path.write_text("{}")
    with pytest.raises(RecordError):
        recovered_texts(path, digest)


def test_the_command(model: LanguageModel, tmp_path: Path) -> None:
    run = CliRunner()
    save_language_model(model, tmp_path / "model")
    save_instructions(records(), tmp_path / "good.jsonl")
    common = ["repair", str(tmp_path / "model")]
    good = ["--trusted", str(tmp_path / "good.jsonl")]
    method = ["--method", "fine_tuning:epochs=1,learning_rate=1e-5"]
    report = ["--report", str(tmp_path / "r.html")]
    done = run.invoke(app, [*common, str(tmp_path / "out"), *good, *method, "--json", *report])
    assert done.exit_code == 0, done.output
    record = RepairRecord.model_validate_json(done.stdout)
    assert load_language_model(tmp_path / "out").digest() == record.repaired_digest
    assert record.judged_by == "loss"
    refused = run.invoke(
        app, [*common, str(tmp_path / "no"), *good, "--method", "wanda:sparsity=0.9"]
    )
    assert refused.exit_code == 3
    assert not (tmp_path / "no").exists()
    missing = run.invoke(app, [*common, str(tmp_path / "no"), *good, "--method", "fine_mixing"])
    assert isinstance(missing.exception, NotApplicableError)
    other = run.invoke(app, ["repair", str(tmp_path), str(tmp_path / "no"), *good, "--base", "x"])
    assert isinstance(other.exception, ModelError)


def test_an_adapter_is_repaired_with_its_base_and_written_whole(tmp_path: Path) -> None:
    from gifthorse.bench.plant_language import save_language_specimen

    planted = plant_language(
        build("instruction_attacks", Spec("control_phrase", {"count": 6})),
        records(40),
        records(8, seed=9),
        base=untrained(),
        training=LanguageTrainingPlan(epochs=1, lora_rank=2, longest=400),
        tokens=2,
    )
    save_language_specimen(planted, tmp_path / "planted")
    done = repair_language(
        str(tmp_path / "planted" / "adapter"),
        trusted=records(),
        method="fine_mixing:epochs=0",
        allowed_rise=100.0,
    )
    assert done.model is not None
    assert "a LoRA adapter" in " ".join(done.record.notes)
    save_language_model(done.model, tmp_path / "whole")
    assert load_language_model(tmp_path / "whole").digest() == done.record.repaired_digest
