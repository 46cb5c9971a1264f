"""Beatrix against Gram matrices and deviations worked out by hand."""

import math

import numpy as np
import torch

from gifthorse.detectors.inputs.beatrix import _by_class, gram_entries


def test_gram_matrices_of_two_channels_by_hand() -> None:
    # F = [[1, 2], [3, -1]]: F Fᵀ = [[5, 1], [1, 10]], F² F²ᵀ = [[17, 13], [13, 82]].
    maps = torch.tensor([[[[1.0, 2.0]], [[3.0, -1.0]]]])
    found = gram_entries(maps, 2)[0].numpy()
    np.testing.assert_allclose(found, [5, 1, 10, math.sqrt(17), math.sqrt(13), math.sqrt(82)])


def test_a_root_keeps_the_sign() -> None:
    # One pixel, channels 2 and -1: F³ F³ᵀ = [[64, -8], [-8, 1]], cube roots 4, -2 and 1.
    maps = torch.tensor([[[[2.0]], [[-1.0]]]])
    np.testing.assert_allclose(gram_entries(maps, 3)[0, -3:].numpy(), [4, -2, 1])


def test_neighbours_are_averaged_among_many_channels() -> None:
    maps = torch.arange(128.0)[None, :, None, None]
    found = gram_entries(maps, 1)[0].numpy()
    assert len(found) == 64 * 65 // 2
    np.testing.assert_allclose(found[:2], [0.5 * 0.5, 0.5 * 2.5])


def test_a_class_has_its_own_median_and_spread_and_a_small_one_those_of_all() -> None:
    mine = np.array([0.0, 1, 2, 3, 10])  # median 2, deviations 2 1 0 1 8: their median 1
    few = np.array([20.0, 21])
    values = np.concatenate([mine, few])[:, None]
    centre, spread = _by_class(values, np.array([0] * 5 + [1] * 2), 3)
    np.testing.assert_allclose(centre[:, 0], [2, 3, 3])
    # Of all seven: median 3, deviations 3 2 1 0 7 17 18: their median 3.
    np.testing.assert_allclose(spread[:, 0], 1.4826 * np.array([1, 3, 3]))
