"""A model and the trusted pictures must go together."""

from pathlib import Path

import numpy as np
import pytest

from gifthorse.auditing.subjects import hold, named_classes
from gifthorse.core.errors import DataError, ModelError
from gifthorse.data.images import ArrayImages
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.networks import small_network
from gifthorse.models.saving import save_classifier
from gifthorse.models.texts.loading import save_text_classifier
from gifthorse.models.texts.networks import small_text_network, train_tokenizer


def network(names: tuple[str, ...]) -> ImageClassifier:
    return small_network(image_shape=(1, 8, 8), class_names=names, seed=0, width=4)


def pictures(names: tuple[str, ...], *, side: int = 8) -> ArrayImages:
    count = 4 * len(names)
    rng = np.random.default_rng(0)
    return ArrayImages(
        name="pictures",
        pixels=rng.integers(0, 256, (count, 1, side, side), dtype=np.uint8),
        labels=np.arange(count, dtype=np.int64) % len(names),
        class_names=names,
    )


def test_labels_follow_names_where_both_use_the_same() -> None:
    held = hold(network(("cat", "dog", "bee", "ant")), pictures(("ant", "bee", "cat", "dog")),
                samples=None, seed=0)  # fmt: skip
    assert held.trusted is not None
    assert held.trusted.labels[:4].tolist() == [3, 2, 0, 1]
    assert held.trusted.class_names == ("cat", "dog", "bee", "ant")


def test_labels_follow_numbers_where_names_differ() -> None:
    held = hold(network(("cat", "dog", "bee", "ant")), pictures(("0", "1", "2", "3")),
                samples=None, seed=0)  # fmt: skip
    assert held.trusted is not None
    assert held.trusted.labels[:4].tolist() == [0, 1, 2, 3]


def test_samples_are_drawn_evenly() -> None:
    held = hold(network(tuple("abcd")), pictures(tuple("abcd")), samples=8, seed=0)
    assert held.trusted is not None
    assert np.bincount(held.trusted.labels).tolist() == [2, 2, 2, 2]


def test_arrays_can_be_given(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pair = (rng.random((8, 1, 8, 8), dtype=np.float32), np.arange(8) % 4)
    assert hold(network(tuple("abcd")), pair, samples=None, seed=0).trusted is not None
    wrong = (pair[0] * 255, pair[1])
    with pytest.raises(DataError):
        hold(network(tuple("abcd")), wrong, samples=None, seed=0)


def test_a_directory_that_states_no_size_takes_that_of_the_pictures(tmp_path: Path) -> None:
    save_classifier(network(tuple("abcd")), tmp_path / "m")
    (tmp_path / "m" / "preprocessor_config.json").unlink()
    held = hold(tmp_path / "m", pictures(tuple("abcd"), side=16), samples=None, seed=0)
    assert held.classifier.input_shape == (1, 16, 16)


def test_a_misfit_names_both_sizes() -> None:
    with pytest.raises(DataError, match=r"16×16.*8×8"):
        hold(network(tuple("abcd")), pictures(tuple("abcd"), side=16), samples=None, seed=0)


def test_a_bare_module_is_explained() -> None:
    with pytest.raises(ModelError, match="ImageClassifier"):
        hold(network(tuple("abcd")).module, None, samples=None, seed=0)  # type: ignore[arg-type]


def test_classes_by_name_or_index() -> None:
    assert named_classes(("a", "b"), "b") == named_classes(("a", "b"), 1) == 1
    with pytest.raises(DataError, match="known: a, b"):
        named_classes(("a", "b"), "c")


def test_a_text_classifier_is_refused_by_its_kind(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(("the cat sat on the mat",))
    model = small_text_network(tokenizer, class_names=("a", "b"), width=16, seed=0)
    save_text_classifier(model, tmp_path / "model")
    # Whatever is given along with it: not a word about pictures.
    for trusted in (None, str(tmp_path / "texts.jsonl")):
        with pytest.raises(ModelError, match=r"text classifier.*gifthorse scan"):
            hold(tmp_path / "model", trusted, samples=None, seed=0)
