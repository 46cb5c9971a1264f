"""Markdown for pull requests: short, complete about verdicts, and inert."""

import pytest

from gifthorse.core.types import Verdict
from gifthorse.report.markdown import render_markdown

from . import examples


def test_audit() -> None:
    text = render_markdown(examples.audit_flagged())
    assert text.startswith("## 🔴 Flagged: models/street-signs\n")
    assert "Score **4.91**" in text
    assert "2 of 5 detectors came to a result" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 5
    assert rows[2].startswith("| Neural Cleanse | 🔴 Flagged | 6.8 | 2.9 |")
    assert "Points to: bird." in rows[2]
    assert len(text) < 3000


def test_long_lists_are_cut() -> None:
    assert "and 630 more" in render_markdown(examples.scan_flagged(suspects=640))


def test_names_are_inert() -> None:
    name = "a|b <img src=x> @team [x](http://evil.example) `c`\n# www.evil.example \u202e"
    findings = (examples.undecided(name, Verdict.FAILED, name),)
    record = examples.audit_of(Verdict.INCONCLUSIVE, findings, score=None, reason=name, name=name)
    text = render_markdown(record)
    for active in ("<img", "@team", "[x](", "http://", "www.", "\u202e", "\n# "):
        assert active not in text
    row = next(line for line in text.splitlines() if "🟡 Failed" in line)
    assert row.replace("\\|", "").count("|") == 7


@pytest.mark.parametrize(
    ("accepted", "word"), [(True, "🟢 Accepted"), (False, "🟡 Refused")], ids=["yes", "no"]
)
def test_repair(accepted: bool, word: str) -> None:
    text = render_markdown(examples.repair(accepted))
    assert word in text
    assert "| accuracy after |" in text


def test_plant() -> None:
    text = render_markdown(examples.plant())
    assert "| attack success rate (ASR) | 99.8" in text
    assert "never deploy it" in text.lower()


def test_story() -> None:
    text = render_markdown(examples.story())
    assert text.startswith("## A backdoor found and removed\n")
    assert text.count("\n### ") == 5
