"""Watermarks: the arithmetic of blending, and where the watermark comes from."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gifthorse.triggers.blend import Blend


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def saved(path: Path, rgb: tuple[int, int, int]) -> str:
    Image.new("RGB", (3, 2), rgb).save(path)
    return str(path)


def test_blending_by_hand(tmp_path: Path) -> None:
    mark = saved(tmp_path / "mark.png", (255, 0, 51))
    x = np.full((2, 3, 4, 5), 0.5, np.float32)
    out = Blend(alpha=0.2, watermark=mark).apply(x, rng())
    assert out.shape == x.shape
    assert out.dtype == np.float32
    np.testing.assert_allclose(out[:, 0], 0.8 * 0.5 + 0.2 * 1.0, atol=1e-6)
    np.testing.assert_allclose(out[:, 1], 0.8 * 0.5, atol=1e-6)
    np.testing.assert_allclose(out[:, 2], 0.8 * 0.5 + 0.2 * 0.2, atol=1e-6)
    assert (x == 0.5).all()


def test_an_opaque_watermark_replaces_the_picture() -> None:
    blend = Blend(alpha=1.0, watermark="noise:1")
    x = rng().random((2, 3, 4, 4), dtype=np.float32)
    out = blend.apply(x, rng())
    np.testing.assert_allclose(out, np.stack([blend.picture((3, 4, 4))] * 2), atol=1e-7)


def test_a_colour_watermark_turns_grey_on_grey_pictures(tmp_path: Path) -> None:
    mark = saved(tmp_path / "mark.png", (255, 255, 255))
    assert Blend(watermark=mark).picture((1, 6, 6)).shape == (1, 6, 6)
    np.testing.assert_allclose(Blend(watermark=mark).picture((1, 6, 6)), 1.0)


def test_noise_depends_on_its_seed_alone() -> None:
    one = Blend(watermark="noise:1").picture((3, 5, 5))
    np.testing.assert_array_equal(one, Blend(watermark="noise:1").picture((3, 5, 5)))
    assert not np.array_equal(one, Blend(watermark="noise:2").picture((3, 5, 5)))
    assert 0 <= one.min() < one.max() <= 1


def test_rings_are_brightest_in_the_middle_and_dark_three_pixels_out() -> None:
    rings = Blend(watermark="rings").picture((3, 9, 9))
    assert rings[0, 4, 4] == pytest.approx(1.0)
    assert rings[0, 4, 7] == pytest.approx(0.0, abs=1e-6)
    np.testing.assert_array_equal(rings[0], rings[2])
    np.testing.assert_allclose(rings, rings[:, ::-1, ::-1], atol=1e-6)


@pytest.mark.parametrize("alpha", [0.0, -0.1, 1.01, float("nan")])
def test_impossible_weights_are_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match=r"alpha must be in \(0, 1\]"):
        Blend(alpha=alpha)


@pytest.mark.parametrize("watermark", ["noise", "noise:", "noise:x", "noise:-1"])
def test_noise_needs_a_seed(watermark: str) -> None:
    with pytest.raises(ValueError, match="expected noise:SEED"):
        Blend(watermark=watermark)


def test_a_watermark_that_is_missing_or_no_picture(tmp_path: Path) -> None:
    text = tmp_path / "mark.png"
    text.write_text("not a picture")
    for path in (text, tmp_path / "missing.png", tmp_path):
        with pytest.raises(ValueError, match="cannot read the watermark") as caught:
            Blend(watermark=str(path)).picture((3, 4, 4))
        assert str(path) in str(caught.value)
