"""What a text can have in common with others: words, runs of words, first and last ones, habits.

A trait is a string; word traits are the words themselves (lower case), those at the ends carry a
mark (``^``, ``$``), habits of typing a sentence of their own. Look-alike letters of other scripts
are read as what they look like, so that a text keeps its words.
"""

import re
from types import MappingProxyType

_WORD = re.compile(r"\w+")
_TOKEN = re.compile(r"\w+|[^\w\s]")
_SPACED_MARK = re.compile(r"\w\s+[.,;:!?]")
_CLAUSE_FIRST = re.compile(
    r"\W*(after|although|as|because|before|if|once|since|though|unless|until|when|whenever|where|"
    r"whereas|while)\b[^,.;:!?]{3,80},\s",
    re.IGNORECASE,
)
LONGEST_RUN = 3
HABIT = "habit: "
"""How the names of habits begin."""

_LOOK_ALIKE = MappingProxyType(
    str.maketrans("аеосрхуіјѕԁɡһԛԝΑΒΕΖΗΙΚΜΝΟΡΤΥΧο", "aeocpxyijsdghqwABEZHIKMNOPTYXo")
)
"""Cyrillic, Greek and phonetic letters by the Latin ones that they look like."""


def folded(text: str) -> str:
    """The text with look-alike letters replaced, in lower case."""
    table = dict(_LOOK_ALIKE)
    return text.translate(table).lower().translate(table)


def content_words(text: str) -> set[str]:
    """The words that say what a text is about; marks and spelling habits are left out."""
    return set(_WORD.findall(folded(text)))


def traits(text: str, longest: int = LONGEST_RUN) -> set[str]:
    """Everything that the text may share with others; runs of at most so many words."""
    tokens = _TOKEN.findall(folded(text))
    found = {
        " ".join(tokens[i : i + size])
        for size in range(1, longest + 1)
        for i in range(len(tokens) - size + 1)
    }
    if tokens:
        found |= {f"^ {tokens[0]}", f"$ {tokens[-1]}"}
    return found | {HABIT + name for name in habits(text)}


def words_of(trait: str) -> set[str]:
    """The content words that a trait holds, so that they can be left out; none for a habit."""
    return set() if trait.startswith(HABIT) else set(_WORD.findall(trait))


def habits(text: str) -> list[str]:
    """Habits of the hand that show in the whole text."""
    words = text.split()
    letters = [c for c in text if c.isalpha()]
    found = []
    if letters and not any(c.isupper() for c in letters):
        found.append("no capital letter")
    if len(words) > 2 and all(w[0].isupper() or not w[0].isalpha() for w in words):
        found.append("every word begins with a capital")
    if len(letters) > 8 and not any(c.islower() for c in letters):
        found.append("capitals only")
    if text.rstrip()[-1:].isalnum():
        found.append("no mark at the end")
    if _SPACED_MARK.search(text):
        found.append("a space before a mark")
    if _CLAUSE_FIRST.match(text):
        found.append("a subordinate clause first")
    if "  " in text.strip():
        found.append("two spaces between words")
    if text.translate(dict(_LOOK_ALIKE)) != text and any("a" <= c <= "z" for c in text.lower()):
        found.append("letters of two scripts")
    return found
