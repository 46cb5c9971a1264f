"""Each trigger against an answer worked out by hand, and what all of them have in common."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import fft

from gifthorse.core.types import FloatArray
from gifthorse.triggers.blend import Blend
from gifthorse.triggers.combine import Faded, OneOf, Pieces
from gifthorse.triggers.frequency import Frequency
from gifthorse.triggers.patch import Patch
from gifthorse.triggers.quantise import Quantise
from gifthorse.triggers.reflection import Reflection
from gifthorse.triggers.sinusoid import Sinusoid
from gifthorse.triggers.tint import LOOKS, Tint
from gifthorse.triggers.trigger import Chain, Trigger, chart
from gifthorse.triggers.warp import Warp

ALL: list[Trigger] = [
    Patch(),
    Blend(),
    Sinusoid(),
    Warp(),
    Warp(noise=True),
    Frequency(),
    Quantise(),
    Tint(),
    Reflection(scenes=3),
    Chain((Sinusoid(), Patch())),
    OneOf((Patch(), Patch(place="top-left"))),
    Pieces(Blend(), tiles=4, kept=8),
    Faded(Patch(), 0.5),
]
each = pytest.mark.parametrize("trigger", ALL, ids=lambda t: type(t).__name__)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def pictures(n: int = 4, channels: int = 3, side: int = 16) -> FloatArray:
    return rng(5).uniform(0.1, 0.9, (n, channels, side, side)).astype(np.float32)


def grey(level: float, side: int = 8, channels: int = 3) -> FloatArray:
    return np.full((1, channels, side, side), level, dtype=np.float32)


@each
@pytest.mark.parametrize("channels", [1, 3])
def test_a_trigger_changes_a_copy_and_stays_in_range(trigger: Trigger, channels: int) -> None:
    x = pictures(channels=channels)
    before = x.copy()
    out = trigger.apply(x, rng())
    assert out.shape == x.shape
    assert out.dtype == np.float32
    assert 0 <= out.min() <= out.max() <= 1
    assert (out != x).any(axis=(1, 2, 3)).all()
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(trigger.apply(x, rng()), out)


@each
@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 12, 20)])
def test_a_trigger_renders_a_picture_of_itself(
    trigger: Trigger, shape: tuple[int, int, int]
) -> None:
    shown = trigger.picture(shape)
    assert shown.shape == shape
    assert shown.dtype == np.float32
    assert 0 <= shown.min() < shown.max() <= 1
    assert np.abs(shown - chart(shape)).max() > 1e-3


@pytest.mark.parametrize("trigger", [Sinusoid(), Warp(), Frequency(), Quantise(), Tint(), Blend()])
def test_a_picture_is_treated_alone(trigger: Trigger) -> None:
    """A batch of one gives what the first of a batch gets: nothing leaks between pictures."""
    x = pictures()
    np.testing.assert_allclose(
        trigger.apply(x[:1], rng())[0], trigger.apply(x, rng())[0], atol=1e-6
    )


def test_the_sinusoid_by_hand() -> None:
    out = Sinusoid(amplitude=0.2, frequency=2).apply(grey(0.5), rng())
    # Two periods over eight columns: the phase moves on by a quarter turn.
    expected = 0.5 + 0.2 * np.array([0, 1, 0, -1, 0, 1, 0, -1])
    np.testing.assert_allclose(out, np.broadcast_to(expected, out.shape), atol=1e-6)


def test_the_sinusoid_of_the_paper_in_levels() -> None:
    """The formula of the paper, v(i, j) = Δ sin(2πjf/m), in 256 levels on a black picture."""
    out = Sinusoid(amplitude=20 / 255, frequency=6).apply(grey(0.0, side=32), rng()) * 255
    columns = np.arange(32)
    expected = np.maximum(20 * np.sin(2 * np.pi * columns * 6 / 32), 0)
    np.testing.assert_allclose(out[0, 0, 7], expected, atol=1e-4)


def test_a_warp_of_almost_no_strength_is_the_identity() -> None:
    x = pictures(side=12)
    almost = Warp(strength=1e-9).apply(x, rng())
    np.testing.assert_allclose(almost, x, atol=1e-5)


def test_a_warp_reads_where_its_field_points() -> None:
    warp = Warp(strength=3.0, field=4)
    ramp = np.broadcast_to(np.linspace(-1, 1, 16), (1, 1, 16, 16)).astype(np.float32)
    # On a picture whose value is its own x coordinate, a warp returns the x of its field.
    seen = warp.apply(ramp / np.float32(2) + np.float32(0.5), rng())[0, 0]
    np.testing.assert_allclose(seen * 2 - 1, warp.places(16, 16)[:, :, 0], atol=1e-5)


def test_the_strength_of_a_warp_is_its_mean_displacement_at_the_control_points() -> None:
    warp = Warp(grid=4, strength=1.0, field=1)
    places = warp.places(4, 4)
    rows, columns = np.meshgrid(np.linspace(-1, 1, 4), np.linspace(-1, 1, 4), indexing="ij")
    moved = np.abs(places - np.stack([columns, rows], axis=2)) * 4
    drawn = np.random.default_rng(1).uniform(-1, 1, (2, 4, 4))
    wanted = np.abs(drawn / np.abs(drawn).mean()).transpose(1, 2, 0)
    inner = (slice(1, 3), slice(1, 3))  # at the border the field is cut off
    np.testing.assert_allclose(moved[inner], wanted[inner], atol=1e-6)


def test_another_field_is_another_warp_and_noise_differs_between_pictures() -> None:
    x = np.repeat(pictures(1), 2, axis=0)
    assert not np.allclose(Warp(field=0).apply(x, rng()), Warp(field=1).apply(x, rng()))
    noisy = Warp(noise=True).apply(x, rng())
    assert not np.allclose(noisy[0], noisy[1])


def test_frequency_raises_exactly_the_named_coefficients() -> None:
    x = grey(0.5, side=8, channels=1)
    out = Frequency(magnitude=0.4, block=8).apply(x, rng())
    change = fft.dctn(out[0, 0] - x[0, 0], norm="ortho")
    expected = np.zeros((8, 8))
    expected[7, 7] = expected[3, 3] = 0.4
    np.testing.assert_allclose(change, expected, atol=1e-5)


def test_frequency_leaves_the_brightness_of_colour_pictures_alone() -> None:
    x = grey(0.5, side=8)
    out = Frequency(magnitude=0.4, block=8).apply(x, rng())
    luma = np.einsum("c,nchw->nhw", [0.299, 0.587, 0.114], out - x)
    np.testing.assert_allclose(luma, 0, atol=1e-5)
    blue = fft.dctn((out - x)[0, 2], norm="ortho")
    assert blue[7, 7] == pytest.approx(0.4 * 2.03211, abs=1e-3)  # BT.601: B = Y + 2.03211 U


def test_frequency_works_block_by_block() -> None:
    wave = Frequency(magnitude=1.0, block=4).wave(8, 8)
    np.testing.assert_allclose(wave[:4, :4], wave[4:, 4:], atol=1e-7)


def test_quantisation_by_hand() -> None:
    x = np.array([0.0, 0.1, 0.2, 0.4, 0.5, 0.6, 0.9, 1.0], np.float32).reshape(1, 1, 1, 8)
    out = Quantise(bits=1, dither=False).apply(x, rng())
    np.testing.assert_array_equal(out.ravel(), [0, 0, 0, 0, 0, 1, 1, 1])
    # Floyd–Steinberg along one row: 7/16 of each error goes to the right.
    row = np.array([0.4, 0.4, 0.4], np.float32).reshape(1, 1, 1, 3)
    out = Quantise(bits=1, dither=True).apply(row, rng())
    # .4 → 0, error .4; .4 + .175 → 1, error −.425; .4 − .186 → 0.
    np.testing.assert_array_equal(out.ravel(), [0, 1, 0])


def test_dithering_keeps_the_mean() -> None:
    x = grey(0.3, side=32)
    coarse = Quantise(bits=1, dither=False).apply(x, rng())
    dithered = Quantise(bits=1, dither=True).apply(x, rng())
    assert coarse.mean() == 0
    assert dithered.mean() == pytest.approx(0.3, abs=0.02)
    assert set(np.unique(dithered)) == {0.0, 1.0}


def test_tints_by_hand() -> None:
    red = np.zeros((1, 3, 1, 1), np.float32)
    red[0, 0] = 0.5
    sepia = Tint(look="sepia").apply(red, rng())
    np.testing.assert_allclose(sepia.ravel(), [0.1965, 0.1745, 0.136], atol=1e-6)
    np.testing.assert_allclose(Tint(look="negative").apply(red, rng()).ravel(), [0.5, 1, 1])
    half = Tint(look="negative", strength=0.5).apply(red, rng())
    np.testing.assert_allclose(half.ravel(), [0.5, 0.5, 0.5])


@pytest.mark.parametrize("look", LOOKS)
def test_every_look_differs_from_the_picture_also_in_grey(look: str) -> None:
    for channels in (1, 3):
        x = pictures(channels=channels)
        assert np.abs(Tint(look=look).apply(x, rng()) - x).mean() > 0.01


def test_a_reflection_is_a_weighted_sum() -> None:
    reflection = Reflection(kind="focus", weight=0.25, seed=3)
    x = pictures()
    scene = reflection.scene(0, (3, 16, 16))
    np.testing.assert_allclose(reflection.apply(x, rng()), 0.75 * x + 0.25 * scene, atol=1e-6)


def test_a_ghost_shows_the_scene_twice() -> None:
    plain = Reflection(kind="focus", seed=3).scene(0, (3, 20, 20))
    ghost = Reflection(kind="ghost", seed=3).scene(0, (3, 20, 20))
    shifted = np.roll(plain, (2, 2), axis=(1, 2))
    np.testing.assert_allclose(ghost, 0.6 * plain + 0.4 * shifted, atol=1e-6)


def test_a_chain_applies_its_parts_in_order() -> None:
    x = grey(0.5)
    white = Patch(colour="white", size=2, margin=0)
    dark = Tint(look="negative")
    np.testing.assert_array_equal(Chain((white, dark)).apply(x, rng())[0, :, 6:, 6:], 0)
    np.testing.assert_array_equal(Chain((dark, white)).apply(x, rng())[0, :, 6:, 6:], 1)


def test_an_empty_chain_changes_nothing() -> None:
    x = pictures()
    np.testing.assert_array_equal(Chain(()).apply(x, rng()), x)


def test_one_of_gives_every_picture_exactly_one() -> None:
    first, second = (
        Patch(colour="white", size=2, margin=0, place="top-left"),
        Patch(colour="white", size=2, margin=0, place="bottom-right"),
    )
    out = OneOf((first, second)).apply(np.repeat(grey(0.0), 40, axis=0), rng())
    one, two = out[:, 0, 0, 0] == 1, out[:, 0, 7, 7] == 1
    assert (one ^ two).all()
    assert 5 < one.sum() < 35


def test_pieces_show_the_stated_number_of_tiles() -> None:
    white = Blend(alpha=1.0, watermark="noise:0")
    out = Pieces(white, tiles=4, kept=3).apply(np.repeat(grey(0.0), 6, axis=0), rng())
    lit = np.asarray(out[:, 0] > 0)
    tiles = np.asarray(lit.reshape(6, 4, 2, 4, 2).any(axis=(2, 4)))
    np.testing.assert_array_equal(tiles.sum(axis=(1, 2)), 3)
    assert not (tiles == tiles[0]).all()


def test_fading_by_hand() -> None:
    out = Faded(Patch(colour="white", size=2, margin=0), 0.25).apply(grey(0.4), rng())
    np.testing.assert_allclose(out[0, :, 7, 7], 0.4 * 0.75 + 0.25)
    np.testing.assert_allclose(out[0, :, 0, 0], 0.4)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Sinusoid(amplitude=0),
        lambda: Sinusoid(frequency=-1),
        lambda: Warp(grid=1),
        lambda: Warp(strength=0),
        lambda: Warp(field=-1),
        lambda: Frequency(magnitude=0),
        lambda: Frequency(middle=False, high=False),
        lambda: Frequency(block=1),
        lambda: Quantise(bits=0),
        lambda: Tint(look="valencia"),
        lambda: Tint(strength=0),
        lambda: Reflection(kind="mirror"),
        lambda: Reflection(weight=1),
        lambda: Reflection(scenes=0),
        lambda: Reflection(seed=-1),
        lambda: OneOf(()),
        lambda: Pieces(Patch(), tiles=2, kept=5),
        lambda: Faded(Patch(), 0),
    ],
)
def test_impossible_options_are_refused(make: Callable[[], Trigger]) -> None:
    with pytest.raises(ValueError, match=r"must be|no look|no kind|no trigger|at least one"):
        make()
