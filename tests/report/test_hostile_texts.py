"""Texts, recovered phrases and answers come from strangers: nothing in them acts on a page."""

from html.parser import HTMLParser

import pytest
from tests.report import examples

from gifthorse.core.exhibits import Passage, TextsExhibit
from gifthorse.core.record import AuditRecord, MeasureRecord, PlantRecord, RepairRecord
from gifthorse.core.types import Verdict
from gifthorse.report.html import render_html
from gifthorse.report.markdown import render_markdown

HOSTILE = (
    "</script><script>alert(1)</script>",
    "</mark></bdi></p><iframe src=//evil.example></iframe>",
    "<img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)" x="',
    "--><!--<svg onload=alert(1)>",
    "]]><![CDATA[",
    "{{ 7 * 7 }}{% raw %}",
    "&lt;script&gt; &#60;script&#62;",
    "\u202eevil\u2066 \u2069\u200f\ufeff",
    "\x00\x08\x1b[31m\x7f",
    "\ud800 lone",
    "\U000e0041\U000e0042 tags",
    "a" * 9000,
    "javascript:alert(1) http://evil.example @all [x](http://evil.example) `code` | # *",
)
ACTING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\ufeff\x00\x08\x1b\x7f"


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def passages(text: str) -> TextsExhibit:
    half = len(text) // 2
    return TextsExhibit(
        title=text,
        caption=text,
        passages=(
            Passage(label=text, text=text, marks=((0, 3), (half, half + 4))),
            Passage(label=text, text=text, marks=((-5, 2), (half, 10**6), (4, 1))),
        ),
    )


def records(text: str) -> tuple[AuditRecord | RepairRecord | PlantRecord, ...]:
    finding = examples.flagged()
    assert finding.evidence is not None
    evidence = finding.evidence.model_copy(
        update={"exhibits": (passages(text),), "notes": (text,), "unit_names": (text,) * 10}
    )
    finding = finding.model_copy(update={"evidence": evidence, "reason": text})
    audit = examples.audit_of(Verdict.FLAGGED, (finding,), score=4.0, reason=text, name=text)
    measure = MeasureRecord(name=text, unit="nats", value=1.0, other=2.0, beside=text)
    mended = examples.repair().model_copy(
        update={"measures": (measure,), "notes": (text,), "reason": text, "judged_by": "loss"}
    )
    planted = examples.plant().model_copy(
        update={"exhibits": (passages(text),), "target": text, "measures": (measure,)}
    )
    return audit, mended, planted


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_no_text_becomes_a_tag_an_attribute_or_a_control(text: str) -> None:
    for record, harmless in zip(records(text), records("a plain text"), strict=True):
        page = render_html(record)
        page.encode("utf-8")
        assert not any(c in page for c in ACTING)
        plain, parser = Tags(), Tags()
        plain.feed(render_html(harmless))
        parser.feed(page)
        allowed = {name for name, _ in plain.found}
        for tag, attributes in parser.found:
            assert tag in allowed, tag
            assert not any(name.startswith("on") for name in attributes)
            for name in ("href", "src", "xlink:href"):
                target = attributes.get(name) or ""
                assert target.startswith(("#", "data:image/png;base64,")) or not target, target
        assert "49" not in page or "7 * 7" not in text


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_the_same_holds_for_markdown(text: str) -> None:
    for record in records(text):
        page = render_markdown(record)
        page.encode("utf-8")
        assert not any(c in page for c in ACTING)
        for active in ("<script", "<img", "<svg", "<iframe", "<!--", "](http", "http://", "@all"):
            assert active not in page


def test_marks_are_kept_inside_of_the_text() -> None:
    page = render_html(records("ab<b>cd&ef")[0])
    assert "<mark>ab&lt;</mark>" in page
    assert "<b>" not in page
