"""The page holds what the record says, needs nothing else, and cannot be hijacked by a name."""

import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from gifthorse.core.exhibits import BarsExhibit, Picture, PicturesExhibit
from gifthorse.core.record import (
    AuditRecord,
    PlanRecord,
    PlantRecord,
    RepairRecord,
    StoryRecord,
)
from gifthorse.core.types import Verdict
from gifthorse.report.html import render_html

from . import examples

VOID = {"meta", "br", "img", "link", "input", "hr"}
RECORDS = {
    "flagged": examples.audit_flagged(),
    "clear": examples.audit_clear(),
    "inconclusive": examples.audit_inconclusive(),
    "scan": examples.scan_flagged(),
    "accepted": examples.repair(),
    "refused": examples.repair(accepted=False),
    "plant": examples.plant(),
    "story": examples.story(),
    "empty": examples.audit_of(Verdict.INCONCLUSIVE, (), score=None, reason="Nothing planned."),
}
every_record = pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS.keys())


class Page(HTMLParser):
    """Collects what the tests ask for and insists on balanced tags."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[int] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs), f"an attribute twice in {tag}"
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "title"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@every_record
def test_page_is_well_formed(
    record: AuditRecord | RepairRecord | PlantRecord | StoryRecord,
) -> None:
    page = Page(render_html(record))
    idents = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(idents) == len(set(idents))
    targets = [str(attrs["href"])[1:] for tag, attrs in page.tags if tag == "a"]
    labels = [attrs["aria-labelledby"] for _, attrs in page.tags if "aria-labelledby" in attrs]
    assert set(targets) | set(labels) <= set(idents)
    assert page.headings.count(1) == 1
    assert all(lower <= upper + 1 for upper, lower in pairwise(page.headings))


@every_record
def test_page_needs_nothing_else(
    record: AuditRecord | RepairRecord | PlantRecord | StoryRecord,
) -> None:
    html = render_html(record)
    page = Page(html)
    assert not re.search(r"url\(|@import", html)
    for tag, attrs in page.tags:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base", "form")
        assert not [name for name in attrs if name.startswith("on")]
        for name in ("src", "href", "xlink:href", "srcset", "poster"):
            assert str(attrs.get(name) or "#").startswith(("#", "data:image/png;base64,"))
    policy = next(attrs for _, attrs in page.tags if "http-equiv" in attrs)
    assert policy["content"] == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert dict(page.tags)["html"] == {"lang": "en"}


@every_record
def test_pictures_and_charts_have_a_text(
    record: AuditRecord | RepairRecord | PlantRecord | StoryRecord,
) -> None:
    page = Page(render_html(record))
    for tag, attrs in page.tags:
        if tag == "img":
            assert attrs["alt"]
        if tag == "svg" and attrs.get("role") == "img":
            assert attrs["aria-label"]


def test_same_record_same_page() -> None:
    assert render_html(examples.audit_flagged()) == render_html(examples.audit_flagged())


def test_verdict_comes_first() -> None:
    text = Page(render_html(examples.audit_flagged())).text
    order = [
        "Flagged",
        "What it means",
        "Score",
        "At a glance",
        "What each detector saw",
        "Background",
    ]
    places = [text.index(words) for words in order]
    assert places == sorted(places)
    assert "4.91" in text
    assert "3.1 × 10⁻⁶" in text
    assert "Gumbel fit to the scores of 120 clean models" in text


def test_findings_come_worst_first() -> None:
    text = Page(render_html(examples.audit_flagged())).text
    found, unchecked = text.split("What each detector saw")[1].split(
        "These detectors came to no result"
    )
    assert found.index("Neural Cleanse") < found.index("Universality")
    for name in ("STRIP", "Fine pruning probe", "Activation clustering"):
        assert name not in found
        assert name in unchecked


def test_missing_detectors_never_look_clear() -> None:
    findings = (
        examples.clear_finding(),
        examples.undecided("strip", Verdict.FAILED, "It broke."),
    )
    record = examples.audit_of(Verdict.CLEAR, findings, score=0.2, reason="All quiet.")
    text = Page(render_html(record)).text
    assert "1 of 2 detectors came to a result." in text
    assert "It broke." in text.split("What was not checked")[-1]


def test_no_score_is_said() -> None:
    text = Page(render_html(examples.audit_inconclusive())).text
    assert "Treat the model as unchecked, not as clean" in text
    assert "there is no score" in text


def test_suspects_of_a_clear_finding_are_not_shown() -> None:
    assert "pointed to, worst first" not in Page(render_html(examples.audit_clear())).text


def test_names_are_escaped() -> None:
    hostile = examples.HOSTILE
    finding = examples.flagged()
    assert finding.evidence is not None
    pictures = examples.pictures().pictures
    exhibits = (
        PicturesExhibit(
            title=hostile,
            caption=hostile,
            pictures=(
                pictures[0].model_copy(update={"label": hostile}),
                Picture(label=hostile, png='"><script>alert(1)</script>', width=4, height=4),
            ),
        ),
        examples.bars().model_copy(update={"labels": (hostile,) * 10, "value_name": hostile}),
        examples.scatter().model_copy(update={"group_names": (hostile, hostile)}),
        examples.histogram().model_copy(update={"counts": {hostile: (1,) * 32}}),
    )
    evidence = finding.evidence.model_copy(
        update={"unit_names": (hostile,) * 10, "exhibits": exhibits, "notes": (hostile,)}
    )
    finding = finding.model_copy(
        update={"evidence": evidence, "reason": hostile, "paper": "javascript:alert(1)"}
    )
    record = examples.audit_of(Verdict.FLAGGED, (finding,), score=4.0, reason=hostile, name=hostile)
    facts = record.subject.model_copy(
        update={"facts": {hostile: hostile}, "digest": hostile, "class_names": (hostile,) * 40}
    )
    html = render_html(record.model_copy(update={"subject": facts, "created": hostile}))
    assert "<script" not in html
    assert "\u202e" not in html
    assert "This picture cannot be shown" in html
    page = Page(html)
    assert "<script>alert(1)</script>" in page.text
    assert not [attrs for _, attrs in page.tags if any(name.startswith("on") for name in attrs)]


def test_many_suspects_are_abbreviated() -> None:
    html = render_html(examples.scan_flagged(suspects=640))
    assert "and 616 more" in html
    assert "Show the other 616" in html
    assert "640\u00a0samples" in html
    huge = render_html(examples.scan_flagged(suspects=20_000))
    assert "the record holds all 20\u202f000" in huge


def test_a_thousand_classes_show_the_most_telling() -> None:
    values = tuple(float(index % 97) for index in range(1000))
    chart = BarsExhibit(
        title="Many", caption="", labels=tuple(f"class {index}" for index in range(1000)),
        values=values, value_name="score", threshold=90.0, highlight=(96,),
    )  # fmt: skip
    finding = examples.flagged()
    assert finding.evidence is not None
    evidence = finding.evidence.model_copy(update={"exhibits": (chart,)})
    record = examples.audit_of(
        Verdict.FLAGGED,
        (finding.model_copy(update={"evidence": evidence}),),
        score=4.0,
        reason="Found.",
    )
    text = Page(render_html(record)).text
    assert "The 40 most telling of 1 000 are drawn." in text


def test_repair_states_both_accuracies() -> None:
    accepted = Page(render_html(examples.repair())).text
    refused = Page(render_html(examples.repair(accepted=False))).text
    assert "Accepted" in accepted
    assert "Refused" in refused
    assert "96.9 %" in accepted
    assert "No repaired model was kept." in refused


def test_plant_states_the_rates() -> None:
    text = Page(render_html(examples.plant())).text
    for name in (
        "Clean accuracy (CA)",
        "Attack success rate (ASR)",
        "Robust accuracy (RA)",
        "twin",
    ):
        assert name in text
    assert "1 797 of 1 800" in text


def test_story_has_a_timeline_and_every_chapter() -> None:
    page = Page(render_html(examples.story()))
    assert [attrs["href"] for tag, attrs in page.tags if tag == "a"][:5] == [
        f"#c{position}" for position in range(1, 6)
    ]
    for word in ("Planted", "Flagged", "Refused", "Accepted", "Clear"):
        assert word in page.text


def test_options_and_seed_are_in_the_page() -> None:
    text = Page(render_html(examples.audit_flagged())).text
    assert "steps 500" in text
    assert "Seed 7" in text


def test_plan_may_promise_nothing() -> None:
    record = examples.audit_clear()
    plan = PlanRecord(detectors=(), false_alarm_rate=0.0, seed=0)
    assert "Clear" in render_html(record.model_copy(update={"plan": plan}))


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    light = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * light[0] + 0.7152 * light[1] + 0.0722 * light[2]


def _contrast(first: str, second: str) -> float:
    low, high = sorted((_luminance(first), _luminance(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_colours_contrast_enough(theme: int) -> None:
    html = render_html(examples.audit_clear())
    blocks = re.findall(r":root \{(.*?)\}", html, re.DOTALL)
    colour = dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6});", blocks[theme]))
    for ground in ("page", "card", "sunk"):
        for ink in ("text", "soft", "link"):
            assert _contrast(colour[ink], colour[ground]) >= 4.5, (ink, ground)
        for mark in ("bar", "series1", "series2"):
            assert _contrast(colour[mark], colour["card"]) >= 3, mark
    for tone in ("bad", "good", "unsure", "quiet"):
        assert _contrast(colour[tone], colour[f"{tone}-sunk"]) >= 4.5, tone
        assert _contrast(colour["text"], colour[f"{tone}-sunk"]) >= 4.5, tone
