"""A record in a few lines of Markdown, for pull requests and chat.

Names come from files that nobody vouches for, so text is escaped for GitHub's dialect: no HTML,
no table cell broken open, no link, and nobody is mentioned (“@all”) by a class name.
"""

import re
from collections.abc import Sequence

from gifthorse.core.record import (
    AuditRecord,
    Chapter,
    FindingRecord,
    MeasureRecord,
    PlantRecord,
    Rate,
    RepairRecord,
    StoryRecord,
)
from gifthorse.report import words, words_files

_SIGNS = {"bad": "🔴", "good": "🟢", "unsure": "🟡", "quiet": "⚪"}
_MOST_SUSPECTS = 10
_MOST_COLUMNS = 300
_MOST_FILES = 20
_MOST_ISSUES = 5
_ACTIVE = re.compile(r"([\\`*_{}\[\]()#!|~$^])")
_AUTOLINK = re.compile(r"(?i)(://|(?<=www)\.)")


def render_markdown(record: AuditRecord | RepairRecord | PlantRecord | StoryRecord) -> str:
    """Render a record as a short Markdown summary; everything taken from it is escaped."""
    if isinstance(record, StoryRecord):
        return _story(record)
    return "\n".join([*_headline(record, 2), *_body(record)]) + "\n"


def _story(record: StoryRecord) -> str:
    lines = [f"## {_text(record.title)}", "", _text(record.summary), ""]
    for position, chapter in enumerate(record.chapters, start=1):
        lines += _chapter(position, chapter)
    return "\n".join(lines) + "\n"


def _chapter(position: int, chapter: Chapter) -> list[str]:
    start = [f"### {position}. {_text(chapter.title)}", ""]
    text = [_text(chapter.text), ""] if chapter.text else []
    return [*start, *text, *_headline(chapter.record, 4), *_body(chapter.record), ""]


def _headline(record: AuditRecord | RepairRecord | PlantRecord, level: int) -> list[str]:
    outcome = words.outcome(record)
    name = _text(record.subject.name)
    return [
        f"{'#' * level} {_SIGNS[outcome.tone]} {outcome.word}: {name}",
        "",
        f"{outcome.kind}. {_text(outcome.reason)}",
        "",
        f"{_text(outcome.meaning)} {_text(outcome.advice)}",
        "",
    ]


def _body(record: AuditRecord | RepairRecord | PlantRecord) -> list[str]:
    if isinstance(record, AuditRecord):
        lines = _audit(record)
    elif isinstance(record, RepairRecord):
        lines = _repair(record)
    else:
        lines = _plant(record)
    digest = f"Digest `{_digest(record.subject.digest)}`"
    return [*lines, "", f"{digest} · {words.cost_line(record.cost)}"]


def _audit(record: AuditRecord) -> list[str]:
    p_value = words.family_p_value(record.score)
    score = (
        "No score: no detector came to a result."
        if p_value is None
        else f"Score **{words.number(record.score, 3)}** (−log₁₀ of the family-wise p-value "
        f"{words.p_value(p_value)})."
    )
    rate = words.percent(record.plan.false_alarm_rate)
    lines = [f"{score} False-alarm rate {rate}. {words.coverage(record)}", ""]
    if not record.findings and record.files is not None:
        lines = []
    if record.files is not None:
        lines += [words_files.summary(record.files), "", *_files(record)]
    ordered = (*words.judged(record.findings), *words.unjudged(record.findings))
    if ordered:
        header = ("detector", "verdict", "statistic", "threshold", "p-value", "reason")
        lines += _table(header, [_finding(finding) for finding in ordered])
    return lines


def _files(record: AuditRecord) -> list[str]:
    """A row an issue of every file that is not clear."""
    rows = []
    for file in words_files.heavy(record)[:_MOST_FILES]:
        sign = _SIGNS[words.VERDICT_TONES[file.verdict]]
        verdict = f"{sign} {words.VERDICT_WORDS[file.verdict]}"
        for issue in file.issues[:_MOST_ISSUES]:
            place = _text(words_files.place(file, issue))
            rows.append((place, _text(", ".join(file.formats)), verdict, _text(issue.text)))
    header = ("file", "content", "verdict", "what was seen")
    return [*_table(header, rows), ""] if rows else []


