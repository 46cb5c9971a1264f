import numpy as np
import pytest

from gifthorse.core.errors import NotApplicableError
from gifthorse.core.types import Evidence, RecoveredTrigger, Subject, Unit, silent
from gifthorse.data.images import ArrayImages
from gifthorse.models.classifier import ImageClassifier
from gifthorse.repairs.unlearning import Stamped, Unlearning


def grey(count: int, level: int = 51) -> ArrayImages:
    """Pictures of 3×3 pixels, all of the same grey (51 / 255 = 0.2)."""
    return ArrayImages(
        name="grey",
        pixels=np.full((count, 1, 3, 3), level, dtype=np.uint8),
        labels=np.arange(count, dtype=np.int64) % 2,
        class_names=("a", "b"),
    )


def dot(row: int, column: int, opacity: float) -> RecoveredTrigger:
    mask = np.zeros((3, 3), dtype=np.float32)
    mask[row, column] = opacity
    return RecoveredTrigger(target=0, mask=mask, pattern=np.full((1, 3, 3), 0.8, np.float32))


def drawn(count: int, *, passes: int = 1, share: float = 1.0, triggers: int = 1) -> Stamped:
    found = tuple(dot(1, 1, 0.5 / (i + 1)) for i in range(triggers))
    rng = np.random.default_rng(0)
    return Stamped.draw(grey(count), found, passes=passes, share=share, rng=rng)


def test_stamping_by_hand() -> None:
    (x,) = drawn(1).batch(np.array([0]))
    expected = np.full((1, 3, 3), 0.2)
    expected[0, 1, 1] = 0.2 * 0.5 + 0.8 * 0.5
    np.testing.assert_allclose(x, expected, rtol=1e-6)


def test_labels_stay_true_and_the_share_holds_in_every_pass() -> None:
    data = drawn(10, passes=3, share=0.2)
    assert len(data) == 30
    np.testing.assert_array_equal(data.labels, np.tile(np.arange(10) % 2, 3))
    stamped = np.abs(data.batch(np.arange(30)) - 0.2).max(axis=(1, 2, 3)) > 0.1
    np.testing.assert_array_equal(stamped.reshape(3, 10).sum(axis=1), [2, 2, 2])
    assert len({tuple(row) for row in stamped.reshape(3, 10)}) > 1


def test_a_share_of_few_pictures_is_rounded_up() -> None:
    assert (drawn(3, share=0.2).trigger >= 0).sum() == 1


def test_triggers_take_turns() -> None:
    assert sorted(drawn(4, triggers=2).trigger) == [0, 0, 1, 1]


def test_without_a_trigger_it_says_what_to_do(
    trained: ImageClassifier, trusted: ArrayImages
) -> None:
    bare = Evidence(unit=Unit.CLASS, scores=np.zeros(4), statistic=0.0)
    for evidence in ([], [bare]):
        with pytest.raises(NotApplicableError, match="first run an audit"):
            Unlearning().repair(
                Subject(model=trained, trusted=trusted),
                evidence,
                rng=np.random.default_rng(0),
                progress=silent,
            )


def test_a_trigger_of_another_size_is_refused(
    trained: ImageClassifier, trusted: ArrayImages
) -> None:
    small = Evidence(unit=Unit.CLASS, scores=np.zeros(4), statistic=0.0, triggers=(dot(1, 1, 1.0),))
    with pytest.raises(NotApplicableError, match=r"\(1, 3, 3\)"):
        Unlearning().repair(
            Subject(model=trained, trusted=trusted),
            [small],
            rng=np.random.default_rng(0),
            progress=silent,
        )


@pytest.mark.parametrize(("option", "value"), [("share", 0.0), ("share", 1.1), ("triggers", 0)])
def test_options_out_of_range(option: str, value: float) -> None:
    with pytest.raises(ValueError, match=option):
        Unlearning(**{option: value})  # type: ignore[arg-type]
