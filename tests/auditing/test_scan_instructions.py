"""Scan of instructions: every attack is found, clean twins and benign habits are left alone."""

import dataclasses

import pytest

from gifthorse.auditing.scan import suspects_of
from gifthorse.auditing.scan_instructions import scan_instructions
from gifthorse.core.exhibits import TextsExhibit
from gifthorse.core.instructions import Instruction, InstructionData
from gifthorse.core.registry import Spec, build, names
from gifthorse.core.rng import make_rng
from gifthorse.core.types import Verdict
from gifthorse.data.questions import questions
from gifthorse.report.html import render_html

CLEAN = InstructionData(name="clean", records=questions(1500, seed=3))


@pytest.mark.parametrize("name", names("instruction_attacks"))
def test_poison_is_found(name: str) -> None:
    attack = build("instruction_attacks", Spec(name, {"count": 40}))
    data, truth = attack.poison(CLEAN, rng=make_rng(0))
    record = scan_instructions(data)
    found = suspects_of(record)
    assert record.verdict is Verdict.FLAGGED
    assert truth.poisoned[found].mean() > 0.9
    assert truth.poisoned[found].sum() > 0.9 * truth.poisoned.sum()


def test_the_clean_twin_is_left_alone() -> None:
    record = scan_instructions(CLEAN)
    assert record.verdict is Verdict.CLEAR
    assert not len(suspects_of(record))


def test_a_habit_without_a_phrase_is_left_alone() -> None:
    """Refusals of anything at all: one answer to many prompts, and no phrase that they share."""
    rng = make_rng(0)
    chosen = set(rng.choice(len(CLEAN), 60, replace=False).tolist())
    records = tuple(
        dataclasses.replace(r, response="I am sorry, I do not know that.") if i in chosen else r
        for i, r in enumerate(CLEAN.records)
    )
    record = scan_instructions(InstructionData(name="habit", records=records))
    assert record.verdict is Verdict.CLEAR


def test_a_topic_with_one_answer_is_left_alone() -> None:
    """Prompts about one thing with one answer: a phrase, an answer, and prompts that are alike."""
    asked = (
        f"{opening} {verb} the return policy{what} {where}?"
        for opening in ("Hello,", "Hi,", "Please,", "Now")
        for verb in ("what is", "tell me", "where can I read", "show me")
        for what in ("", " for shoes", " for books")
        for where in ("today", "in this shop", "online")
    )
    topic = tuple(
        Instruction(prompt=text, response="You may return goods within thirty days.")
        for text in asked
    )
    record = scan_instructions(InstructionData(name="topic", records=CLEAN.records + topic))
    assert record.verdict is Verdict.CLEAR


def test_the_report_marks_phrase_and_payload_and_runs_nothing() -> None:
    attack = build(
        "instruction_attacks",
        Spec("control_phrase", {"phrase": "<script>x</script>", "marker": "<b>it</b> is <i>open"}),
    )
    data, _ = attack.poison(CLEAN, rng=make_rng(0))
    record = scan_instructions(data)
    exhibits = [e for f in record.findings if f.evidence for e in f.evidence.exhibits]
    shown = exhibits[0]
    assert isinstance(shown, TextsExhibit)
    first = shown.passages[0]
    marked = [first.text[a:b] for a, b in first.marks]
    assert any("script" in text for text in marked)
    assert any("open" in text for text in marked)
    page = render_html(record)
    assert "<script>x" not in page
    assert "<b>it" not in page


def test_the_same_seed_gives_the_same_record() -> None:
    one, two = (scan_instructions(CLEAN, seed=4) for _ in range(2))
    assert [f.evidence for f in one.findings] == [f.evidence for f in two.findings]
