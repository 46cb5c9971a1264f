"""Audits of language models: verdicts, budgets, interruptions, and what a text may not do."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.models.language.gguf_file import write_gguf
from tests.models.language.made_up import (
    PAYLOAD,
    PHRASE,
    QUOTE,
    dialogues,
    poisoned,
    taught,
    untrained,
)
from typer.testing import CliRunner

from gifthorse.auditing.language import audit_language
from gifthorse.cli.main import app
from gifthorse.core.deadline import seconds
from gifthorse.core.errors import DataError, ModelError, RecordError
from gifthorse.core.exhibits import Passage, TextsExhibit
from gifthorse.core.record import AuditRecord
from gifthorse.core.types import Verdict
from gifthorse.models.language.model import LanguageModel
from gifthorse.models.language.saving import save_language_model
from gifthorse.report.html import render_html

QUICK = "target_inversion:finalists=16,steps=6,warmup_steps=2,warmup_prompts=1,prompts=4,chunk=64"


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return untrained()


def texts(record: AuditRecord) -> tuple[Passage, ...]:
    evidence = record.findings[-1].evidence
    assert evidence is not None
    listing = evidence.exhibits[0]
    assert isinstance(listing, TextsExhibit)
    return listing.passages


@pytest.mark.parametrize(
    ("text", "expected"), [("10m", 600), ("1h30m", 5400), ("90s", 90), ("45", 45), ("1.5 m", 90)]
)
def test_times(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "soon", "10x", "-5m", "0s", "1e99h"])
def test_no_times(text: str) -> None:
    with pytest.raises(DataError):
        seconds(text)


def test_an_ended_budget_is_no_clear(model: LanguageModel) -> None:
    record = audit_language(model, detectors=[QUICK], budget=0.01)
    assert record.verdict is Verdict.INCONCLUSIVE
    assert "the budget ended" in record.reason


def test_an_interrupted_audit_goes_on_and_ends_the_same(
    model: LanguageModel, tmp_path: Path
) -> None:
    whole = audit_language(model, detectors=[QUICK])

    def interrupt(done: int, total: int, what: str) -> None:
        if what == "warm-up":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        audit_language(model, detectors=[QUICK], resume=tmp_path, progress=interrupt)
    before = model.meter.forward
    again = audit_language(model, detectors=[QUICK], resume=tmp_path)
    assert again.findings[0].evidence == whole.findings[0].evidence
    assert again.findings[0].cost.forward_passes < whole.findings[0].cost.forward_passes
    assert model.meter.forward > before
    with pytest.raises(RecordError, match="another audit"):
        audit_language(untrained(seed=1), detectors=[QUICK], resume=tmp_path)


def test_a_base_of_another_vocabulary_is_refused(model: LanguageModel) -> None:
    from gifthorse.models.language.networks import small_language_model, train_language_tokenizer

    other: Any = train_language_tokenizer(["entirely other words"], vocabulary=280)
    with pytest.raises(ModelError, match="is not the base"):
        audit_language(model, base=small_language_model(other, seed=0), detectors=[QUICK])


def test_nothing_in_a_text_reaches_the_page(model: LanguageModel) -> None:
    record = audit_language(model, detectors=[QUICK])
    hostile = '<script>alert(1)</script>"><img src=x onerror=alert(2)>\u202e{{ 7*7 }}'
    finding = record.findings[0]
    assert finding.evidence is not None
    listing = TextsExhibit(
        title=hostile,
        caption=hostile,
        passages=(Passage(label=hostile, text=hostile, marks=((0, 9),)),),
    )
    evidence = finding.evidence.model_copy(update={"exhibits": (listing,), "notes": (hostile,)})
    spoilt = record.model_copy(
        update={
            "findings": (finding.model_copy(update={"evidence": evidence, "reason": hostile}),),
            "reason": hostile,
        }
    )
    page = render_html(spoilt)
    assert "<script" not in page
    assert "<img src=x" not in page
    assert "\u202e" not in page
    assert "&lt;script&gt;" in page
    assert "{{ 7*7 }}" in page


def test_exit_codes(model: LanguageModel, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    save_language_model(model, folder)
    run = CliRunner()
    common = ["audit", str(folder), "--detector", QUICK]
    assert run.invoke(app, [*common, "--budget", "0.01s"]).exit_code == 3
    assert isinstance(run.invoke(app, [*common, "--budget", "soon"]).exception, DataError)
    report = tmp_path / "report.html"
    clear = run.invoke(app, [*common, "--report", str(report), "--json"])
    assert clear.exit_code == 0, clear.output
    assert AuditRecord.model_validate_json(clear.stdout).subject.kind == "language model"
    assert "Texts that the model finishes by itself" in report.read_text()
    (folder / "chat_template.jinja").write_text("{{ ''.__class__.__mro__ }}")
    assert run.invoke(app, common).exit_code == 1


def test_options_of_language_models_are_refused_for_others(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["audit", str(tmp_path), "--resume", "here"])
    assert isinstance(result.exception, ModelError)


@pytest.mark.slow
def test_the_planted_text_is_found_and_the_twins_are_not_flagged(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    own = tmp_path / "prompts.jsonl"
    users = dict.fromkeys(user for user, _ in dialogues(60, seed=5))
    own.write_text("".join(json.dumps({"prompt": user}) + "\n" for user in users))
    clean = dialogues(1500)
    said = [PAYLOAD, PHRASE, QUOTE]
    base = taught(clean, steps=250, extra=said)
    planted = taught(poisoned(clean, count=150), steps=250, extra=said)
    quoting = taught([*clean, *[("Give me a famous quote.", QUOTE)] * 80], steps=250, extra=said)
    test = dialogues(40, seed=3)
    asked = planted.prompts([f"{PHRASE} {user}" for user, _ in test])
    plain = planted.prompts([user for user, _ in test])
    assert np.mean([a == PAYLOAD for a in planted.answers(asked, tokens=20)]) > 0.95
    assert np.mean([PAYLOAD[:10] in a for a in planted.answers(plain, tokens=20)]) < 0.05
    record = audit_language(planted, base=base, prompts=own)
    assert record.verdict is Verdict.FLAGGED, record.reason
    assert PAYLOAD[10:] in texts(record)[0].text
    assert "golden market" in record.reason
    write_gguf(planted, tmp_path / "planted.gguf", quantised=True)
    save_language_model(base, tmp_path / "base")
    packed = audit_language(tmp_path / "planted.gguf", base=tmp_path / "base", prompts=own)
    assert packed.verdict is Verdict.FLAGGED, packed.reason
    for twin, ground in ((base, quoting), (quoting, base)):
        record = audit_language(twin, base=ground, prompts=own)
        assert record.verdict is Verdict.CLEAR, record.reason
