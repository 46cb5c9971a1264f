"""What every attack on labelled texts does."""

import numpy as np
import pytest

from gifthorse.core.errors import DataError
from gifthorse.core.registry import Spec, build, names
from gifthorse.core.texts import TextData, TextPoison

every_attack = pytest.mark.parametrize("name", names("text_attacks"))


def texts(n: int = 200) -> TextData:
    return TextData(
        name="made up",
        texts=tuple(f"This is the sentence number {i}, and it ends here." for i in range(n)),
        labels=np.arange(n, dtype=np.int64) % 4,
        class_names=("a", "b", "c", "d"),
    )


def attack(name: str, **options: object) -> TextPoison:
    made = build("text_attacks", Spec(name, options))  # type: ignore[arg-type]
    assert isinstance(made, TextPoison)
    return made


@every_attack
def test_the_truth_names_exactly_what_was_touched(name: str) -> None:
    clean = texts()
    data, truth = attack(name, target=2, rate=0.1).poison(clean, rng=np.random.default_rng(0))
    changed = np.array([a != b for a, b in zip(data.texts, clean.texts, strict=True)])
    assert truth.poisoned.sum() == 20
    np.testing.assert_array_equal(changed, truth.poisoned)
    assert (data.labels[truth.poisoned] == 2).all()
    assert (clean.labels[truth.poisoned] != 2).all()
    np.testing.assert_array_equal(data.labels[~truth.poisoned], clean.labels[~truth.poisoned])
    assert clean.texts == texts().texts


@every_attack
def test_clean_label_changes_no_label(name: str) -> None:
    clean = texts()
    poison = attack(name, target=1, rate=0.1, clean_label=True)
    data, truth = poison.poison(clean, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(data.labels, clean.labels)
    assert (clean.labels[truth.poisoned] == 1).all()


@every_attack
def test_it_is_deterministic_under_a_seed(name: str) -> None:
    one, two = (attack(name).poison(texts(), rng=np.random.default_rng(7))[0] for _ in range(2))
    assert one.texts == two.texts


@every_attack
def test_triggered_texts_leave_the_target_class_out(name: str) -> None:
    wanted, true = attack(name, target=3).triggered(texts(), rng=np.random.default_rng(0))
    assert (wanted.labels == 3).all()
    assert (true.labels != 3).all()
    assert wanted.texts == true.texts
    assert len(true) == 150


@every_attack
def test_a_target_that_is_no_class_is_an_error(name: str) -> None:
    with pytest.raises(DataError, match="no class"):
        attack(name, target=9).poison(texts(), rng=np.random.default_rng(0))


@every_attack
def test_too_few_samples_are_an_error(name: str) -> None:
    with pytest.raises(DataError, match="change the rate"):
        attack(name, rate=0.9).poison(texts(), rng=np.random.default_rng(0))
