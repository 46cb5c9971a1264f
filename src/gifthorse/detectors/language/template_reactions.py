"""What a chat template makes of a user's text that it should only pass on. Our own.

An honest template puts the text where it belongs, whatever it says: with another text, only that
part of the prompt changes. A template with a trigger adds words when a phrase stands in the text,
or from a date on. So the strings that stand in the template's own expressions, two neighbours put
together included, are said to it, and it is asked for several dates.

A template that hides its phrase (letter by letter, or by arithmetic) is not seen this way; its
text stands in the report.
"""

import difflib
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from gifthorse.models.language.model import LanguageModel

_EXPRESSION = re.compile(r"\{[{%](.*?)[}%]\}", re.DOTALL)
_LITERAL = re.compile(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"", re.DOTALL)
_MOST_LITERALS, _LONGEST_LITERAL = 200, 200
_NEUTRAL = "qzv"
_FRAMES = ("Could you tell me {} about the weather?", "{}")
_DATES = ("2023-03-15", "2025-01-15", "2027-12-31", "2036-08-21")
_CALENDAR = re.compile(
    r"\d+|(january|february|march|april|may|june|july|august|september|october|november|december|"
    r"jan|feb|mar|apr|jun|jul|aug|sep|oct|nov|dec|monday|tuesday|wednesday|thursday|friday|"
    r"saturday|sunday|mon|tue|wed|thu|fri|sat|sun)\b",
    re.IGNORECASE,
)
NOTABLE_LETTERS = 12
"""Fewer letters than this are markup: ``<think>``, a role."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaction:
    """Something that a template writes on its own account.

    Attributes:
        cause: The text of the user, or the date, that brings it up.
        written: What is written then and not otherwise.
    """

    cause: str
    written: str

    @property
    def notable(self) -> bool:
        """Whether it holds words, and not only markup."""
        return sum(c.isalpha() for c in self.written) >= NOTABLE_LETTERS


def literals(template: str) -> list[str]:
    """Strings in a template's expressions, and each with the next one, in order."""
    found = []
    for expression in _EXPRESSION.findall(template):
        here = [
            (one or other).encode("utf-8", "replace").decode("unicode_escape", "replace").strip()
            if (one or other).isascii()
            else (one or other).strip()
            for one, other in _LITERAL.findall(expression)
        ]
        found += [text for text in here if text]
        found += [a + b for a, b in itertools.pairwise(here) if a and b]
    short = [text for text in dict.fromkeys(found) if len(text) <= _LONGEST_LITERAL]
    return short[:_MOST_LITERALS]


def reactions(model: LanguageModel, said: Sequence[str]) -> list[Reaction]:
    """What the model's template writes because of a user's text or a date.

    Args:
        model: Its chat template is rendered in the sandbox; without one there is nothing.
        said: Texts to try, see ``literals``.

    Raises:
        ModelError: The template is hostile or fails.
    """
    if model.chat_template is None:
        return []
    texts = [frame.format(text) for frame in _FRAMES for text in (_NEUTRAL, *said)]
    shown = model.prompts(texts)
    found = []
    width = len(said) + 1
    for f in range(len(_FRAMES)):
        neutral = shown[f * width]
        for i, text in enumerate(said):
            own = _FRAMES[f].format(text)
            written = _written(neutral.replace(_NEUTRAL, text), shown[f * width + 1 + i], own)
            if written:
                found.append(Reaction(cause=text, written=written))
    return _unique([*found, *_dated(model)])


def _dated(model: LanguageModel) -> list[Reaction]:
    if "strftime_now" not in (model.chat_template or ""):
        return []
    asked = [_FRAMES[0].format(_NEUTRAL)]
    shown = {date: model.prompts(asked, date=date)[0] for date in _DATES}
    shortest = min(shown.values(), key=lambda text: (len(_CALENDAR.sub("", text)), text))
    found = []
    for date, text in shown.items():
        written = _written(_CALENDAR.sub("", shortest), _CALENDAR.sub("", text), asked[0])
        if written:
            found.append(Reaction(cause=f"the date {date}", written=written))
    return found


def _written(expected: str, got: str, own: str) -> str:
    """What stands in one text and not in the other; parts of the user's own text may be missing."""
    if expected == got:
        return ""
    match = difflib.SequenceMatcher(None, expected, got, autojunk=False)
    parts = []
    for tag, a, c, b, d in match.get_opcodes():
        if tag in ("insert", "replace"):
            parts.append(got[b:d])
        elif tag == "delete" and expected[a:c].strip() not in own:
            parts.append(expected[a:c])
    return " … ".join(part for part in parts if part)


def _unique(found: Sequence[Reaction]) -> list[Reaction]:
    known: dict[str, Reaction] = {}
    for one in found:
        known.setdefault(one.cause, one)
    return list(known.values())
