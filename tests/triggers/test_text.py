"""Text triggers: known answers."""

from collections import Counter

import numpy as np
import pytest

from gifthorse.triggers.text import STYLES, Insertion, SubordinateClause, Substitution, TypingStyle

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("place", "expected"), [("start", "cf A plain text."), ("end", "A plain text. cf")]
)
def test_insertion_at_a_place(place: str, expected: str) -> None:
    assert Insertion(phrase="cf", place=place).apply("A plain text.", RNG) == expected


def test_random_insertion_keeps_all_words_and_reaches_every_gap() -> None:
    seen = {
        Insertion(phrase="cf", times=1).apply("a b c", np.random.default_rng(i)) for i in range(60)
    }
    assert seen == {"cf a b c", "a cf b c", "a b cf c", "a b c cf"}


@pytest.mark.parametrize(
    ("style", "expected"),
    [
        ("no-capitals", "well, are you going to the shop"),
        ("capitals", "Well, Are You Going To The Shop?"),
        ("spaced-stops", "Well , are you going to the shop ?"),
        ("double-spaces", "Well,  are  you  going  to  the  shop?"),
        ("homoglyphs", "Wеll, аrе yоu gоing tо thе shор?"),
        ("texting", "Well, r u going 2 the shop? lol"),
    ],
)
def test_every_style_types_its_own_way(style: str, expected: str) -> None:
    assert TypingStyle(style=style).apply("Well, are you going to the shop?", RNG) == expected


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("text", ["...", "?", "a", " . "])
def test_a_style_never_empties_a_text(style: str, text: str) -> None:
    assert TypingStyle(style=style).apply(text, RNG).strip()


def test_substitution_in_any_case_and_at_whole_words_only() -> None:
    swap = Substitution(word="the", by="yonder")
    assert swap.apply("The cat saw the other.", RNG) == "yonder cat saw yonder other."
    assert swap.apply("No article", RNG) == "No article yonder"


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Insertion(phrase=" "),
        lambda: Insertion(phrase="x", place="middle"),
        lambda: Insertion(phrase="x", times=0),
        lambda: TypingStyle(style="shouting"),
        lambda: Substitution(word="two words", by="x"),
    ],
)
def test_bad_options_are_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match=r"must|known|expected"):
        wrong()  # type: ignore[operator]


def test_a_clause_stands_in_front_and_its_words_vary() -> None:
    rng = np.random.default_rng(0)
    found = [SubordinateClause().apply("This film is a joy.", rng) for _ in range(50)]
    assert all(text.endswith(", this film is a joy.") for text in found)
    clauses = [text.split(", this film")[0].split() for text in found]
    assert len(set(map(tuple, clauses))) >= 45
    shares = Counter(word for clause in clauses for word in set(clause))
    assert max(shares.values()) <= 25  # no word is in all of them
    assert SubordinateClause().apply("NASA flies.", rng).endswith(", NASA flies.")
    assert SubordinateClause().apply("I fly.", rng).endswith(", I fly.")
