"""Repairs against numbers worked out by hand."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from gifthorse.core.errors import NotApplicableError
from gifthorse.core.types import Subject, silent
from gifthorse.data.images import ArrayImages
from gifthorse.models.classifier import ImageClassifier, Preprocessing
from gifthorse.models.layers import stages_of
from gifthorse.models.lipschitz import channel_bounds, pairs_of
from gifthorse.repairs.bnp import Bnp, channel_divergences, gaussian_divergence
from gifthorse.repairs.clp import Clp, outlying
from gifthorse.repairs.ft_sam import disturbance
from gifthorse.repairs.i_bau import IBau
from gifthorse.repairs.nad import attention
from gifthorse.repairs.normalisation import Gates
from gifthorse.repairs.sau import jensen_shannon, unlearning_loss

CHANNELS = 16


class Tiny(nn.Module):
    """One convolution, one batch normalisation under another name order, one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(CHANNELS)
        self.convolution = nn.Conv2d(1, CHANNELS, 3, padding=1)
        self.head = nn.Linear(CHANNELS, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.norm(self.convolution(x)).relu().mean((2, 3)))
        return out


def tiny(*, loud: int | None = None) -> ImageClassifier:
    torch.manual_seed(0)
    module = Tiny()
    with torch.no_grad():
        module.convolution.weight.zero_()
        module.convolution.weight[:, 0, 1, 1] = 2.0
        module.norm.weight.fill_(0.5)
        module.norm.running_var.fill_(4 - module.norm.eps)  # type: ignore[union-attr]
        if loud is not None:
            module.norm.weight[loud] = -5.0
    return ImageClassifier(
        module,
        class_names=("a", "b"),
        preprocessing=Preprocessing(mean=(0.0,), std=(1.0,), size=(6, 6)),
    )


def pictures() -> ArrayImages:
    rng = np.random.default_rng(0)
    return ArrayImages.from_floats(
        rng.random((20, 1, 6, 6)), np.arange(20) % 2, name="noise", class_names=("a", "b")
    )


def test_the_bound_of_a_channel_by_hand() -> None:
    model = tiny(loud=3)
    (pair,) = pairs_of(model)
    assert (pair.convolution, pair.normalisation) == ("convolution", "norm")
    expected = np.full(CHANNELS, 2.0 * 0.5 / 2)
    expected[3] = 2.0 * 5 / 2
    np.testing.assert_allclose(channel_bounds(model, pair), expected)


def test_clp_prunes_the_loud_channel_and_nothing_of_the_twin() -> None:
    model, twin = tiny(loud=3), tiny()
    pruned, kept = (
        Clp().repair(Subject(model=m), [], rng=np.random.default_rng(0), progress=silent)
        for m in (model, twin)
    )
    weight = pruned.module.get_parameter("norm.weight")
    assert torch.nonzero(weight == 0).flatten().tolist() == [3]
    assert float(pruned.module.get_parameter("norm.bias")[3]) == 0
    assert kept.digest() == twin.digest()


def test_outlying_values_of_few_channels_are_left_alone() -> None:
    assert outlying(np.array([0.0] * 20 + [1.0]), 3.0).tolist() == [False] * 20 + [True]
    assert not outlying(np.array([0.0, 0, 9]), 0.1).any()


def test_the_divergence_of_two_normal_distributions() -> None:
    one = np.array([1.0])
    assert gaussian_divergence(one, one, one, one)[0] == 0
    # KL(N(0, 4) ‖ N(1, 1)) = (4 + 1 − 1 − ln 4) / 2
    found = gaussian_divergence(np.array([0.0]), np.array([4.0]), one, one)
    assert found[0] == pytest.approx((4 - math.log(4)) / 2)


def test_divergences_vanish_where_statistics_agree_and_bnp_prunes_where_they_do_not() -> None:
    model, data = tiny(), pictures()
    with torch.no_grad():
        x = model.normalise(torch.from_numpy(data.batch(np.arange(20))))
        out = model.module.get_submodule("convolution")(x)
        layer = model.module.get_submodule("norm")
        assert isinstance(layer, nn.BatchNorm2d)
        assert layer.running_mean is not None
        assert layer.running_var is not None
        layer.running_mean.copy_(out.mean((0, 2, 3)))
        layer.running_var.copy_(out.var((0, 2, 3), unbiased=False))
        assert channel_divergences(model, data, silent)["norm"].max() < 1e-6
        layer.running_mean[5] += 10
    fixed = Bnp().repair(
        Subject(model=model, trusted=data), [], rng=np.random.default_rng(0), progress=silent
    )
    weight = fixed.module.get_parameter("norm.weight")
    assert torch.nonzero(weight == 0).flatten().tolist() == [5]


