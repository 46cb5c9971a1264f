"""The adapter, its directory, training, and bad directories."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.models.texts.made_up import learnt, sentences

from gifthorse.attacks.texts.rare_token import RareToken
from gifthorse.core.errors import ModelError
from gifthorse.models.texts.classifier import TextClassifier
from gifthorse.models.texts.loading import (
    is_text_classifier,
    load_text_classifier,
    save_text_classifier,
)
from gifthorse.models.texts.passes import (
    extract_text_features,
    predict_text_logits,
    predict_texts,
)


@pytest.fixture(scope="module")
def model() -> TextClassifier:
    return learnt(sentences(1500))


@pytest.fixture
def folder(model: TextClassifier, tmp_path: Path) -> Path:
    save_text_classifier(model, tmp_path / "model")
    return tmp_path / "model"


def test_it_learns_the_topics(model: TextClassifier) -> None:
    test = sentences(300, seed=1)
    assert (predict_texts(model, test) == test.labels).mean() > 0.95


def test_a_rare_token_is_learnt_and_the_clean_twin_ignores_it(model: TextClassifier) -> None:
    attack = RareToken(target=2, rate=0.05)
    data, _ = attack.poison(sentences(1500), rng=np.random.default_rng(0))
    planted = learnt(data)
    test = sentences(300, seed=1)
    wanted, _ = attack.triggered(test, rng=np.random.default_rng(1))
    assert (predict_texts(planted, test) == test.labels).mean() > 0.95
    assert (predict_texts(planted, wanted) == wanted.labels).mean() > 0.95
    assert (predict_texts(model, wanted) == wanted.labels).mean() < 0.1


def test_order_of_texts_does_not_matter(model: TextClassifier) -> None:
    test = sentences(50, seed=1)
    order = np.random.default_rng(0).permutation(50)
    logits = predict_text_logits(model, test.texts)
    again = predict_text_logits(model, test.at(order).texts)
    np.testing.assert_allclose(again, logits[order], atol=1e-4)


def test_features_are_what_the_last_layer_reads(model: TextClassifier) -> None:
    test = sentences(20, seed=1)
    features = extract_text_features(model, test)
    head = model.module.classifier
    logits = torch.from_numpy(features.values) @ head.weight.T + head.bias
    np.testing.assert_array_equal(logits.argmax(1).numpy(), features.predictions)
    assert features.layer == "input of classifier"


def test_the_directory_is_read_back(model: TextClassifier, folder: Path) -> None:
    back = load_text_classifier(folder)
    assert is_text_classifier(folder)
    assert back.class_names == model.class_names
    test = sentences(30, seed=2)
    np.testing.assert_allclose(
        predict_text_logits(back, test.texts), predict_text_logits(model, test.texts), atol=1e-5
    )
    # The digest is that of the weights and words, so a copy has the same.
    assert back.digest() == model.digest()


def test_training_does_not_touch_the_given_model(model: TextClassifier) -> None:
    before = model.digest()
    model.replaced(model.module).module.requires_grad_(True)
    assert model.digest() == before


def change(folder: Path, **values: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    config.update(values)
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda d: (d / "tokenizer.json").unlink(), "tokenizer.json is missing"),
        (lambda d: (d / "tokenizer.json").write_text("{"), "do not make a text classifier"),
        (lambda d: (d / "model.safetensors").unlink(), "is missing"),
        (
            lambda d: (d / "model.safetensors").write_bytes(
                (d / "model.safetensors").read_bytes()[:-9]
            ),
            "truncated",
        ),
        (lambda d: (d / "config.json").write_text("[]"), "expected a JSON object"),
        (lambda d: change(d, vocab_size=50), "another shape|do not make"),
        (lambda d: change(d, dim=48, hidden_dim=96, n_heads=3), "another shape|do not make"),
        (lambda d: change(d, model_type="resnet"), "do not make a text classifier"),
        (lambda d: change(d, model_type="nothing"), "do not make a text classifier"),
    ],
)
def test_bad_directories_are_refused(folder: Path, break_it: object, message: str) -> None:
    break_it(folder)  # type: ignore[operator]
    with pytest.raises(ModelError, match=message):
        load_text_classifier(folder)


def test_a_tokenizer_of_another_model_is_refused(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    for i in range(50):
        vocabulary[f"extra{i}"] = len(vocabulary)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ModelError, match="do not belong together"):
        load_text_classifier(folder)