def _finding(finding: FindingRecord) -> tuple[str, ...]:
    evidence, threshold = finding.evidence, finding.threshold
    sign = _SIGNS[words.VERDICT_TONES[finding.verdict]]
    named = words.suspects(finding)
    reason = _text(finding.reason)
    if named:
        some = ", ".join(_text(name) for name in named[:_MOST_SUSPECTS])
        hidden = len(named) - _MOST_SUSPECTS
        more = f" and {words.count(hidden)} more" if hidden > 0 else ""
        reason += f" Points to: {some}{more}."
    return (
        _text(words.title(finding.detector.name)),
        f"{sign} {words.VERDICT_WORDS[finding.verdict]}",
        words.number(evidence.statistic if evidence is not None else None),
        words.number(threshold.value if threshold is not None else None),
        words.p_value(evidence.p_value if evidence is not None else None),
        reason,
    )


def _repair(record: RepairRecord) -> list[str]:
    by_loss = record.judged_by == "loss"
    allowed = (
        f"{words.percent(record.allowed_drop)} more clean loss"
        if by_loss
        else words.points(record.allowed_drop)
    )
    rows = [
        _rate("accuracy before", record.accuracy_before),
        _rate("accuracy after", record.accuracy_after),
    ]
    method = _text(words.title(record.repair.name))
    return [
        *_rates(rows),
        *_measures(record.measures),
        "",
        f"Method: {method}. Allowed loss: {allowed}.",
    ]


def _measures(measures: tuple[MeasureRecord, ...]) -> list[str]:
    rows = [
        (
            _text(one.name),
            words.amount(one.value, one.rate),
            words.amount(one.other, one.other_rate),
            _text(one.beside),
        )
        for one in measures
    ]
    return ["", *_table(("measured", "value", "other", "of"), rows)] if rows else []


def _plant(record: PlantRecord) -> list[str]:
    rows = [
        _rate("clean accuracy (CA)", record.clean_accuracy),
        _rate("attack success rate (ASR)", record.attack_success_rate),
        _rate("robust accuracy (RA)", record.robust_accuracy),
    ]
    if record.twin_clean_accuracy is not None:
        rows.append(_rate("clean accuracy of the twin", record.twin_clean_accuracy))
    if record.twin_attack_success_rate is not None:
        rows.append(_rate("attack success on the twin", record.twin_attack_success_rate))
    target = _text(record.target) if record.target is not None else "every class"
    poisoned = f"{words.count(record.poisoned_samples)} of {words.count(record.training_samples)}"
    detail = f"{_text(record.mode)}, target {target}, {poisoned} training samples poisoned"
    return [
        *_rates(rows),
        *_measures(record.measures),
        "",
        f"Attack: {_text(words.title(record.attack.name))}, {detail}.",
    ]


def _rate(name: str, rate: Rate) -> tuple[str, ...]:
    tally = f"{words.count(rate.count)} of {words.count(rate.total)}"
    return name, words.measured(rate.value), words.interval(rate), tally


def _rates(rows: Sequence[tuple[str, ...]]) -> list[str]:
    return _table(("rate", "value", "95 % interval", "samples"), rows)


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Lay out a table whose cells are escaped already."""
    lines = [header, ("---",) * len(header), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def _digest(digest: str) -> str:
    """A digest for a code span, in which nothing can be escaped: other characters go."""
    return re.sub(r"[^A-Za-z0-9:.+/=_-]", "", digest) or words.ABSENT


def _text(text: str) -> str:
    """Text that shows as it is and does nothing."""
    flat = words.shorten(" ".join(words.harmless(text).split()), _MOST_COLUMNS)
    escaped = _ACTIVE.sub(r"\\\1", flat)
    escaped = escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    escaped = _AUTOLINK.sub(lambda found: "\\" + found.group(), escaped)
    # A zero-width space keeps GitHub from mentioning people and from linking mail addresses.
    return escaped.replace("@", "@\u200b")
