"""SCALE-UP, IBD-PSC, TeCo and TED against numbers worked out by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from gifthorse.core.types import silent
from gifthorse.data.images import ArrayImages
from gifthorse.detectors.inputs.calibrated import rank_of
from gifthorse.detectors.inputs.corruptions import CORRUPTIONS, SEVERITIES, corrupted
from gifthorse.detectors.inputs.ibd_psc import IbdPsc
from gifthorse.detectors.inputs.scale_up import ScaleUp
from gifthorse.detectors.inputs.teco import breaking_severities
from gifthorse.detectors.inputs.ted import _trajectories
from gifthorse.models.classifier import ImageClassifier, Preprocessing
from gifthorse.models.networks import small_network


class Bright(nn.Module):
    """Class 1 if the mean exceeds a half."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = x.mean((1, 2, 3))
        return torch.stack([torch.zeros_like(mean), 10 * (mean - 0.5)], dim=1)


def bright() -> ImageClassifier:
    return ImageClassifier(
        Bright(),
        class_names=("dark", "bright"),
        preprocessing=Preprocessing(mean=(0.0,), std=(1.0,), size=(8, 8)),
    )


def flat(*values: float) -> torch.Tensor:
    return torch.tensor(values)[:, None, None, None].expand(-1, 1, 8, 8).clone()


def test_scaled_prediction_consistency_by_hand() -> None:
    # .2 stays dark at ×2 (.4) and turns bright at ×3 … ×5; .9 and .02 never change.
    share, classes = ScaleUp(scales=5).consistency(bright(), flat(0.2, 0.9, 0.02))
    np.testing.assert_allclose(share, [0.25, 1, 1])
    np.testing.assert_array_equal(classes, [0, 1, 0])


def test_severities_at_which_a_class_breaks_by_hand() -> None:
    found = breaking_severities(bright(), flat(0.35, 0.05), torch.Generator().manual_seed(0))
    at = list(CORRUPTIONS).index("brightness")
    assert found.shape == (2, len(CORRUPTIONS))
    assert found[:, at].tolist() == [2, 5]  # .35 + .2 and .05 + .5 pass a half
    assert found[:, list(CORRUPTIONS).index("blur")].tolist() == [6, 6]


@pytest.mark.parametrize("kind", list(CORRUPTIONS))
def test_corruptions_keep_pictures_pictures_and_grow(kind: str) -> None:
    x = torch.rand((4, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    kept = x.clone()
    moves = []
    for severity in range(1, SEVERITIES + 1):
        out = corrupted(x, kind, severity, torch.Generator().manual_seed(0))
        assert out.shape == x.shape
        assert 0 <= float(out.min()) <= float(out.max()) <= 1
        moves.append(float((out - x).abs().mean()))
    assert moves[-1] > moves[0] > 0
    assert torch.equal(x, kept)


def test_ranks_of_the_nearest_of_the_own_class_by_hand() -> None:
    neighbours = torch.tensor([[0.0], [1.0], [2.0], [10.0]])
    classes = torch.tensor([0, 0, 1, 1])
    ways = _trajectories(
        [torch.tensor([[0.4], [0.4]])], [neighbours], torch.tensor([0, 1]), classes, leave_out=False
    )
    np.testing.assert_allclose(ways[:, 0], np.log1p([0, 2]))
    own = _trajectories([neighbours], [neighbours], classes, classes, leave_out=True)
    # Without itself, the nearest of 10's class is 2, which no other is nearer than.
    np.testing.assert_allclose(own[:, 0], np.log1p([0, 0, 2, 0]))


def test_amplified_networks_differ_in_what_they_should() -> None:
    model = small_network(image_shape=(1, 12, 12), class_names=("a", "b"), seed=0, width=4)
    data = ArrayImages(
        name="noise",
        pixels=np.random.default_rng(0).integers(0, 256, (30, 1, 12, 12), dtype=np.uint8),
        labels=np.arange(30, dtype=np.int64) % 2,
        class_names=("a", "b"),
    )
    detector = IbdPsc(networks=2, omega=2.0, error=0.01)
    first, second = detector.amplified(model, data)
    before = dict(model.module.named_parameters())

    def scaled(network: ImageClassifier) -> list[str]:
        values = dict(network.module.named_parameters())
        return [k for k, v in values.items() if not torch.equal(v, before[k])]

    assert 0 < len(scaled(first)) < len(scaled(second))
    assert set(scaled(first)) < set(scaled(second))
    for key in scaled(first):
        torch.testing.assert_close(dict(first.module.named_parameters())[key], 2 * before[key])
    score, normal = detector.scorer(model, data, np.random.default_rng(0), silent)
    assert ((normal >= 0) & (normal <= 1)).all()
    x = torch.from_numpy(data.batch(np.arange(30)))
    np.testing.assert_allclose(score(x), normal, atol=1e-6)


def test_the_rank_that_shows_a_rate() -> None:
    assert rank_of(0.01, 99) == 1
    assert rank_of(0.01, 199) == 2
    assert rank_of(0.01, 20) == 1
