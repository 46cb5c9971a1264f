"""Scan of labelled texts: poison is found, the clean twin is left alone, the words are shown."""

import numpy as np
import pytest
from tests.models.texts.made_up import learnt, sentences

from gifthorse.attacks.texts.add_sentence import AddSentence
from gifthorse.auditing.scan import suspects_of
from gifthorse.auditing.scan_texts import scan_texts
from gifthorse.core.errors import DataError
from gifthorse.core.exhibits import TextsExhibit
from gifthorse.core.texts import TextData
from gifthorse.core.types import Verdict
from gifthorse.detectors.data.shared_words import shared_words
from gifthorse.report.html import render_html


def test_poison_is_found_with_the_words_it_shares() -> None:
    attack = AddSentence(target=1, rate=0.04, sentence="<b>blue elephants</b>")
    data, truth = attack.poison(sentences(2000), rng=np.random.default_rng(0))
    record = scan_texts(data, model=learnt(data))
    found = suspects_of(record)
    assert record.verdict is Verdict.FLAGGED
    assert truth.poisoned[found].mean() > 0.9
    assert truth.poisoned[found].sum() > 0.5 * truth.poisoned.sum()
    exhibits = [e for f in record.findings if f.evidence for e in f.evidence.exhibits]
    shown = [e for e in exhibits if isinstance(e, TextsExhibit)]
    assert shown
    first = shown[0].passages[0]
    assert any("elephants" in first.text[a:b] for a, b in first.marks)
    page = render_html(record)
    assert "<b>blue" not in page
    assert "&lt;b&gt;" in page


def test_the_clean_twin_is_left_alone() -> None:
    data = sentences(2000)
    record = scan_texts(data, model=learnt(data))
    assert record.verdict is Verdict.CLEAR
    assert not len(suspects_of(record))


def test_without_a_model_a_small_one_is_trained() -> None:
    record = scan_texts(sentences(300))
    assert any("small network was trained" in note for note in record.notes)


def test_one_class_is_an_error() -> None:
    data = TextData(
        name="same",
        texts=("a b", "c d"),
        labels=np.zeros(2, dtype=np.int64),
        class_names=("x", "y"),
    )
    with pytest.raises(DataError, match="the same label"):
        scan_texts(data)


def test_shared_words_are_runs_that_only_the_suspects_hold() -> None:
    inside = ["we saw the blue cf today", "the blue cf is here", "oh the blue cf"]
    outside = ["the blue sky", "the red one", "today we saw the sea"]
    # "blue cf" and "the blue cf" gain the same; the longer run is what people want to read.
    assert shared_words(inside, outside)[0] == ("the", "blue", "cf")
    assert shared_words(outside, outside) == ()
