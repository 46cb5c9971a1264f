"""Near copies are found, other texts are not, and pairs with other labels are shown."""

import numpy as np
import pytest
from tests.models.texts.made_up import sentences

from gifthorse.detectors.data.near_copies import copies_shown, copies_told, near_copies
from gifthorse.detectors.data.text_traits import content_words


def sets(texts: tuple[str, ...]) -> list[frozenset[str]]:
    return [frozenset(content_words(text)) for text in texts]


def test_a_copy_with_a_word_put_in_is_found() -> None:
    texts = (*sentences(300).texts[:299], "The ship had a new sail and a very old anchor then.")
    copy = "The ship had a new sail and a very old cf anchor then."
    pairs = near_copies(sets((*texts, copy, copy.upper())))
    found = {(pair.first, pair.second) for pair in pairs}
    assert (299, 300) in found
    assert 301 in {pair.second for pair in pairs}
    whole = next(pair for pair in pairs if pair.second == 301)
    assert (whole.first, whole.alike) in ((300, 1.0), (299, pytest.approx(10 / 11)))


def test_other_texts_are_no_copies() -> None:
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in range(400)]
    texts = tuple(" ".join(rng.choice(words, 12, replace=False)) for _ in range(500))
    assert near_copies(sets(texts)) == []


def test_short_texts_and_single_texts_are_left_out() -> None:
    assert near_copies(sets(("a b", "a b", "c"))) == []
    assert near_copies([]) == []


def test_pairs_with_other_labels_are_shown() -> None:
    texts = ("one two three four five", "one two three four five cf", "six seven eight nine ten")
    pairs = near_copies(sets(texts))
    names = ["x", "y", "y"]
    assert [(p.first, p.second) for p in pairs] == [(0, 1)]
    (listing,) = copies_shown(pairs, texts, names)
    assert [p.label for p in listing.passages] == ["#0, 'x'", "#1, 'y'"]
    assert copies_told(pairs, names).endswith("1 of them labelled otherwise")
    assert copies_shown(pairs, texts, ["x", "x", "y"]) == ()
