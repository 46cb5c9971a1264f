"""The adapter: pixels in, logits out, and nothing else touched."""

import os
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gifthorse.core.errors import ModelError, NotApplicableError
from gifthorse.core.types import Need
from gifthorse.models.classifier import (
    ImageClassifier,
    Preprocessing,
    as_classifier,
    memory_format,
)

NAMES = ("a", "b", "c")
PLAIN = Preprocessing(mean=(0.0,), std=(1.0,), size=(4, 4))


def linear(seed: int = 0, channels: int = 1, side: int = 4) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Flatten(), nn.Linear(channels * side * side, 5), nn.Tanh(), nn.Linear(5, 3)
        )


def convolutional() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 3, 2), nn.Flatten()
        )


def adapted(module: nn.Module | None = None, pre: Preprocessing = PLAIN) -> ImageClassifier:
    return ImageClassifier(module or linear(), class_names=NAMES, preprocessing=pre, name="toy")


def pictures(n: int = 2, shape: tuple[int, int, int] = (1, 4, 4)) -> Tensor:
    return torch.rand((n, *shape), generator=torch.Generator().manual_seed(3))


def test_pixels_are_normalised_by_channel() -> None:
    pre = Preprocessing(mean=(0.5, 0.0, 0.25), std=(0.5, 1.0, 0.25), size=(1, 1))
    model = adapted(nn.Flatten(), pre)
    # (1 − 0.5) / 0.5 = 1, (0.3 − 0) / 1 = 0.3, (0 − 0.25) / 0.25 = −1
    x = torch.tensor([1.0, 0.3, 0.0]).view(1, 3, 1, 1)
    torch.testing.assert_close(model.logits(x), torch.tensor([[1.0, 0.3, -1.0]]))


def test_logits_are_those_of_the_module_on_normalised_pixels() -> None:
    module = linear()
    model = adapted(module, Preprocessing(mean=(0.4,), std=(0.2,), size=(4, 4)))
    x = pictures()
    torch.testing.assert_close(model.logits(x), module((x - 0.4) / 0.2).detach())


def test_gradients_reach_the_pixels() -> None:
    model = adapted(linear(), Preprocessing(mean=(0.4,), std=(0.2,), size=(4, 4)))
    x = pictures(1).requires_grad_(True)
    model.logits(x)[0, 1].backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    step = 1e-2
    for row, column in [(0, 0), (1, 3), (3, 2)]:
        moved = torch.zeros_like(x)
        moved[0, 0, row, column] = step
        with torch.no_grad():
            rise = model.logits(x + moved)[0, 1] - model.logits(x - moved)[0, 1]
        assert float(x.grad[0, 0, row, column]) == pytest.approx(float(rise) / (2 * step), rel=0.02)


def test_gradients_pass_through_resizing() -> None:
    model = adapted(pre=Preprocessing(mean=(0.0,), std=(1.0,), size=(4, 4), resize=True))
    x = pictures(1, (1, 8, 8)).requires_grad_(True)
    model.logits(x).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert bool((x.grad != 0).any())


def test_resizing_by_hand() -> None:
    pre = Preprocessing(mean=(0.0,), std=(1.0,), size=(1, 3), resize=True)
    model = adapted(nn.Flatten(), pre)
    # Half the size with antialiasing: triangle weights 1 − |d| / 2 around the centres 1, 3, 5 of
    # six pixels. First: pixels at 0.5, 1.5, 2.5 weigh 0.75, 0.75, 0.25. Second: those at 1.5 … 4.5
    # weigh 0.25, 0.75, 0.75, 0.25.
    row = torch.tensor([1.0, 1.0, 0.0, 0.0, 0.0, 0.0]).expand(1, 1, 2, 6)
    torch.testing.assert_close(model.logits(row), torch.tensor([[1.5 / 1.75, 0.25 / 2, 0.0]]))


def test_the_given_module_is_not_changed() -> None:
    module = convolutional().train()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    model = adapted(module)
    model.logits(pictures(4))
    model.module.requires_grad_(True).train()
    model.module(pictures(4))
    assert module.training
    assert all(parameter.requires_grad for parameter in module.parameters())
    for key, value in module.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)
    assert not any(len(layer._forward_pre_hooks) for layer in module.modules())


