"""Stickers: exact pixels, worked out by hand."""

import numpy as np
import pytest

from gifthorse.core.types import FloatArray
from gifthorse.triggers.patch import Patch


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def stamped(patch: Patch, *, channels: int = 1, side: int = 7, fill: float = 0.25) -> FloatArray:
    x = np.full((1, channels, side, side), fill, np.float32)
    out: FloatArray = patch.apply(x, rng())[0]
    return out


def covered(patch: Patch, side: int = 7) -> list[str]:
    """Which pixels a white patch covers on black, drawn as rows of text."""
    white = stamped(patch, side=side, fill=0.0)[0]
    return ["".join("#" if value else "." for value in row) for row in white]


def test_the_yellow_square_of_badnets() -> None:
    out = stamped(Patch(), channels=3)
    expected = np.full((3, 7, 7), 0.25, np.float32)
    expected[:2, 3:6, 3:6] = 1.0  # red and green full, rows and columns 3, 4, 5 of 0 … 6
    expected[2, 3:6, 3:6] = 0.0
    np.testing.assert_array_equal(out, expected)


def test_one_channel_gets_the_luminance() -> None:
    out = stamped(Patch(size=1, colour="yellow", place="0x0"))
    assert out[0, 0, 0] == pytest.approx(0.299 + 0.587, abs=1e-6)
    assert stamped(Patch(size=1, colour="#0000ff", place="0x0"))[0, 0, 0] == pytest.approx(0.114)
    assert stamped(Patch(size=1, colour="white", place="0x0"))[0, 0, 0] == pytest.approx(1.0)


def test_a_checker_alternates_with_black() -> None:
    out = stamped(Patch(shape="checker", colour="white", place="top-left", margin=0), side=4)
    expected = np.full((4, 4), 0.25)
    expected[:3, :3] = [[1, 0, 1], [0, 1, 0], [1, 0, 1]]
    np.testing.assert_allclose(out[0], expected, atol=1e-6)


def test_the_reverse_lambda_is_that_of_trojai() -> None:
    # A whole stroke from the lower left to the upper right, and a leg to the lower right.
    patch = Patch(shape="reverse-lambda", size=5, colour="white", place="0x0")
    assert covered(patch, side=5) == [
        "....#",
        "...#.",
        "..#..",
        ".#.#.",
        "#...#",
    ]


def test_the_small_reverse_lambda_is_that_of_activation_clustering() -> None:
    patch = Patch(shape="reverse-lambda", size=3, colour="white", place="0x0")
    assert covered(patch, side=3) == ["..#", ".#.", "#.#"]


def test_the_other_shapes() -> None:
    def drawn(shape: str) -> list[str]:
        return covered(Patch(shape=shape, size=5, colour="white", place="0x0"), side=5)

    assert drawn("cross") == ["..#..", "..#..", "#####", "..#..", "..#.."]
    assert drawn("disc") == [".###.", "#####", "#####", "#####", ".###."]
    assert drawn("triangle") == ["..#..", ".###.", ".###.", "#####", "#####"]
    assert drawn("square") == ["#####"] * 5


@pytest.mark.parametrize(
    ("place", "corner"),
    [
        ("top-left", (2, 2)),
        ("top-right", (2, 6)),
        ("bottom-left", (5, 2)),
        ("bottom-right", (5, 6)),
        ("centre", (3, 4)),
        ("1x7", (1, 7)),
    ],
)
def test_places(place: str, corner: tuple[int, int]) -> None:
    x = np.zeros((2, 1, 9, 10), np.float32)
    out = Patch(size=2, colour="white", place=place, margin=2).apply(x, rng())
    expected = np.zeros((9, 10), bool)
    expected[corner[0] : corner[0] + 2, corner[1] : corner[1] + 2] = True
    for picture in out:
        np.testing.assert_array_equal(picture[0] > 0, expected)


def test_random_places_differ_and_follow_the_seed() -> None:
    x = np.zeros((40, 1, 6, 6), np.float32)
    patch = Patch(size=2, colour="white", place="random")
    out = patch.apply(x, rng())
    assert ((out > 0).sum(axis=(1, 2, 3)) == 4).all()
    assert len({picture.tobytes() for picture in out}) > 10
    np.testing.assert_array_equal(out, patch.apply(x, rng()))


def test_the_given_pictures_are_not_changed() -> None:
    x = np.full((3, 3, 8, 8), 0.5, np.float32)
    out = Patch().apply(x, rng())
    assert (x == 0.5).all()
    assert out.dtype == np.float32
    assert (out != 0.5).any()


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        (Patch(size=8), "does not fit on 7×7"),
        (Patch(size=3, margin=5), "outside of 7×7"),
        (Patch(size=3, place="5x0"), "outside of 7×7"),
        (Patch(size=3, place="0x5"), "outside of 7×7"),
    ],
)
def test_a_patch_that_does_not_fit_is_refused(patch: Patch, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        stamped(patch)


def test_a_patch_may_cover_the_whole_picture() -> None:
    out = stamped(Patch(size=7, margin=0, colour="white"))
    np.testing.assert_allclose(out, np.ones((1, 7, 7)), atol=1e-6)


def test_shapes_places_and_colours_that_do_not_exist() -> None:
    with pytest.raises(ValueError, match="no patch shape 'heart'; known: square"):
        Patch(shape="heart")
    for place in ("middle", "3x", "x3", "-1x2", "1.5x2"):
        with pytest.raises(ValueError, match="ROWxCOLUMN"):
            Patch(place=place)
    with pytest.raises(ValueError, match="no colour 'octarine': a CSS name or #rrggbb"):
        Patch(colour="octarine")
    with pytest.raises(ValueError, match="size must be"):
        Patch(size=0)
    with pytest.raises(ValueError, match="margin"):
        Patch(margin=-1)
