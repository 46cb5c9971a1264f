"""Known answers on networks small enough to follow by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from gifthorse.core.errors import NotApplicableError
from gifthorse.core.types import FloatArray, IntArray, Subject, silent
from gifthorse.data.images import ArrayImages
from gifthorse.models.classifier import ImageClassifier, Preprocessing
from gifthorse.models.passes import predict_logits
from gifthorse.repairs.channels import find_channels, guarded, mean_activations, silence
from gifthorse.repairs.fine_pruning import FinePruning

ORDER = np.array([2, 0, 3, 1])
"""Channels of ``by_hand``, the least active first."""


def wrapped(module: nn.Module, *, classes: int = 2, size: int = 4) -> ImageClassifier:
    return ImageClassifier(
        module,
        class_names=tuple(str(i) for i in range(classes)),
        preprocessing=Preprocessing(mean=(0.0,), std=(1.0,), size=(size, size)),
    )


def by_hand(*, flatten: bool = False) -> ImageClassifier:
    """Channel i answers gain_i · brightness; class 1 wins if 0.7 · (channels 1 and 3) > 0.5.

    Gains .2, .9, .1, .8: so channels 2 and 0 are dormant and without influence, 3 and 1 decide.
    """
    convolution = nn.Conv2d(1, 4, 1, bias=False)
    linear = nn.Linear(64 if flatten else 4, 2)
    per_channel = torch.tensor([0.0, 0.7, 0.0, 0.7])
    with torch.no_grad():
        convolution.weight.copy_(torch.tensor([0.2, 0.9, 0.1, 0.8]).view(4, 1, 1, 1))
        linear.weight.zero_()
        linear.weight[1] = per_channel.repeat_interleave(16) / 16 if flatten else per_channel
        linear.bias.copy_(torch.tensor([0.5, 0.0]))
    pool: list[nn.Module] = [] if flatten else [nn.AdaptiveAvgPool2d(1)]
    return wrapped(nn.Sequential(convolution, nn.ReLU(), *pool, nn.Flatten(), linear))


def levels(values: list[float]) -> ArrayImages:
    """Uniform pictures; those brighter than a half are of class 1."""
    pixels = np.repeat(np.array(values)[:, None], 16, axis=1).reshape(-1, 1, 4, 4)
    labels = (np.array(values) > 0.5).astype(np.int64)
    return ArrayImages.from_floats(pixels, labels, name="levels", class_names=("0", "1"))


def one(size: int = 4) -> FloatArray:
    return np.full((1, 1, size, size), 0.5, dtype=np.float32)


@pytest.mark.parametrize("flatten", [False, True])
def test_owners_and_order_by_hand(flatten: bool) -> None:
    model = by_hand(flatten=flatten)
    channels = find_channels(model, one())
    assert (channels.convolution, channels.linear) == ("0", "3" if flatten else "4")
    np.testing.assert_array_equal(channels.owner, np.arange(4).repeat(16 if flatten else 1))
    found = mean_activations(model, channels, levels([0.2, 0.6]))
    np.testing.assert_allclose(found, np.array([0.2, 0.9, 0.1, 0.8]) * 0.4, rtol=1e-3)
    np.testing.assert_array_equal(np.argsort(found), ORDER)


@pytest.mark.parametrize("step", [0.01, 0.5])
def test_the_last_good_network_is_kept(step: float) -> None:
    # Without 2 and 0 nothing changes; without 3 the picture at .6 gives .63 · .6 < .5 as well.
    model, data = by_hand(), levels([0.1, 0.2, 0.6, 0.7])
    channels = find_channels(model, one())
    activations = mean_activations(model, channels, data)
    before = model.digest()
    pruned = FinePruning(step=step).choose(model, channels, activations, data, silent)
    np.testing.assert_array_equal(pruned, ORDER[:2])
    assert model.digest() == before


def test_the_allowed_drop_decides_where_it_stops() -> None:
    model, data = by_hand(), levels([0.1, 0.2, 0.6, 0.9])
    channels = find_channels(model, one())
    activations = mean_activations(model, channels, data)

    def chosen(allowed: float) -> IntArray:
        plugin = FinePruning(allowed_drop=allowed)
        return plugin.choose(model, channels, activations, data, silent)

    np.testing.assert_array_equal(chosen(0.24), ORDER[:2])
    np.testing.assert_array_equal(chosen(0.25), ORDER[:3])  # .6 is lost, .9 · .63 > .5 is not
    np.testing.assert_array_equal(chosen(1.0), ORDER[:3])  # never the last channel


def test_silenced_channels_are_silent_in_a_residual_network(trained: ImageClassifier) -> None:
    pixels = one(12)
    channels = find_channels(trained, pixels)
    assert channels.count == len(channels.owner) == 16
    silenced = trained.replaced(trained.module)
    silence(silenced.module, channels, np.array([3, 7]))
    x = torch.rand(8, 1, 12, 12)
    _, features = trained.logits_and_features(x)
    features[:, [3, 7]] = 0
    head = trained.module.get_submodule(channels.linear)
    torch.testing.assert_close(silenced.logits(x), head(features))


def test_pruned_channels_stay_pruned_while_the_rest_is_tuned(
    trained: ImageClassifier, trusted: ArrayImages
) -> None:
    after = FinePruning(allowed_drop=1.0, step=0.5, min_steps=5, epochs=1).repair(
        Subject(model=trained, trusted=trusted), [], rng=np.random.default_rng(0), progress=silent
    )
    weight = after.module.get_submodule(find_channels(trained, one(12)).linear).weight
    assert isinstance(weight, torch.Tensor)
    assert int((weight == 0).all(dim=0).sum()) == 8
    assert not any(m._forward_pre_hooks for m in after.module.modules())


def test_the_guard_gives_pruned_channels_no_gradient() -> None:
    model = by_hand()
    channels = find_channels(model, one())
    module = guarded(model.module, channels, np.array([3]))
    module.requires_grad_(True)
    module(torch.rand(2, 1, 4, 4)).square().sum().backward()
    gradient = module.get_submodule(channels.linear).weight.grad
    assert isinstance(gradient, torch.Tensor)
    np.testing.assert_array_equal((gradient != 0).any(dim=0), [True, True, True, False])


def test_nothing_to_prune_is_plain_fine_tuning() -> None:
    model, data = by_hand(), levels([0.1, 0.2, 0.6, 0.7] * 4)
    plugin = FinePruning(step=1.0, epochs=1, min_steps=0, learning_rate=1e-6)
    after = plugin.repair(
        Subject(model=model, trusted=data), [], rng=np.random.default_rng(0), progress=silent
    )
    np.testing.assert_allclose(predict_logits(after, data), predict_logits(model, data), atol=1e-3)


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), "no convolutional layer"),
        (
            nn.Sequential(nn.Conv2d(1, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
            "no linear layer after",
        ),
        (
            nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(1, 4), nn.Flatten(), nn.Linear(16, 2)),
            "mix",
        ),
        (
            nn.Sequential(
                nn.Conv2d(1, 3, 1),
                nn.Flatten(2),
                nn.Linear(16, 2),
                nn.AdaptiveAvgPool2d((1, 2)),
                nn.Flatten(),
            ),
            "not one vector a picture",
        ),
    ],
)
def test_networks_that_cannot_be_pruned_are_told_why(module: nn.Module, reason: str) -> None:
    torch.manual_seed(0)
    with pytest.raises(NotApplicableError, match=reason):
        find_channels(wrapped(module), one())


@pytest.mark.parametrize(
    ("option", "value"), [("allowed_drop", 1.5), ("validation", 1.0), ("step", 0.0)]
)
def test_options_out_of_range(option: str, value: float) -> None:
    with pytest.raises(ValueError, match=option):
        FinePruning(**{option: value})  # type: ignore[arg-type]