def test_the_copy_is_frozen_and_in_evaluation_mode() -> None:
    model = adapted(convolutional().train())
    assert not model.module.training
    assert not any(parameter.requires_grad for parameter in model.module.parameters())
    with torch.no_grad():
        alone, together = model.logits(pictures(4)[:1]), model.logits(pictures(4))[:1]
    torch.testing.assert_close(alone, together)


@pytest.mark.parametrize(
    ("shape", "resize", "expected"),
    [
        ((1, 4, 4), False, None),
        ((3, 4, 4), False, r"the pictures have 3 channel\(s\) and the model takes 1"),
        ((1, 8, 4), False, "the pictures are 8×4 pixels and the model takes 4×4"),
        ((1, 8, 4), True, None),
        ((3, 8, 4), True, "3 channel"),
    ],
)
def test_accepts_says_what_does_not_fit(
    shape: tuple[int, int, int], resize: bool, expected: str | None
) -> None:
    model = adapted(pre=Preprocessing(mean=(0.0,), std=(1.0,), size=(4, 4), resize=resize))
    reason = model.accepts(shape)
    if expected is None:
        assert reason is None
        assert model.logits(pictures(2, shape)).shape == (2, 3)
    else:
        with pytest.raises(ModelError, match=expected):
            model.logits(pictures(2, shape))


def test_features_are_the_input_of_the_last_linear_layer() -> None:
    module = linear()
    model = adapted(module)
    x = pictures()
    logits, features = model.logits_and_features(x)
    torch.testing.assert_close(features, module[:3](x).detach())
    torch.testing.assert_close(logits, module(x).detach())
    assert model.feature_layer == "input of 3"


def test_the_head_is_the_last_one_called_not_the_last_one_defined() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(16, 3)
            self.unused = nn.Linear(16, 3)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.head(x.flatten(1))
            return out

    model = adapted(Odd())
    assert model.feature_layer == "input of head"
    torch.testing.assert_close(model.logits_and_features(pictures())[1], pictures().flatten(1))


def test_a_hidden_layer_as_wide_as_the_classes_is_not_the_head() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        module = nn.Sequential(nn.Flatten(), nn.Linear(16, 3), nn.Tanh(), nn.Linear(3, 3))
    model = adapted(module)
    assert model.feature_layer == "input of 3"
    _, features = model.logits_and_features(pictures())
    torch.testing.assert_close(features, module[:3](pictures()).detach())


def test_without_a_linear_head_the_logits_are_the_features() -> None:
    model = adapted(convolutional())
    logits, features = model.logits_and_features(pictures())
    assert model.feature_layer == "logits"
    torch.testing.assert_close(features, logits)


def test_objects_with_logits_are_understood() -> None:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = linear()

        def forward(self, x: Tensor) -> SimpleNamespace:
            return SimpleNamespace(logits=self.inner(x))

    torch.testing.assert_close(adapted(Wrapped()).logits(pictures()), linear()(pictures()).detach())


def test_capture_collects_a_layer_and_lets_go_of_it() -> None:
    model = adapted()
    with model.capture("1") as outputs:
        model.logits(pictures())
        model.logits(pictures(1))
    model.logits(pictures())
    assert [tuple(out.shape) for out in outputs] == [(2, 5), (1, 5)]


def test_capture_of_a_layer_that_does_not_exist() -> None:
    with (
        pytest.raises(ModelError, match=r"toy has no layer 'conv9'; its last ones are: .*3"),
        adapted().capture("conv9"),
    ):
        pass


def test_the_digest_is_stable() -> None:
    first = adapted().digest()
    assert first.startswith("sha256:")
    model = adapted()
    assert model.digest() == first
    model.logits(pictures())
    assert model.digest() == first == model.replaced(model.module, name="other").digest()


def nudged(key: str) -> ImageClassifier:
    model = adapted(convolutional())
    state = model.module.state_dict()
    state[key] += 1  # in place
    return model


@pytest.mark.parametrize("key", list(convolutional().state_dict()))
def test_the_digest_changes_with_every_weight_and_buffer(key: str) -> None:
    assert nudged(key).digest() != adapted(convolutional()).digest()


