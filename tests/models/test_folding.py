"""Folding keeps the function, and refuses what it cannot fold."""

import torch
from torch import Tensor, nn

from gifthorse.models.classifier import ImageClassifier, Preprocessing
from gifthorse.models.folding import folded
from gifthorse.models.networks import bottleneck_network, small_network


class Net(nn.Module):
    """One convolution; its output goes to batch normalisation, and elsewhere too if ``leaky``."""

    def __init__(self, *, leaky: bool, norm: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4) if norm else nn.ReLU()
        if norm:
            nn.init.uniform_(self.get_parameter("norm.weight"), 0.5, 2.0)
            nn.init.uniform_(self.get_buffer("norm.running_mean"), -1, 1)
        self.head = nn.Linear(4, 3)
        self.leaky = leaky

    def forward(self, x: Tensor) -> Tensor:
        seen = self.convolution(x)
        out = self.norm(seen).relu()
        if self.leaky:
            out = out + seen
        logits: Tensor = self.head(out.mean((2, 3)))
        return logits


def classifier(module: nn.Module) -> ImageClassifier:
    with torch.random.fork_rng():
        return ImageClassifier(
            module,
            class_names=("a", "b", "c"),
            preprocessing=Preprocessing(mean=(0.5,) * 3, std=(0.5,) * 3, size=(8, 8)),
        )


def batch_norms(model: ImageClassifier) -> int:
    return sum(isinstance(layer, nn.BatchNorm2d) for layer in model.module.modules())


def test_our_networks_are_folded_and_stay_the_same_function() -> None:
    names = tuple(map(str, range(5)))
    for make in (small_network, bottleneck_network):
        model = make(image_shape=(3, 16, 16), class_names=names, seed=0, width=8)
        quick = folded(model)
        assert batch_norms(model) > 0
        assert batch_norms(quick) == 0
        x = torch.rand((3, 3, 16, 16), generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(quick.logits(x), model.logits(x), rtol=1e-3, atol=1e-4)
        assert quick.meter is model.meter


def test_statistics_and_scales_are_part_of_the_folded_weights() -> None:
    with torch.random.fork_rng():
        model = classifier(Net(leaky=False))
    quick = folded(model)
    assert batch_norms(quick) == 0
    x = torch.rand((4, 3, 8, 8), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(quick.logits(x), model.logits(x), rtol=1e-4, atol=1e-5)


def test_an_output_that_goes_elsewhere_too_is_not_folded() -> None:
    with torch.random.fork_rng():
        model = classifier(Net(leaky=True))
    assert folded(model) is model


def test_without_batch_normalisation_nothing_is_copied() -> None:
    with torch.random.fork_rng():
        model = classifier(Net(leaky=False, norm=False))
    assert folded(model) is model


class Padded(nn.Conv2d):
    """Pads by a layer of its own, as EfficientNet's convolutions do."""

    def __init__(self) -> None:
        super().__init__(3, 4, 3)
        self.padding_layer = nn.ZeroPad2d((0, 1, 0, 1))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.padding_layer(x))


class Scaled(nn.Conv2d):
    """Standardises its weights on the way, so folding into them would change the function."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self._conv_forward(x, self.weight / self.weight.std(), self.bias)
        return out


def test_convolutions_of_other_kinds_are_folded_only_if_that_keeps_the_function() -> None:
    x = torch.rand((4, 3, 8, 8), generator=torch.Generator().manual_seed(1))
    with torch.random.fork_rng():
        net = Net(leaky=False)
        net.convolution = Padded()
        padded = classifier(net)
        net.convolution = Scaled(3, 4, 3)
        scaled = classifier(net)
    quick = folded(padded)
    assert batch_norms(quick) == 0
    torch.testing.assert_close(quick.logits(x), padded.logits(x), rtol=1e-4, atol=1e-5)
    assert folded(scaled) is scaled
