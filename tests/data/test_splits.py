import numpy as np
import pytest

from gifthorse.core.errors import DataError
from gifthorse.data.images import ArrayImages, Subset
from gifthorse.data.splits import split, stratified_sample


def _images(per_class: tuple[int, ...]) -> ArrayImages:
    labels = np.repeat(np.arange(len(per_class)), per_class)
    pixels = np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1)
    names = tuple(str(label) for label in range(len(per_class)))
    return ArrayImages(name="tiny", pixels=pixels, labels=labels, class_names=names)


def _counts(labels: np.ndarray, classes: int) -> list[int]:
    return [int(count) for count in np.bincount(labels, minlength=classes)]


def _rows(data: object) -> list[int]:
    assert isinstance(data, Subset)
    return [int(row) for row in data.indices]


def test_sample_is_equal_per_class() -> None:
    sample = stratified_sample(_images((50, 20, 30)), 30, np.random.default_rng(0))
    assert _counts(sample.labels, 3) == [10, 10, 10]
    assert len(set(_rows(sample))) == 30


def test_small_classes_give_all_and_others_make_up_for_it() -> None:
    sample = stratified_sample(_images((50, 2, 0, 30)), 22, np.random.default_rng(0))
    assert _counts(sample.labels, 4) == [10, 2, 0, 10]


def test_what_cannot_be_divided_goes_to_different_classes() -> None:
    sample = stratified_sample(_images((9, 9, 9)), 8, np.random.default_rng(0))
    assert sorted(_counts(sample.labels, 3)) == [2, 3, 3]


def test_a_larger_sample_than_there_is_means_everything() -> None:
    data = _images((3, 2))
    assert stratified_sample(data, 99, np.random.default_rng(0)) is data


@pytest.mark.parametrize("count", [1, 2, 7, 39])
def test_sample_has_the_size_that_was_asked_for(count: int) -> None:
    assert len(stratified_sample(_images((20, 3, 17)), count, np.random.default_rng(1))) == count


@pytest.mark.parametrize("count", [0, -3])
def test_sample_refuses_nothing(count: int) -> None:
    with pytest.raises(DataError, match=f"sample of {count} images"):
        stratified_sample(_images((3,)), count, np.random.default_rng(0))


def test_sample_depends_on_the_generator_alone() -> None:
    data = _images((50, 50))
    first, same, other = (
        _rows(stratified_sample(data, 20, np.random.default_rng(seed))) for seed in (1, 1, 2)
    )
    assert first == same
    assert first != other


def test_split_is_disjoint_complete_and_stratified() -> None:
    data = _images((40, 20, 10))
    first, second = split(data, 0.3, np.random.default_rng(0))
    assert _counts(first.labels, 3) == [12, 6, 3]
    assert sorted(_rows(first) + _rows(second)) == list(range(70))


def test_split_has_the_right_total_when_classes_do_not_divide() -> None:
    first, second = split(_images((5, 5, 5)), 0.5, np.random.default_rng(0))
    assert len(first) == 8
    assert sorted(_counts(first.labels, 3)) == [2, 3, 3]
    assert len(second) == 7


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 2.0, float("nan")])
def test_split_refuses_fractions_out_of_range(fraction: float) -> None:
    with pytest.raises(DataError, match="out of range"):
        split(_images((5,)), fraction, np.random.default_rng(0))


def test_split_refuses_to_leave_a_part_empty() -> None:
    with pytest.raises(DataError, match="part without images"):
        split(_images((1, 1)), 0.1, np.random.default_rng(0))
