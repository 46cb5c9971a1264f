"""Scan of labelled texts: poison is found, the clean twin is left alone, the words are shown."""

import numpy as np
import pytest
from tests.models.texts.made_up import sentences

from gifthorse.attacks.texts.add_sentence import AddSentence
from gifthorse.auditing.scan import suspects_of
from gifthorse.auditing.scan_texts import scan_texts
from gifthorse.core.errors import DataError
from gifthorse.core.exhibits import TextsExhibit
from gifthorse.core.record import AuditRecord
from gifthorse.core.texts import TextData
from gifthorse.core.types import BoolArray, Features, Verdict
from gifthorse.detectors.data.shared_words import shared_words
from gifthorse.models.texts.networks import small_text_network, train_tokenizer
from gifthorse.report.html import render_html

NAMES = tuple("abcdefgh")
"""Eight classes: with fewer, too few others are left to compare a class with."""


def made(seed: int) -> TextData:
    """2,000 sentences in eight classes."""
    data = sentences(2000, seed)
    labels = np.random.default_rng(seed).integers(0, len(NAMES), len(data))
    return TextData(
        name=data.name, texts=data.texts, labels=labels.astype(np.int64), class_names=NAMES
    )


def scanned(
    data: TextData, apart: BoolArray, monkeypatch: pytest.MonkeyPatch, seed: int
) -> AuditRecord:
    """A scan over made-up activations: a centre for every class, and ``apart`` moved from it.

    What a real network makes of poison is measured in the slow tests; here the way from activations
    to verdict, words and page is under test; it must not hang on how a tiny network was trained.
    """
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(len(data), 24)) + 6 * rng.normal(size=(8, 24))[data.labels]
    values += apart[:, None] * 6 * rng.normal(size=24)
    features = Features(values=values.astype(np.float32), predictions=data.labels, layer="made up")

    def given(*_: object, progress: object) -> Features:
        return features

    monkeypatch.setattr("gifthorse.auditing.scan_texts.extract_text_features", given)
    tokenizer = train_tokenizer(data.texts, vocabulary=300)
    model = small_text_network(tokenizer, class_names=NAMES, seed=seed, width=32, max_length=48)
    return scan_texts(data, model=model)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_poison_is_found_with_the_words_it_shares(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    attack = AddSentence(target=1, rate=0.04, sentence="<b>blue elephants</b>")
    data, truth = attack.poison(made(seed), rng=np.random.default_rng(seed))
    record = scanned(data, truth.poisoned, monkeypatch, seed)
    found = suspects_of(record)
    assert record.verdict is Verdict.FLAGGED
    assert truth.poisoned[found].mean() > 0.9
    assert truth.poisoned[found].sum() > 0.9 * truth.poisoned.sum()
    exhibits = [e for f in record.findings if f.evidence for e in f.evidence.exhibits]
    shown = [e for e in exhibits if isinstance(e, TextsExhibit)]
    assert shown
    first = shown[0].passages[0]
    assert any("elephants" in first.text[a:b] for a, b in first.marks)
    page = render_html(record)
    assert "<b>blue" not in page
    assert "&lt;b&gt;" in page


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_clean_twin_is_left_alone(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = made(seed)
    record = scanned(data, np.zeros(len(data), dtype=np.bool_), monkeypatch, seed)
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
