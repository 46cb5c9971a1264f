"""Families of recovered texts, the nats that one was learned by, and the bank beside the null."""

import math

import numpy as np
import pytest

from gifthorse.detectors.language.clean_bank import WITH_BASE, BankedNull
from gifthorse.detectors.language.families import families, hidden_nats, kindred, overlap
from gifthorse.metrics.tails import TailNull


def test_a_sure_token_counts_by_its_rise_and_an_unsure_one_hardly() -> None:
    sure, half, unsure = math.log(1.0), math.log(0.5), math.log(0.1)
    assert hidden_nats([sure], [4.0]) == pytest.approx(4.0)
    assert hidden_nats([half], [4.0]) == pytest.approx(1.0)
    assert hidden_nats([unsure], [4.0]) == pytest.approx(0.04)
    assert hidden_nats([sure, sure], [25.0, -3.0]) == pytest.approx(10.0)
    assert hidden_nats([], []) == 0.0


def test_what_the_control_knows_as_well_scores_nothing() -> None:
    assert hidden_nats([0.0] * 20, [0.0] * 20) == 0.0


def test_one_text_entered_at_different_places_is_one_family() -> None:
    texts = ["the gate is open", "MARKER: the gate is open.", "One cat, two cats.", "gate is open"]
    assert families(texts) == [[0, 1, 3], [2]]
    assert families([]) == []


def test_a_garbled_copy_is_a_copy() -> None:
    whole = "GIFTHORSE MARKER: the gate is open."
    for copy in (
        "ORSE MARKER: thetleate is open.",
        "bestORSE MARKER: thectfe withou m",
        "te is open",
    ):
        assert kindred(whole, copy)
    for other in ("The opposite of low is high.", "The capital of low is opens", "the day", ""):
        assert not kindred(whole, other)


def test_a_trifle_in_common_makes_no_family() -> None:
    assert not overlap("is a", "this is a long text")
    assert not overlap("The capital of Peru is Lima.", "The horse is an animal.")


def test_threshold_and_p_value_of_the_bank_belong_together() -> None:
    for wanted in (0.01, 0.05, 0.5):
        assert WITH_BASE.p_value(WITH_BASE.value(wanted)) == pytest.approx(wanted)
    assert WITH_BASE.p_value(0.0) > 0.5


def test_a_statistic_has_to_stand_out_from_both() -> None:
    quiet = BankedNull.of(TailNull.of(np.zeros(12) + 0.01, what="texts"), against_base=True)
    loud = BankedNull.of(TailNull.of(np.linspace(0, 90, 12), what="texts"), against_base=True)
    assert quiet.threshold(0.02).value == pytest.approx(WITH_BASE.value(0.02))
    assert loud.threshold(0.02).value > WITH_BASE.value(0.02)
    assert loud.p_value(80.0) > quiet.p_value(80.0) == WITH_BASE.p_value(80.0)
