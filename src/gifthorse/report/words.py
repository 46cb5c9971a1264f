"""Numbers and verdicts in plain words: one place, so that every format says the same."""

import datetime as dt
import math
import unicodedata
from dataclasses import dataclass

from gifthorse.core.record import (
    AuditRecord,
    CostRecord,
    FindingRecord,
    PlantRecord,
    Rate,
    RepairRecord,
    StoryRecord,
)
from gifthorse.core.types import Verdict
from gifthorse.report import spelling, words_files

title = spelling.title

SPACE = "\u00a0"
ABSENT = "–"
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_WORST_FIRST = (
    Verdict.FLAGGED,
    Verdict.CLEAR,
    Verdict.FAILED,
    Verdict.INCONCLUSIVE,
    Verdict.NOT_APPLICABLE,
)
_JUDGED = (Verdict.FLAGGED, Verdict.CLEAR)

VERDICT_WORDS = {
    Verdict.FLAGGED: "Flagged",
    Verdict.CLEAR: "Clear",
    Verdict.INCONCLUSIVE: "Inconclusive",
    Verdict.NOT_APPLICABLE: "Not applicable",
    Verdict.FAILED: "Failed",
}
VERDICT_TONES = {
    Verdict.FLAGGED: "bad",
    Verdict.CLEAR: "good",
    Verdict.INCONCLUSIVE: "unsure",
    Verdict.NOT_APPLICABLE: "quiet",
    Verdict.FAILED: "unsure",
}
_NO_ANSWER = (
    "Nothing was decided. Treat the {subject} as unchecked, not as clean.",
    "Remove the obstacles listed under “What was not checked” (often: hand in more trusted "
    "samples) and run the examination again.",
)
_AUDIT_WORDS = {
    ("audit", Verdict.FLAGGED): (
        "At least one detector saw more than clean models show. A backdoor is the likely reason; "
        "a false alarm is possible at the rate stated below.",
        "Do not deploy this model. Look at the exhibits, then get the model from a source you "
        "trust or try gifthorse repair and audit the result.",
    ),
    ("scan", Verdict.FLAGGED): (
        "Some samples stand out in the way that poisoned samples do. A false alarm is possible at "
        "the rate stated below.",
        "Do not train on this data as it is. Look at the suspect samples, remove those that are "
        "wrong, and find out who supplied them.",
    ),
    ("audit", Verdict.CLEAR): (
        "No detector saw more than clean models show. That is no proof: a backdoor that none of "
        "these detectors can see gives the same result.",
        "Check below which detectors did not run before you rely on this, and keep the digest: "
        "the verdict holds for exactly these weights.",
    ),
    ("scan", Verdict.CLEAR): (
        "No detector saw more than clean data shows. That is no proof: poison that none of these "
        "detectors can see gives the same result.",
        "Check below which detectors did not run before you rely on this, and keep the digest: "
        "the verdict holds for exactly this data.",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a record comes to, in words that stand at the top of every format.

    Attributes:
        word: One or two words, for a banner.
        tone: ``bad``, ``good``, ``unsure`` or ``quiet``: picks colour and icon.
        kind: What was done, for a headline.
        reason: Why, in one sentence.
        meaning: What the word does and does not say.
        advice: What to do next.
    """

    word: str
    tone: str
    kind: str
    reason: str
    meaning: str
    advice: str


def outcome(record: AuditRecord | RepairRecord | PlantRecord) -> Outcome:
    """What a record comes to."""
    if isinstance(record, AuditRecord):
        return _audit_outcome(record)
    if isinstance(record, RepairRecord):
        return _repair_outcome(record)
    return Outcome(
        word="Planted",
        tone="quiet",
        kind="Planted backdoor",
        reason=f"{title(record.attack.name)} was planted: the trigger works on "
        f"{measured(record.attack_success_rate.value)} of test samples.",
        meaning="This model was given a backdoor on purpose, to measure defences.",
        advice="Never deploy it. Audit it to see whether the backdoor is found.",
    )


def _audit_outcome(record: AuditRecord) -> Outcome:
    subject = "model" if record.kind == "audit" else "data"
    meaning, advice = _AUDIT_WORDS.get((record.kind, record.verdict), _NO_ANSWER)
    if words_files.decide(record):
        meaning, advice = words_files.MEANINGS[record.verdict]
    return Outcome(
        word=VERDICT_WORDS[record.verdict],
        tone=VERDICT_TONES[record.verdict],
        kind=_audit_kind(record),
        reason=record.reason,
        meaning=meaning.format(subject=subject),
        advice=advice,
    )


def _audit_kind(record: AuditRecord) -> str:
    if record.subject.kind == "files":
        return "File scan"
    return "Model audit" if record.kind == "audit" else "Data scan"


def loss_change(record: RepairRecord) -> str:
    """By which share the clean loss changed, with its sign."""
    found = next((one for one in record.measures if one.name == "clean loss"), None)
    if found is None or not found.other or not math.isfinite(found.value / found.other):
        return ABSENT
    change = found.value / found.other - 1
    return f"{'+' if change > 0 else ''}{percent(change)}"


def _repair_outcome(record: RepairRecord) -> Outcome:
    kept = "accuracy" if record.judged_by == "accuracy" else "of what the model knows"
    if record.accepted:
        meaning = (
            f"Enough {kept} was kept. That alone does not show that the backdoor is gone: a "
            "repair never sees the attack."
        )
        advice = "Audit the repaired model before you use it."
    else:
        meaning = f"The repair costs more {kept} than you allow, so its result is not offered."
        advice = "Try another repair, give it more trusted samples, or replace the model."
    return Outcome(
        word="Accepted" if record.accepted else "Refused",
        tone="good" if record.accepted else "unsure",
        kind="Repair",
        reason=record.reason,
        meaning=meaning,
        advice=advice,
    )


def amount(value: float | None, rate: Rate | None) -> str:
    """A number of a model: a share with its interval, or nats."""
    if value is None:
        return "–"
    return f"{value:.3f} nats" if rate is None else f"{measured(rate.value)} ({interval(rate)})"


def subject_title(record: AuditRecord | RepairRecord | PlantRecord | StoryRecord) -> str:
    """The headline of a record."""
    return record.title if isinstance(record, StoryRecord) else record.subject.name


def judged(findings: tuple[FindingRecord, ...]) -> tuple[FindingRecord, ...]:
    """Findings that came to a result, worst first."""
    found = [finding for finding in findings if finding.verdict in _JUDGED]
    return tuple(sorted(found, key=_severity))


def unjudged(findings: tuple[FindingRecord, ...]) -> tuple[FindingRecord, ...]:
    """Findings that came to no result: never to be mistaken for clear."""
    found = [finding for finding in findings if finding.verdict not in _JUDGED]
    return tuple(sorted(found, key=_severity))


def _severity(finding: FindingRecord) -> tuple[int, float]:
    p_value = finding.evidence.p_value if finding.evidence is not None else 1.0
    return _WORST_FIRST.index(finding.verdict), p_value if math.isfinite(p_value) else 1.0


def coverage(record: AuditRecord) -> str:
    """How many of the planned detectors came to a result."""
    done, planned = len(judged(record.findings)), len(record.findings)
    if not planned:
        return "No detector was run." if record.files is None else "Only the files were examined."
    sentence = f"{done} of {planned} detectors came to a result."
    if done < planned:
        sentence += " The others say nothing about this subject, neither good nor bad."
    return sentence


def suspects(finding: FindingRecord) -> tuple[str, ...]:
    """Names of the units that a flagged finding points to, worst first."""
    evidence = finding.evidence
    if evidence is None or finding.verdict is not Verdict.FLAGGED:
        return ()
    names = evidence.unit_names
    return tuple(
        names[index] if 0 <= index < len(names) else str(index) for index in evidence.suspects
    )


def harmless(text: str) -> str:
    """Text without characters that act instead of showing.

    Names come from files that nobody vouches for: control characters, lone surrogates and
    overrides of the writing direction would let a name rewrite the sentence around it.
    """
    return "".join(
        character
        if character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cf", "Cs")
        else "\N{REPLACEMENT CHARACTER}"
        for character in text
    )


def shorten(text: str, width: int) -> str:
    """Text of at most this many columns; wide characters (CJK) take two."""
    columns = 0
    for position, character in enumerate(text):
        columns += 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if columns > width:
            return text[: max(position - 1, 1)].rstrip() + "…"
    return text


def number(value: float | None, digits: int = 4) -> str:
    """A number in ``digits`` significant digits, with thousands marked."""
    if value is None or not math.isfinite(value):
        return ABSENT
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e9 or size < 1e-4:
        return _power(value, digits)
    decimals = max(0, digits - 1 - math.floor(math.log10(size)))
    text = f"{value:,.{decimals}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return text.replace("-", "−").replace(",", "\u202f")


def _power(value: float, digits: int) -> str:
    mantissa, exponent = f"{value:.{max(digits - 2, 0)}e}".split("e")
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    power = f"10{str(int(exponent)).translate(_SUPERSCRIPT)}"
    return f"{mantissa}{SPACE}×{SPACE}{power}".replace("-", "−")


def count(value: int) -> str:
    """A whole number, with thousands marked."""
    return f"{value:,}".replace(",", "\u202f").replace("-", "−")


def plural(value: int, word: str, many: str | None = None) -> str:
    """``1 class``, ``2 classes``."""
    return f"{count(value)}{SPACE}{word if value == 1 else many or word + 's'}"


def percent(value: float | None) -> str:
    """A proportion as a percentage."""
    if value is None or not math.isfinite(value):
        return ABSENT
    points = value * 100
    # 99.97 % must not be rounded to a perfect score.
    digits = number(points, 4 if 99.9 < abs(points) < 100 else 3 if abs(points) >= 1 else 2)
    return f"{digits}{SPACE}%".replace("-", "−")


def measured(value: float) -> str:
    """A measured rate: one decimal throughout, so that rates line up, and more near the ends.

    0.11 % must not look like nothing, nor 99.97 % like a perfect score.
    """
    points = value * 100
    if not math.isfinite(value):
        return ABSENT
    if points in (0, 100):
        return percent(value)
    digits = 1 if 0.95 <= points <= 99.9 else 2
    return f"{points:.{digits}f}{SPACE}%".replace("-", "−")


def interval(rate: Rate) -> str:
    """A rate's 95 % interval."""
    return f"{measured(rate.low)} to {measured(rate.high)}"


def moment(created: str) -> str:
    """A time stamp for people; as it is if it is not one."""
    try:
        time = dt.datetime.fromisoformat(created)
    except ValueError:
        return created
    if time.tzinfo is None:
        return f"{time:%Y-%m-%d %H:%M}"
    # Years at either end of the calendar have no neighbour to be shifted into.
    try:
        return f"{time.astimezone(dt.UTC):%Y-%m-%d %H:%M} UTC"
    except OverflowError:
        return created


def p_value(value: float | None) -> str:
    """A p-value in two significant digits."""
    if value is None or not math.isfinite(value):
        return ABSENT
    return number(value, 2) if value >= 1e-3 else _power(value, 3) if value > 0 else "0"


def odds(p: float, noun: str) -> str:
    """How rare a p-value is, as a count of clean subjects."""
    if not math.isfinite(p) or p <= 0:
        return f"practically no clean {noun}"
    if p >= 0.2:
        return f"about {percent(round(min(p, 1.0), 2))} of clean {noun}s"
    one_in = 1 / p
    scale = 10 ** max(0, math.floor(math.log10(one_in)) - 1)
    rounded = round(one_in / scale) * scale
    shown = count(rounded) if rounded < 1e9 else number(float(rounded), 3)
    return f"about 1 in {shown} clean {noun}s"


def family_p_value(score: float | None) -> float | None:
    """The family-wise p-value behind an audit's score."""
    if score is None or not math.isfinite(score):
        return None
    return 10.0**-score if score > 0 else 1.0


def score_limit(false_alarm_rate: float) -> float | None:
    """The score that a clean subject exceeds at this rate."""
    return -math.log10(false_alarm_rate) if 0 < false_alarm_rate <= 1 else None


def seconds(value: float) -> str:
    """A duration."""
    if not math.isfinite(value):
        return ABSENT
    if value < 60:
        return f"{number(value, 2 if value < 10 else 3)}{SPACE}s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes}{SPACE}min {rest:02d}{SPACE}s"
    return f"{minutes // 60}{SPACE}h {minutes % 60:02d}{SPACE}min"


def memory(mib: float) -> str:
    """Memory in the unit that people know."""
    if not math.isfinite(mib) or mib <= 0:
        return ABSENT
    return f"{number(mib, 3)}{SPACE}MiB" if mib < 1024 else f"{number(mib / 1024, 3)}{SPACE}GiB"


def cost_line(cost: CostRecord) -> str:
    """A cost in one line."""
    return f"{seconds(cost.seconds)}, {plural(cost.forward_passes, 'image')} forward"


def sentence(text: str) -> str:
    """Text with a capital at its start."""
    return text[:1].upper() + text[1:]


def points(difference: float) -> str:
    """A difference of two rates in percentage points."""
    return f"{number(round(difference * 100, 2), 3)}{SPACE}pp"


def share(part: int, whole: int) -> str:
    """`` (10 %)``, or nothing if there is no whole."""
    return f" ({percent(part / whole)})" if whole > 0 else ""


def unit_word(finding: FindingRecord, many: bool = False) -> str:
    """What one score of a finding is about."""
    word = str(finding.evidence.unit) if finding.evidence is not None else "unit"
    return word if not many else "classes" if word == "class" else word + "s"


def cost_rows(findings: tuple[FindingRecord, ...]) -> list[tuple[str, CostRecord]]:
    """The cost of every detector, in the order in which they ran."""
    return [(title(finding.detector.name), finding.cost) for finding in findings]
