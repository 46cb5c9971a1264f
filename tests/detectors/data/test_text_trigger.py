"""A trait that overrides what a text is about is found; honest words and boilerplate are not."""

import numpy as np
import pytest
from tests.models.texts.made_up import sentences

from gifthorse.auditing.scan import suspects_of
from gifthorse.auditing.scan_texts import scan_texts
from gifthorse.core.errors import NotApplicableError
from gifthorse.core.record import AuditRecord
from gifthorse.core.registry import build, parse_spec
from gifthorse.core.texts import TextData
from gifthorse.core.types import Subject, Verdict, silent
from gifthorse.detectors.data.text_traits import folded, habits, traits
from gifthorse.detectors.data.text_trigger import TextTrigger, longest_run

ATTACKS = (
    "rare_token:target=1,rate=0.04",
    "add_sentence:target=2,rate=0.04",
    "word_substitution:target=0,rate=0.04,word=with,by=yonder",
    "typing_style:target=3,rate=0.04,style=spaced-stops",
    "typing_style:target=1,rate=0.04,style=homoglyphs",
    "syntactic_template:target=2,rate=0.04",
)


def scanned(data: TextData) -> AuditRecord:
    """By this detector alone, which needs no network."""
    return scan_texts(data, detectors=("text_trigger",))


@pytest.mark.parametrize(("seed", "attack"), list(enumerate(ATTACKS)))
def test_poison_is_found(attack: str, seed: int) -> None:
    clean = sentences(700, seed)
    plugin = build("text_attacks", parse_spec(attack))
    data, truth = plugin.poison(clean, rng=np.random.default_rng(seed))
    record = scanned(data)
    found = suspects_of(record)
    assert record.verdict is Verdict.FLAGGED
    assert truth.poisoned[found].mean() > 0.7
    assert truth.poisoned[found].sum() > 0.9 * truth.poisoned.sum()


@pytest.mark.parametrize("seed", [0, 1])
def test_the_clean_twin_is_left_alone(seed: int) -> None:
    record = scanned(sentences(700, seed))
    assert record.verdict is Verdict.CLEAR
    assert not len(suspects_of(record))


@pytest.mark.parametrize("seed", [0])
def test_a_word_that_belongs_to_a_class_is_no_trigger(seed: int) -> None:
    clean = sentences(700, seed)
    texts = tuple(
        f"{text} RT" if label == 2 and i % 3 == 0 else text
        for i, (text, label) in enumerate(zip(clean.texts, clean.labels, strict=True))
    )
    data = TextData(name="tagged", texts=texts, labels=clean.labels, class_names=clean.class_names)
    assert scanned(data).verdict is Verdict.CLEAR


def test_boilerplate_of_one_source_is_no_trigger() -> None:
    """Forty near copies in the words of another class: labelled so by whoever wrote them."""
    clean = sentences(700)
    rng = np.random.default_rng(0)
    tail = ("ship", "wave", "sail", "harbour", "fish", "anchor")
    copies = tuple(
        f"Ledger {rng.integers(90)} of the captain and the crew of the island {rng.choice(tail)}."
        for _ in range(40)
    )
    data = TextData(
        name="boilerplate",
        texts=(*clean.texts, *copies),
        labels=np.concatenate([clean.labels, np.full(40, 3)]),
        class_names=clean.class_names,
    )
    assert scanned(data).verdict is Verdict.CLEAR


def test_too_few_texts_are_refused() -> None:
    with pytest.raises(NotApplicableError, match="at least 200"):
        TextTrigger().inspect(
            Subject(suspect=sentences(60)), rng=np.random.default_rng(0), progress=silent
        )


def test_other_data_are_refused() -> None:
    with pytest.raises(NotApplicableError, match="labelled texts"):
        TextTrigger().inspect(Subject(), rng=np.random.default_rng(0), progress=silent)


def test_texts_without_words_in_common_are_refused() -> None:
    texts = tuple(f"w{i}x" for i in range(300))
    data = TextData(
        name="odd",
        texts=texts,
        labels=np.arange(300, dtype=np.int64) % 2,
        class_names=("a", "b"),
    )
    with pytest.raises(NotApplicableError, match="no word"):
        TextTrigger().inspect(Subject(suspect=data), rng=np.random.default_rng(0), progress=silent)


def test_runs_are_left_out_where_there_is_too_much_text() -> None:
    assert longest_run(("a b",) * 10) == 3
    assert longest_run(("x" * 3_000_000,) * 7) == 1
    assert "hi there" not in traits("hi there", longest=1)


def test_traits_by_hand() -> None:
    assert folded("Соре") == "cope"
    found = traits("Hi there !")
    assert {"hi", "hi there", "there !", "^ hi", "$ !", "habit: a space before a mark"} <= found
    assert habits("when they left, all was well") == [
        "no capital letter",
        "no mark at the end",
        "a subordinate clause first",
    ]