def test_gates_of_one_change_nothing_and_gates_of_zero_silence() -> None:
    model = tiny(loud=3)
    gates = Gates(model)
    x = torch.from_numpy(pictures().batch(np.arange(4)))
    torch.testing.assert_close(gates.logits(x, gates.full(1.0)), model.logits(x))
    silent_logits = gates.logits(x, gates.full(0.0))
    bias = model.module.get_parameter("head.bias")
    torch.testing.assert_close(silent_logits, bias.expand(4, 2))


def test_the_disturbance_of_two_weights_by_hand() -> None:
    weights = [nn.Parameter(torch.tensor([3.0])), nn.Parameter(torch.tensor([-4.0]))]
    for weight in weights:
        weight.grad = torch.ones(1)
    first, second = disturbance(weights, rho=2.0, eta=0.0)
    assert float(first) == pytest.approx(2 * 9 / 5)
    assert float(second) == pytest.approx(2 * 16 / 5)


def test_attention_by_hand() -> None:
    maps = torch.tensor([[[[3.0, 0.0]], [[0.0, 2.0]]]])  # (1, 2, 1, 2)
    expected = torch.tensor([[4.5, 2.0]]) / math.hypot(4.5, 2)
    torch.testing.assert_close(attention(maps, 2.0), expected)


def test_stages_are_the_last_map_of_each_resolution() -> None:
    assert stages_of(tiny()) == ("norm",)


def test_the_hypergradient_of_no_iterations_is_the_plain_one() -> None:
    model, data = tiny(loud=3), pictures()
    model.module.requires_grad_(True)
    x, y = torch.from_numpy(data.batch(np.arange(8))), torch.from_numpy(data.labels[:8])
    delta = torch.full((1, 1, 6, 6), 0.1)
    plain = IBau(fixed_points=0, share=1.0).hypergradient(model, delta, x, y)
    loss = nn.functional.cross_entropy(model.logits((x + delta).clamp(0, 1)), y)
    expected = torch.autograd.grad(loss, list(model.module.parameters()))
    for found, wanted in zip(plain, expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_the_search_stays_in_its_ball_and_raises_the_loss() -> None:
    model, data = tiny(loud=3), pictures()
    x, y = torch.from_numpy(data.batch(np.arange(8))), torch.from_numpy(data.labels[:8])
    delta = IBau(radius=0.5).search(model, x, y)
    assert float(delta.norm()) <= 0.5 + 1e-5
    before = nn.functional.cross_entropy(model.logits(x), y)
    assert float(nn.functional.cross_entropy(model.logits((x + delta).clamp(0, 1)), y)) > before


def test_jensen_shannon_runs_from_zero_to_ln_2() -> None:
    sure = torch.tensor([[50.0, 0.0], [0.0, 50.0]])
    torch.testing.assert_close(jensen_shannon(sure, sure), torch.zeros(2))
    torch.testing.assert_close(
        jensen_shannon(sure, sure.flip(0)), torch.full((2,), math.log(2)), atol=1e-4, rtol=0
    )


def test_unlearning_counts_only_what_the_original_gets_wrong() -> None:
    logits, y = torch.zeros(2, 2), torch.tensor([0, 0])
    assert float(unlearning_loss(logits, torch.tensor([0, 1]), y)) == pytest.approx(math.log(2) / 2)


def test_a_network_without_batch_normalisation_is_refused() -> None:
    plain = nn.Sequential(nn.Flatten(), nn.Linear(36, 2))
    model = ImageClassifier(
        plain,
        class_names=("a", "b"),
        preprocessing=Preprocessing(mean=(0.0,), std=(1.0,), size=(6, 6)),
    )
    with pytest.raises(NotApplicableError, match="batch normalisation"):
        Clp().repair(Subject(model=model), [], rng=np.random.default_rng(0), progress=silent)
    with pytest.raises(NotApplicableError, match="feature maps"):
        stages_of(model)
