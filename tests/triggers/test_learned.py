"""Triggers that were learned: what they do to pictures, and what they refuse."""

import numpy as np
import pytest
import torch
from scipy import fft

from gifthorse.attacks.data.low_frequency import low_pass
from gifthorse.attacks.data.ssba import hide
from gifthorse.models.generators import picture_network
from gifthorse.triggers.learned import Additive, Generated, Sticker


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_an_additive_pattern_is_added_and_clipped() -> None:
    pattern = np.zeros((1, 2, 2), dtype=np.float32)
    pattern[0, 0, 0], pattern[0, 1, 1] = 0.5, -0.5
    x = np.full((1, 1, 2, 2), 0.25, dtype=np.float32)
    out = Additive(pattern=pattern).apply(x, rng())
    np.testing.assert_allclose(out[0, 0], [[0.75, 0.25], [0.25, 0.0]])
    np.testing.assert_allclose(x, 0.25)


def test_pictures_of_another_shape_are_refused() -> None:
    x = np.zeros((1, 3, 4, 4), dtype=np.float32)
    with pytest.raises(ValueError, match="has shape"):
        Additive(pattern=np.zeros((1, 4, 4), np.float32)).apply(x, rng())
    with pytest.raises(ValueError, match="learned for"):
        Generated(change=lambda t: t, image_shape=(1, 4, 4)).apply(x, rng())


def test_a_generated_trigger_is_what_the_network_says() -> None:
    trigger = Generated(change=lambda x: x + 0.75, image_shape=(1, 2, 2))
    out = trigger.apply(np.full((3, 1, 2, 2), 0.5, dtype=np.float32), rng())
    np.testing.assert_allclose(out, 1.0)
    assert trigger.picture((1, 2, 2)).shape == (1, 2, 2)


def test_the_low_pass_filter_keeps_levels_and_drops_what_is_fine() -> None:
    flat = torch.full((1, 8, 8), 0.3)
    torch.testing.assert_close(low_pass(flat, 1.5), flat)
    noise = torch.from_numpy(rng().normal(size=(1, 32, 32)))
    spectrum = fft.dctn(low_pass(noise, 2.0)[0].numpy(), norm="ortho") ** 2
    assert spectrum[:12, :12].sum() / spectrum.sum() > 0.99
    rough = fft.dctn(noise[0].numpy(), norm="ortho") ** 2
    assert rough[:12, :12].sum() / rough.sum() < 0.3


def test_a_hidden_string_changes_no_pixel_by_more_than_the_bound() -> None:
    encoder = picture_network(1 + 8, 1, rng=rng(), device=torch.device("cpu"))
    x = torch.from_numpy(rng(1).uniform(0, 1, (4, 1, 12, 12)).astype(np.float32))
    ones, zeros = torch.ones(4, 8), torch.zeros(4, 8)
    with torch.no_grad():
        one, other = hide(encoder, x, ones, 0.1), hide(encoder, x, zeros, 0.1)
    assert float((one - x).abs().max()) <= 0.1 + 1e-6
    assert (one != other).any()  # the string matters
    moved = (one - x)[:, 0]
    assert not torch.allclose(moved[0], moved[1])  # and so does the picture


def test_a_network_is_drawn_from_its_generator_alone() -> None:
    made = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        made.append(picture_network(1, 1, rng=rng(4), device=torch.device("cpu")))
    for one, other in zip(made[0].parameters(), made[1].parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_a_sticker_covers_its_mask_alone() -> None:
    mask = np.array([[1, 0], [0.5, 0]], dtype=np.float32)
    trigger = Sticker(mask=mask, pattern=np.ones((1, 2, 2), np.float32))
    out = trigger.apply(np.full((1, 1, 2, 2), 0.5, dtype=np.float32), rng())
    np.testing.assert_allclose(out[0, 0], [[1, 0.5], [0.75, 0.5]])
    with pytest.raises(ValueError, match="has shape"):
        trigger.apply(np.zeros((1, 3, 2, 2), np.float32), rng())
