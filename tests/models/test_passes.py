"""Passes over a whole data set: the same in any batch size, metered, and never with NaN."""

import numpy as np
import pytest
import torch
from torch import nn

from gifthorse.core.errors import ModelError
from gifthorse.core.types import FloatArray
from gifthorse.data.images import ArrayImages
from gifthorse.models.classifier import ImageClassifier, Preprocessing
from gifthorse.models.passes import extract_features, metered, predict, predict_logits, to_tensor


def classifier(*, broken: bool = False, resize: bool = False) -> ImageClassifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = nn.Linear(4, 3)
        module = nn.Sequential(nn.Flatten(), nn.Linear(9, 4), nn.ReLU(), head)
    if broken:
        with torch.no_grad():
            head.bias[1] = float("nan")
    pre = Preprocessing(mean=(0.5,), std=(0.5,), size=(3, 3), resize=resize)
    return ImageClassifier(module, class_names=("a", "b", "c"), preprocessing=pre, name="toy")


def images(n: int = 11, channels: int = 1, side: int = 3) -> ArrayImages:
    rng = np.random.default_rng(0)
    return ArrayImages(
        name="noise",
        pixels=rng.integers(0, 256, (n, channels, side, side), dtype=np.uint8),
        labels=np.arange(n, dtype=np.int64) % 3,
        class_names=("a", "b", "c"),
    )


def direct(model: ImageClassifier, data: ArrayImages, depth: int = 4) -> FloatArray:
    """What the first layers of the module give, without the adapter."""
    x = torch.from_numpy(data.pixels / 127.5 - 1).float()
    for layer in list(model.module.children())[:depth]:
        x = layer(x)
    return np.asarray(x.numpy(), dtype=np.float32)


@pytest.mark.parametrize("batch_size", [1, 4, 11, 100])
def test_logits_do_not_depend_on_the_batch_size(batch_size: int) -> None:
    model, data = classifier(), images()
    logits = predict_logits(model, data, batch_size=batch_size)
    assert logits.shape == (11, 3)
    np.testing.assert_allclose(logits, direct(model, data), atol=1e-5)


def test_predictions_are_the_largest_logits() -> None:
    model, data = classifier(), images()
    predictions = predict(model, data)
    assert predictions.dtype == np.int64
    np.testing.assert_array_equal(predictions, direct(model, data).argmax(1))


def test_features_and_predictions_come_in_one_pass() -> None:
    model, data = classifier(), images()
    features = extract_features(model, data, batch_size=4)
    assert model.meter.forward == 11
    np.testing.assert_array_equal(features.predictions, predict(model, data))
    np.testing.assert_allclose(features.values, direct(model, data, depth=3), atol=1e-5)
    assert features.layer == "input of 3"


def test_progress_is_told_to_the_end() -> None:
    told: list[tuple[int, int]] = []
    predict_logits(
        classifier(), images(), batch_size=4, progress=lambda done, of, _: told.append((done, of))
    )
    assert told == [(4, 11), (8, 11), (11, 11)]


def test_nan_logits_are_a_model_error() -> None:
    with pytest.raises(ModelError, match="toy gives NaN or infinite logits"):
        predict_logits(classifier(broken=True), images())
    with pytest.raises(ModelError, match="toy gives NaN or infinite logits"):
        extract_features(classifier(broken=True), images())


def test_one_channel_does_not_pass_for_three() -> None:
    with pytest.raises(ModelError, match=r"3 channel\(s\) and the model takes 1"):
        predict(classifier(), images(channels=3))
    with pytest.raises(ModelError, match="6×6 pixels and the model takes 3×3"):
        predict(classifier(), images(side=6))


def test_pictures_of_another_size_are_resized_if_the_model_says_so() -> None:
    assert predict(classifier(resize=True), images(side=6)).shape == (11,)


def test_the_bill_counts_images_of_the_block_alone() -> None:
    one, two = classifier(), classifier()
    predict(one, images())
    with metered(one, two) as bill:
        predict(one, images(5))
        x = to_tensor(two, images(2).batch(np.arange(2))).requires_grad_(True)
        two.logits(x).sum().backward()  # type: ignore[no-untyped-call]
    predict(two, images())
    assert (bill.cost.forward_passes, bill.cost.backward_passes) == (7, 2)
    assert 0 < bill.cost.seconds < 60
    assert 10 < bill.cost.peak_memory_mib < 1e6


def test_the_bill_is_made_out_when_the_block_fails() -> None:
    model = classifier(broken=True)
    with pytest.raises(ModelError), metered(model) as bill:
        predict(model, images())
    assert bill.cost.forward_passes == 11
