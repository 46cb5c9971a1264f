"""Evidence, features, costs, random streams, pictures and exit codes."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from gifthorse.core import errors
from gifthorse.core.exhibits import picture
from gifthorse.core.rng import child_rng, draw_seed, make_rng
from gifthorse.core.types import (
    Cost,
    Evidence,
    Features,
    Need,
    RecoveredTrigger,
    Subject,
    Unit,
)


def evidence(
    scores: list[float], statistic: float = 0.0, suspects: list[int] | None = None
) -> None:
    Evidence(
        unit=Unit.CLASS,
        scores=np.array(scores, dtype=np.float64),
        statistic=statistic,
        suspects=np.array(suspects or [], dtype=np.int64),
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_evidence_refuses_numbers_that_are_none(bad: float) -> None:
    with pytest.raises(ValueError, match="scores must be finite"):
        evidence([0.0, bad])
    with pytest.raises(ValueError, match="statistic must be finite"):
        evidence([0.0], statistic=bad)


@pytest.mark.parametrize("suspects", [[2], [-1], [0, 5]])
def test_evidence_refuses_suspects_that_do_not_exist(suspects: list[int]) -> None:
    with pytest.raises(ValueError, match="suspects"):
        evidence([0.0, 1.0], suspects=suspects)


def test_evidence_refuses_scores_in_two_dimensions() -> None:
    with pytest.raises(ValueError, match="shape"):
        Evidence(unit=Unit.CLASS, scores=np.zeros((2, 2)), statistic=0.0)


def test_features_refuse_nan_and_other_shapes() -> None:
    values, predictions = np.zeros((3, 2), np.float32), np.zeros(3, np.int64)
    with pytest.raises(errors.DataError, match="expected"):
        Features(values=values[:2], predictions=predictions, layer="l")
    with pytest.raises(errors.DataError, match="expected"):
        Features(values=values[0], predictions=predictions, layer="l")
    values[1, 1] = np.nan
    with pytest.raises(errors.DataError, match="NaN"):
        Features(values=values, predictions=predictions, layer="l")


def test_a_subject_offers_what_it_holds() -> None:
    features = Features(
        values=np.zeros((1, 2), np.float32), predictions=np.zeros(1, np.int64), layer="l"
    )
    assert Subject().offers == frozenset()
    assert Subject(features=features).offers == {Need.FEATURES}


def test_costs_add_up_but_for_the_peak() -> None:
    one = Cost(seconds=1, forward_passes=2, backward_passes=3, peak_memory_mib=40)
    two = Cost(seconds=10, forward_passes=20, backward_passes=30, peak_memory_mib=4)
    assert one + two == Cost(seconds=11, forward_passes=22, backward_passes=33, peak_memory_mib=40)


def test_a_recovered_trigger_is_stamped_by_its_mask() -> None:
    mask = np.array([[1.0, 0.5], [0.0, 0.0]], np.float32)
    pattern = np.full((1, 2, 2), 0.8, np.float32)
    x = np.full((1, 1, 2, 2), 0.2, np.float32)
    stamped = RecoveredTrigger(target=0, mask=mask, pattern=pattern).stamp(x)
    np.testing.assert_allclose(stamped[0, 0], [[0.8, 0.5], [0.2, 0.2]], atol=1e-6)
    offset = np.full((1, 2, 2), 0.9, np.float32)
    added = RecoveredTrigger(target=0, mask=mask * 0, pattern=pattern, offset=offset).stamp(x)
    np.testing.assert_allclose(added[0, 0], np.ones((2, 2)), atol=1e-6)
    assert (x == np.float32(0.2)).all()


def test_child_streams_depend_on_their_names_alone() -> None:
    first = {name: child_rng(7, "detector", name).random(4) for name in ("a", "b", "c")}
    second = {name: child_rng(7, "detector", name).random(4) for name in ("c", "a")}
    for name, draws in second.items():
        np.testing.assert_array_equal(draws, first[name])


def test_child_streams_differ_by_name_and_by_seed() -> None:
    draws = [
        tuple(stream.random(2))
        for stream in (
            child_rng(7, "a"),
            child_rng(7, "b"),
            child_rng(8, "a"),
            child_rng(7, "a", 1),
            child_rng(7),
            make_rng(7),
        )
    ]
    assert len(set(draws)) == len(draws)


def test_seeds_for_others_follow_the_stream() -> None:
    one, two = make_rng(3), make_rng(3)
    seeds = [draw_seed(one) for _ in range(3)]
    assert seeds == [draw_seed(two) for _ in range(3)]
    assert len(set(seeds)) == 3
    assert all(0 <= seed < 2**31 for seed in seeds)


def decoded(png: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(png)))


def test_a_colour_picture_decodes_to_its_pixels() -> None:
    pixels = np.zeros((3, 2, 3), np.float32)
    pixels[0, 0, 0] = 1.0  # red at the top left
    pixels[1, 1, 2] = 0.5  # half green at the bottom right
    pixels[2, 0, 1] = 7.0  # clipped to full blue
    made = picture(pixels, "label")
    assert (made.label, made.width, made.height) == ("label", 3, 2)
    image = decoded(made.png)
    assert (image.format, image.mode, image.size) == ("PNG", "RGB", (3, 2))
    expected = np.zeros((2, 3, 3), np.uint8)
    expected[0, 0, 0], expected[1, 2, 1], expected[0, 1, 2] = 255, 128, 255
    np.testing.assert_array_equal(np.asarray(image), expected)


def test_a_grey_picture_decodes_to_its_pixels_and_nan_is_black() -> None:
    made = picture(np.array([[[0.2, np.nan], [-1.0, 1.0]]], np.float32), "")
    image = decoded(made.png)
    assert image.mode == "L"
    np.testing.assert_array_equal(np.asarray(image), [[51, 0], [0, 255]])


@pytest.mark.parametrize("shape", [(2, 4, 4), (4, 4), (1, 3, 4, 4)])
def test_other_shapes_are_no_picture(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="a picture has shape"):
        picture(np.zeros(shape, np.float32), "")


def test_exit_codes_of_errors() -> None:
    usage = (
        errors.GifthorseError,
        errors.SpecError,
        errors.PluginError,
        errors.DataError,
        errors.ModelError,
        errors.RecordError,
    )
    incomplete = (errors.IncompleteError, errors.NotApplicableError, errors.RepairRefusedError)
    assert {error.exit_code for error in usage} == {2}
    assert {error.exit_code for error in incomplete} == {3}
    assert all(issubclass(error, errors.GifthorseError) for error in usage + incomplete)
