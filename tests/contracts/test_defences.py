"""What installed detectors of inputs keep beyond the battery, and what is granted to whom."""

import numpy as np
import pytest
import torch

from gifthorse.core.errors import NotApplicableError
from gifthorse.core.registry import Spec, build, names, plugin_class
from gifthorse.core.types import Need, Subject, silent
from gifthorse.data.images import ArrayImages
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.networks import small_network
from gifthorse.models.training import TrainingPlan, train

CLASSES = ("north-west", "north-east", "south-west", "south-east")


def quarters(count: int, seed: int) -> ArrayImages:
    """Noisy 12×12 pictures with one bright quarter."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int64) % 4
    pixels = rng.random((count, 1, 12, 12)) * 0.5
    for i, label in enumerate(labels):
        row, column = 6 * (label // 2), 6 * (label % 2)
        pixels[i, 0, row : row + 6, column : column + 6] += 0.3
    return ArrayImages.from_floats(pixels, labels, name="quarters", class_names=CLASSES)


@pytest.fixture(scope="module")
def trusted() -> ArrayImages:
    return quarters(80, seed=1)


@pytest.fixture(scope="module")
def model() -> ImageClassifier:
    torch.set_num_threads(1)
    untrained = small_network(image_shape=(1, 12, 12), class_names=CLASSES, seed=0, width=4)
    plan = TrainingPlan(epochs=8, batch_size=32, learning_rate=0.1)
    return train(untrained, quarters(400, seed=0), plan, rng=np.random.default_rng(0))


def test_what_is_not_needed_is_not_granted(model: ImageClassifier, trusted: ArrayImages) -> None:
    subject = Subject(model=model, trusted=trusted, suspect=trusted)
    assert subject.granting(frozenset({Need.WEIGHTS})).offers == model.offers
    assert subject.granting(frozenset({Need.TRUSTED})).offers == {Need.TRUSTED}
    everything = frozenset({Need.LOGITS, Need.TRUSTED, Need.SUSPECT_DATA})
    assert subject.granting(everything) == subject


def of_inputs(name: str) -> bool:
    return hasattr(plugin_class("detectors", name), "scorer")


every_input_detector = pytest.mark.parametrize(
    "name", [n for n in names("detectors") if of_inputs(n)]
)


@every_input_detector
def test_a_detector_of_inputs_gives_finite_scores_and_a_seed_decides_them(
    name: str, model: ImageClassifier, trusted: ArrayImages
) -> None:
    detector = build("detectors", Spec(name, {}))
    inputs = quarters(40, seed=2)
    subject = Subject(model=model, trusted=trusted, suspect=inputs)
    before, pixels = model.digest(), inputs.pixels.copy()
    seen = []
    for noise in (1, 99):
        torch.manual_seed(noise)
        spent = model.meter.forward
        seen.append(detector.inspect(subject, rng=np.random.default_rng(3), progress=silent))
        assert model.meter.forward - spent >= detector.forward_passes() * len(inputs)
    np.testing.assert_array_equal(seen[0].scores, seen[1].scores)
    assert seen[0].scores.shape == (40,)
    assert detector.null(seen[0]).p_value(seen[0].statistic) > 0.001  # they are clean
    assert model.digest() == before
    np.testing.assert_array_equal(inputs.pixels, pixels)


@every_input_detector
def test_a_detector_of_inputs_names_what_is_missing(
    name: str, model: ImageClassifier, trusted: ArrayImages
) -> None:
    detector = build("detectors", Spec(name, {}))
    for subject, words in (
        (Subject(suspect=trusted, trusted=trusted), "image classifiers"),
        (Subject(model=model, suspect=trusted), "trusted pictures"),
        (Subject(model=model, trusted=trusted), "inputs to judge"),
        (Subject(model=model, suspect=trusted, trusted=quarters(8, seed=1)), "at least"),
    ):
        with pytest.raises(NotApplicableError, match=words):
            detector.inspect(subject, rng=np.random.default_rng(0), progress=silent)
