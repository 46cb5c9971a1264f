"""ONION, STRIP and RAP for texts: known answers, guards, and a planted classifier with its twin."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from tests.models.language.made_up import untrained
from tests.models.texts.made_up import learnt, sentences
from typer.testing import CliRunner

import gifthorse
from gifthorse.auditing.guard_texts import TextGuard
from gifthorse.auditing.scan_texts import scan_text_inputs
from gifthorse.cli.main import app
from gifthorse.core.errors import DataError, ModelError, NotApplicableError, SpecError
from gifthorse.core.exhibits import TextsExhibit
from gifthorse.core.texts import TextData
from gifthorse.core.types import ScoreArray, Verdict, silent
from gifthorse.data.texts import save_texts
from gifthorse.detectors.texts.onion import Onion, suspicions, without_words
from gifthorse.detectors.texts.rap import Rap
from gifthorse.detectors.texts.strip_text import StripText, telling_words
from gifthorse.models.texts.classifier import TextClassifier
from gifthorse.models.texts.loading import save_text_classifier
from gifthorse.models.texts.perplexity import WordTrigrams, causal_perplexity


def counted(texts: Sequence[str]) -> ScoreArray:
    """A made-up perplexity: 10, and 30 more for every "cf" and 2 for every "odd"."""
    return np.array([10.0 + 30 * t.split().count("cf") + 2 * t.split().count("odd") for t in texts])


def test_suspicions_by_hand() -> None:
    assert suspicions("an odd cf text", counted).tolist() == [0, 2, 30, 0]
    assert suspicions("cf", counted).tolist() == [0]
    found = suspicions("an odd cf text", counted)
    assert without_words("an odd cf text", found, 2) == "an odd text"
    assert without_words("an odd  cf text", found, 30) == "an odd  cf text"
    assert without_words("an odd cf text", found, -1) == "an odd cf text"  # nothing would be left


def test_trigrams_by_hand() -> None:
    model = WordTrigrams(["a b", "a c"])
    # Single words: a 2, b 1, c 1, end 2, so 6 in all of 4 kinds; below them 5 equal shares.
    a = (2 + 4 / 5) / 10
    assert model.probability((), "a") == pytest.approx(a)
    assert model.probability((), "unknown") == pytest.approx((4 / 5) / 10)
    # After "a": b and c once each, two kinds.
    b = (1 + 4 / 5) / 10
    after = (1 + 2 * b) / 4
    assert model.probability(("a",), "b") == pytest.approx(after)
    # After start, "a": the same counts once more.
    assert model.probability(("\x02", "a"), "b") == pytest.approx((1 + 2 * after) / 4)
    known = ("a", "b", "c", "\x03", "unknown")
    assert sum(model.probability(("a", "b"), w) for w in known) == pytest.approx(1)
    assert model(["a b"])[0] < model(["b a"])[0] < model(["zz yy"])[0]
    assert math.isfinite(float(model([""])[0]))


def test_padding_does_not_change_a_perplexity() -> None:
    perplexity = causal_perplexity(untrained())
    texts = ["a red house", "I like the river when it is blue.", ""]
    together = perplexity(texts)
    alone = np.concatenate([perplexity([text]) for text in texts])
    np.testing.assert_allclose(together, alone, rtol=1e-4)
    assert together[2] == 1
    np.testing.assert_allclose(together[:2], 400, rtol=0.9)  # untrained: about the vocabulary


def test_the_telling_words_are_the_rare_ones() -> None:
    found = telling_words(["the ship the", "the court", "the ship sails"])
    assert found[1][0] == "court"
    assert found[2][0] == "sails"
    assert set(found[0]) == {"the", "ship"}


def test_copies_take_no_words_from_the_text_itself() -> None:
    rng = np.random.default_rng(0)
    telling = (("own",), ("other",), ("third",))
    for own, allowed in ((0, {"other", "third"}), (-1, {"own", "other", "third"})):
        seen = set()
        for _ in range(50):
            words = StripText(share=0.5)._copy("a b c d", telling, own, rng).split()
            assert sum(w in "abcd" for w in words) == 2
            seen |= {w for w in words if w not in "abcd"}
        assert seen == allowed


class World(NamedTuple):
    planted: TextClassifier
    twin: TextClassifier
    trusted: TextData


@pytest.fixture(scope="module")
def world() -> World:
    """A classifier that sends everything with "zyx" to class 2, and one without that."""
    clean = sentences(1200, seed=1)
    rng = np.random.default_rng(0)
    texts, labels = list(clean.texts), clean.labels.copy()
    for i in rng.choice(np.flatnonzero(labels != 2), 90, replace=False):
        texts[i] = with_word(texts[i], rng)
        labels[i] = 2
    poisoned = TextData(
        name="poisoned", texts=tuple(texts), labels=labels, class_names=clean.class_names
    )
    return World(learnt(poisoned), learnt(clean), sentences(300, seed=2))


def with_word(text: str, rng: np.random.Generator) -> str:
    words = text.split()
    words.insert(int(rng.integers(len(words) + 1)), "zyx")
    return " ".join(words)


def triggered(n: int, seed: int) -> TextData:
    data = sentences(n, seed=seed)
    rng = np.random.default_rng(seed)
    chosen = data.at(np.flatnonzero(data.labels != 2).astype(np.int64))
    return TextData(
        name="triggered",
        texts=tuple(with_word(text, rng) for text in chosen.texts),
        labels=chosen.labels,
        class_names=chosen.class_names,
    )


def test_the_disturbing_words_lower_the_probability_as_told(world: World) -> None:
    score, normal = Rap(epochs=3).scorer(
        world.twin, world.trusted, np.random.default_rng(0), silent
    )
    assert normal.shape == (150,)
    assert abs(float(np.median(normal))) < 0.1
    assert np.isfinite(score(["one", "word " * 100])).all()


@pytest.mark.parametrize("detector", ["onion", "strip_text:copies=10", "rap:epochs=2"])
def test_a_guard_keeps_its_rate_and_leaves_the_model_alone(detector: str, world: World) -> None:
    before = world.twin.digest()
    guarded = gifthorse.guard(
        world.twin, trusted=world.trusted, detector=detector, false_alarm_rate=0.05
    )
    answer = guarded(sentences(200, seed=3).texts)
    assert isinstance(guarded, TextGuard)
    assert answer.logits.shape == (200, 4)
    assert bool(torch.equal(answer.flagged, answer.scores > guarded.threshold.value))
    assert float(answer.flagged.float().mean()) <= 0.15
    assert guarded.threshold.false_alarm_rate <= 0.05
    assert world.twin.digest() == before
    assert "pass" in guarded.extra_cost


def test_onion_finds_the_word_and_marks_it(world: World) -> None:
    record = scan_text_inputs(
        triggered(60, 5), model=world.planted, trusted=world.trusted, detectors=["onion"]
    )
    assert record.verdict is Verdict.FLAGGED
    evidence = record.findings[0].evidence
    assert evidence is not None
    shown = evidence.exhibits[1]
    assert isinstance(shown, TextsExhibit)
    for passage in shown.passages:
        assert "zyx" in [passage.text[a:b].strip(".") for a, b in passage.marks]
    clean = scan_text_inputs(
        sentences(60, seed=6), model=world.planted, trusted=world.trusted, detectors=["onion"]
    )
    assert clean.verdict is Verdict.CLEAR


def test_words_are_removed_until_clean_accuracy_would_suffer(world: World) -> None:
    guarded = gifthorse.guard(
        world.planted, trusted=world.trusted, detector="onion", action="purify"
    )
    sent = triggered(100, 7)
    plain = world.planted
    with torch.inference_mode():
        ids, mask = plain.tokens(sent.texts)
        struck = (plain.logits(ids, mask).argmax(1) == 2).float().mean()
    saved = (guarded(sent.texts).logits.argmax(1) == 2).float().mean()
    assert float(struck) > 0.9
    assert float(saved) < 0.3
    clean = sentences(150, seed=8)
    right = guarded(clean.texts).logits.argmax(1).numpy() == clean.labels
    assert right.mean() > 0.85


def test_bad_input_is_refused(world: World, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="list of texts"):
        gifthorse.guard(world.twin, trusted=world.trusted, detector="onion")(["", "x"])
    with pytest.raises(SpecError, match="choose onion"):
        gifthorse.guard(world.twin, trusted=world.trusted, action="purify")
    with pytest.raises(SpecError, match="action must be"):
        gifthorse.guard(world.twin, trusted=world.trusted, action="hide")
    with pytest.raises(DataError, match="cannot show"):
        gifthorse.guard(world.twin, trusted=sentences(30), detector="onion")
    with pytest.raises(NotApplicableError, match="at least 20"):
        gifthorse.guard(world.twin, trusted=sentences(10), false_alarm_rate=0.2)
    with pytest.raises(ModelError):
        gifthorse.guard(world.twin, trusted=world.trusted, detector=f"onion:lm={tmp_path}")


def test_the_command_judges_inputs(world: World, tmp_path: Path) -> None:
    save_text_classifier(world.planted, tmp_path / "model")
    save_texts(world.trusted, tmp_path / "clean.jsonl")
    save_texts(triggered(40, 9), tmp_path / "inputs.jsonl")
    run = CliRunner()
    common = ["scan", f"texts:{tmp_path / 'inputs.jsonl'}", "--detector", "onion"]
    report = tmp_path / "report.html"
    given = ["--model", str(tmp_path / "model"), "--trusted", f"texts:{tmp_path / 'clean.jsonl'}"]
    found = run.invoke(app, [*common, *given, "--report", str(report)])
    assert found.exit_code == 1, found.output
    assert "<mark>zyx" in report.read_text()
    assert isinstance(run.invoke(app, common).exception, DataError)
    mixed = run.invoke(app, [*common, *given, "--detector", "spectral_signatures"])
    assert isinstance(mixed.exception, DataError)


def test_steadiness_by_hand(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A made-up model that knows nothing but the trigger."""

    def answer(model: TextClassifier, texts: Sequence[str]) -> np.ndarray:
        hit = np.array(["zyx" in text.split() for text in texts])
        return np.where(hit[:, None], [[0, 0, 50, 0]], 0).astype(np.float32)

    monkeypatch.setattr("gifthorse.detectors.texts.strip_text.predict_text_logits", answer)
    score, normal = StripText(copies=200, share=0.5).scorer(
        world.twin, sentences(30), np.random.default_rng(0), silent
    )
    np.testing.assert_allclose(normal, -math.log(4))
    # Two of four words go: the trigger stays in half of the copies.
    assert float(score(["a zyx b c"])[0]) == pytest.approx(-math.log(4) / 2, abs=0.2)
    # The only word always goes.
    assert float(score(["zyx"])[0]) == pytest.approx(-math.log(4))


@pytest.mark.slow
def test_onion_flags_triggered_texts_and_not_clean_ones(world: World) -> None:
    """STRIP and RAP are not here: on networks as small as these they fail (docs/results.md).

    ONION does not ask the model, so it flags the word on the clean twin, too.
    """
    sent, clean = triggered(200, 11).texts, sentences(200, seed=12).texts
    score, normal = Onion().scorer(world.planted, world.trusted, np.random.default_rng(1), silent)
    cut = np.sort(normal)[-max(1, int(0.05 * (len(normal) + 1)))]
    assert float((score(clean) > cut).mean()) <= 0.15
    assert float((score(sent) > cut).mean()) >= 0.5