@pytest.mark.parametrize(
    "pre",
    [
        Preprocessing(mean=(0.1,), std=(1.0,), size=(4, 4)),
        Preprocessing(mean=(0.0,), std=(0.9,), size=(4, 4)),
        Preprocessing(mean=(0.0,), std=(1.0,), size=(4, 4), resize=True),
    ],
)
def test_the_digest_changes_with_preprocessing(pre: Preprocessing) -> None:
    assert adapted(pre=pre).digest() != adapted().digest()


def test_the_digest_changes_with_the_class_names() -> None:
    other = ImageClassifier(linear(), class_names=("a", "c", "b"), preprocessing=PLAIN)
    assert other.digest() != adapted().digest()


def test_passes_are_counted() -> None:
    model = adapted()
    x = pictures(3)
    model.logits(x)
    model.logits_and_features(x[:2])
    assert (model.meter.forward, model.meter.backward) == (5, 0)
    x.requires_grad_(True)
    model.logits(x).sum().backward()  # type: ignore[no-untyped-call]
    assert (model.meter.forward, model.meter.backward) == (8, 3)


def test_a_model_offers_everything_and_has_a_shape() -> None:
    model = adapted()
    assert model.offers == {Need.LOGITS, Need.GRADIENTS, Need.WEIGHTS}
    assert model.input_shape == (1, 4, 4)
    assert (model.n_classes, model.class_names, model.name) == (3, NAMES, "toy")


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: adapted(linear(channels=3)), r"toy fails on a picture of shape \(1, 4, 4\)"),
        (lambda: adapted(nn.Flatten()), r"logits of shape \(2, 16\); expected \(2, 3\)"),
        (lambda: adapted(nn.LSTM(4, 3, batch_first=True)), "toy"),
        (lambda: adapted(pre=Preprocessing(mean=(0.0,), std=(1.0,))), "size is not known"),
        (lambda: Preprocessing(mean=(0.0,), std=(0.0,)), "std .* positive"),
        (lambda: Preprocessing(mean=(float("nan"),), std=(1.0,)), "must be finite"),
        (lambda: Preprocessing(mean=(0.0,), std=(float("inf"),)), "must be finite"),
        (lambda: Preprocessing(mean=(0.0, 0.0), std=(1.0,)), "one value a channel"),
        (lambda: Preprocessing(mean=(), std=()), "one value a channel"),
    ],
)
def test_misfits_are_model_errors(make: Callable[[], object], expected: str) -> None:
    with pytest.raises(ModelError, match=expected):
        make()


def test_only_image_classifiers_are_examined() -> None:
    model = adapted()
    assert as_classifier(model) is model
    with pytest.raises(NotApplicableError, match="given none"):
        as_classifier(None)


def test_shapes_survive_channels_last() -> None:
    x = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4) / 16
    model = ImageClassifier(
        nn.Flatten(), class_names=tuple(map(str, range(16))), preprocessing=PLAIN
    )
    np.testing.assert_array_equal(model.logits(torch.from_numpy(x)).numpy()[0], x.ravel())


NARROW = """
import torch
from torch import nn
from gifthorse.models.classifier import ImageClassifier, Preprocessing

torch.set_num_threads(1)
pre = Preprocessing(mean=(0.5,) * 4, std=(0.5,) * 4, size=(28, 28))
for _ in range(3):
    shortcut = nn.Conv2d(4, 8, 1, stride=2, bias=False)
    module = nn.Sequential(shortcut, nn.Flatten(), nn.Linear(1568, 2))
    model = ImageClassifier(module, class_names=("a", "b"), preprocessing=pre)
    model.module.requires_grad_(True)
    for _ in range(20):
        x = torch.rand(7, 4, 28, 28, requires_grad=True)
        model.logits(x).square().mean().backward()
        neighbours = [torch.rand(n) for n in (9, 50, 100, 300, 1000)]
        model.module.zero_grad()
print("whole")
"""


def test_a_narrow_network_trains_on_a_processor_of_avx2_and_no_more() -> None:
    """Channels last, the process died there of a corrupted heap; see ``memory_format``."""
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2", "MALLOC_PERTURB_": "7"}
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", NARROW], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "whole\n")


def test_wide_networks_lie_channels_last() -> None:
    wide = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1, stride=2))
    assert memory_format(wide) == torch.channels_last
    wide.append(nn.Conv2d(4, 8, 1, stride=2))
    assert memory_format(wide) == torch.contiguous_format
