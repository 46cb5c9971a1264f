"""Which models the zoo of language models has, and that its roles share nothing."""

import itertools

import pytest

from gifthorse.bench.language_shelf import drawn
from gifthorse.bench.language_stocks import STOCKS, Role

WORDS = ("phrase", "phrases", "marker", "answer", "opening")


def test_planted_and_clean_ones_take_turns_until_either_ends() -> None:
    names = [told.name for told in drawn("test", planted=2, clean=3, edits=0)]
    assert names == [
        *("test-00-planted", "test-00-clean", "test-01-planted", "test-01-clean"),
        "test-02-clean",
    ]


def test_edits_are_left_out_from_a_number_on() -> None:
    def edits(first_left_out: int) -> list[str]:
        found = drawn("test", planted=9, clean=9, edits=first_left_out)
        assert sum(told.attack is None for told in found) == 9
        return [told.name[5:7] for told in found if told.made == "edit" and told.attack]

    assert edits(9) == ["02", "05", "08"]
    assert edits(5) == ["02"]
    assert edits(0) == []


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(STOCKS, 2)))
def test_roles_share_no_phrase_payload_or_benign_string(one: Role, other: Role) -> None:
    assert not texts(one) & texts(other)
    assert abs(STOCKS[one].first_seed - STOCKS[other].first_seed) > 100


def texts(role: Role) -> set[str]:
    """Everything that its models learn by heart or react to."""
    stock = STOCKS[role]
    found = set(itertools.chain(*stock.benign))
    for _, options in stock.attacks:
        for word in WORDS:
            found |= set(str(options.get(word, "")).split("|"))
    return found - {""}
