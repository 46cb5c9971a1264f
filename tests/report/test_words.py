"""Numbers as people read them."""

import math

import pytest

from gifthorse.report import words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (6.8, "6.8"),
        (-1.25, "−1.25"),
        (1234567.0, "1\u202f234\u202f567"),
        (0.000123, "0.000123"),
        (3.2e-7, "3.2\u00a0×\u00a010⁻⁷"),
        (math.nan, "–"),
        (None, "–"),
    ],
)
def test_number(value: float | None, text: str) -> None:
    assert words.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.05, "5"), (0.0125, "1.25"), (0.9997, "99.97"), (1.0, "100"), (0.0, "0"), (0.0004, "0.04")],
)
def test_percent(value: float, text: str) -> None:
    assert words.percent(value) == f"{text}\u00a0%"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.97, "97.0"), (0.9672, "96.7"), (0.99951, "99.95"), (0.0011, "0.11"), (1.0, "100")],
)
def test_measured(value: float, text: str) -> None:
    assert words.measured(value) == f"{text}\u00a0%"


def test_odds() -> None:
    assert words.odds(0.05, "model") == "about 1 in 20 clean models"
    assert words.odds(1e-5, "model") == "about 1 in 100\u202f000 clean models"
    assert words.odds(0.62, "model") == "about 62\u00a0% of clean models"
    assert words.odds(0.0, "model") == "practically no clean model"


def test_score_and_p_value_agree() -> None:
    assert words.score_limit(0.05) == pytest.approx(1.30103, abs=1e-5)
    assert words.family_p_value(1.30103) == pytest.approx(0.05, abs=1e-6)
    assert words.family_p_value(-500.0) == 1
    assert words.family_p_value(None) is None
    assert words.score_limit(0.0) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.42, "0.42\u00a0s"),
        (12.34, "12.3\u00a0s"),
        (83.4, "1\u00a0min 23\u00a0s"),
        (3900, "1\u00a0h 05\u00a0min"),
    ],
)
def test_seconds(value: float, text: str) -> None:
    assert words.seconds(value) == text


def test_moment() -> None:
    assert words.moment("2026-03-01T14:00:00+02:00") == "2026-03-01 12:00 UTC"
    assert words.moment("yesterday") == "yesterday"
    assert words.moment("0001-01-01T00:00:00+05:00") == "0001-01-01T00:00:00+05:00"


def test_harmless_keeps_writing_and_drops_tricks() -> None:
    assert words.harmless("птица 鳥 🐦 é") == "птица 鳥 🐦 é"
    assert words.harmless("a\u202eb\x00c\ud800") == "a\ufffdb\ufffdc\ufffd"


def test_shorten_counts_wide_characters_twice() -> None:
    assert words.shorten("abcdef", 6) == "abcdef"
    assert words.shorten("abcdefg", 6) == "abcde…"
    assert words.shorten("鳥鳥鳥鳥", 6) == "鳥鳥…"
