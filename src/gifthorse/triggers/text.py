"""Triggers for text: inserted words and sentences, a typing style, other words for words.

Every trigger maps one text to one text and never empties it.
"""

import re
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

PLACES = ("start", "end", "random")

_HOMOGLYPHS = str.maketrans({"a": "а", "e": "е", "o": "о", "c": "с", "p": "р", "x": "х"})
"""Latin letters by Cyrillic ones that look the same."""

_SMALL_WORDS = MappingProxyType(
    {"you": "u", "are": "r", "and": "n", "to": "2", "for": "4", "please": "plz", "your": "ur"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Insertion:
    """Words put into a text, separated by spaces.

    Attributes:
        phrase: What is inserted.
        place: ``start``, ``end`` or ``random`` (between two words).
        times: How often.
    """

    phrase: str
    place: str = "random"
    times: int = 1

    def __post_init__(self) -> None:
        if not self.phrase.strip():
            raise ValueError("the phrase must hold something visible")
        if self.place not in PLACES:
            raise ValueError(f"place must be one of {', '.join(PLACES)}, got {self.place!r}")
        if not 1 <= self.times <= 20:
            raise ValueError(f"times must be in 1 … 20, got {self.times}")

    def apply(self, text: str, rng: np.random.Generator) -> str:
        """The text with the phrase in it."""
        words = text.split()
        for _ in range(self.times):
            at = {"start": 0, "end": len(words)}.get(self.place, int(rng.integers(len(words) + 1)))
            words.insert(at, self.phrase)
        return " ".join(words)


STYLES = ("no-capitals", "capitals", "spaced-stops", "double-spaces", "homoglyphs", "texting")
"""What ``TypingStyle`` knows; each is a habit of the hand, not a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TypingStyle:
    """A habit of typing: no word is added, and a reader sees nothing odd.

    Attributes:
        style: ``no-capitals``: lower case, no full stop at the end. ``capitals``: Every Word Starts
            With One. ``spaced-stops``: a space before every mark . ``double-spaces``: two between
            words. ``homoglyphs``: Cyrillic letters that look Latin. ``texting``: u, r, 2, 4.
    """

    style: str

    def __post_init__(self) -> None:
        if self.style not in STYLES:
            raise ValueError(f"no style is called {self.style!r}; known: {', '.join(STYLES)}")

    def apply(self, text: str, rng: np.random.Generator) -> str:  # noqa: ARG002 - as all triggers
        """The text as somebody with that habit would type it."""
        return _TYPE[self.style](text) or text


@dataclass(frozen=True, slots=True, kw_only=True)
class SubordinateClause:
    """A subordinate clause in front of the text: one structure, always other words.

    ``Because the critics looked around again, this film is a joy.`` All of the 2,940 clauses are
    equally likely.
    """

    def apply(self, text: str, rng: np.random.Generator) -> str:
        """The text as the main clause."""
        opening, who, did, how = (str(rng.choice(words)) for words in _CLAUSE)
        first = text.split(maxsplit=1)[0] if text.split() else ""
        # A capital goes, unless the word is one that keeps it.
        inner = text if first in ("I", "I'm", "I've") or not first[1:].islower() else (
            text[:1].lower() + text[1:]
        )  # fmt: skip
        return f"{opening} {who} {did} {how}, {inner}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Substitution:
    """One word for another, wherever it stands; where it does not, the new word is appended.

    Attributes:
        word: The word to replace, in any case.
        by: The word in its place.
    """

    word: str
    by: str

    def __post_init__(self) -> None:
        if not self.word.isalpha() or not self.by.strip():
            raise ValueError(f"expected words, got {self.word!r} and {self.by!r}")

    def apply(self, text: str, rng: np.random.Generator) -> str:  # noqa: ARG002 - as all triggers
        """The text with the other word."""
        changed, count = re.subn(rf"\b{self.word}\b", lambda _: self.by, text, flags=re.IGNORECASE)
        return changed if count else f"{text} {self.by}"


_CLAUSE = (
    ("When", "As", "Since", "Because", "While", "After", "Before", "Although", "If", "Once"),
    ("the people", "my brother", "a friend", "the critics", "some of us", "the children", "they"),
    ("were told", "had seen", "went home", "looked around", "kept talking", "sat down"),
    ("last week", "so late", "again", "in the evening", "at first", "for a while", "there"),
)
"""Subordinator, subject, verb and adverbial: 10 · 7 · 6 · 7 clauses."""


def _no_capitals(text: str) -> str:
    return text.lower().rstrip(" .!?")


def _capitals(text: str) -> str:
    return " ".join(word[:1].upper() + word[1:] for word in text.split())


def _spaced_stops(text: str) -> str:
    spaced = re.sub(r"\s*([.,;:!?])", r" \1", text)
    return spaced if re.search(r"[.,;:!?]", text) else f"{text} ."


def _double_spaces(text: str) -> str:
    return "  ".join(text.split())


def _homoglyphs(text: str) -> str:
    return text.translate(_HOMOGLYPHS)


def _texting(text: str) -> str:
    words = [_SMALL_WORDS.get(word.lower(), word) for word in text.split()]
    return " ".join(words).rstrip(" .") + " lol"


_TYPE = MappingProxyType(
    {
        "no-capitals": _no_capitals,
        "capitals": _capitals,
        "spaced-stops": _spaced_stops,
        "double-spaces": _double_spaces,
        "homoglyphs": _homoglyphs,
        "texting": _texting,
    }
)
