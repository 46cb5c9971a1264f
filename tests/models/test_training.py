"""The training loop learns, repeats itself under a seed, and refuses what cannot be trained."""

import numpy as np
import pytest
import torch
from torch import nn

from gifthorse.core.errors import DataError, ModelError
from gifthorse.data.images import ArrayImages
from gifthorse.models.classifier import ImageClassifier, Preprocessing
from gifthorse.models.networks import small_network
from gifthorse.models.passes import predict
from gifthorse.models.training import TrainingPlan, shifted, train

CLASSES = ("top", "bottom", "left", "right")


def bright_sides(n: int, seed: int, classes: tuple[str, ...] = CLASSES) -> ArrayImages:
    """Noise that is brighter at the side which its class names."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n, dtype=np.int64) % len(classes)
    pixels = rng.integers(0, 120, (n, 1, 8, 8), dtype=np.uint8)
    for side, area in enumerate((np.s_[:3], np.s_[5:], np.s_[:, :3], np.s_[:, 5:])):
        for i in np.flatnonzero(labels == side):
            pixels[i, 0][area] += 120
    return ArrayImages(name="sides", pixels=pixels, labels=labels, class_names=classes)


def untrained(seed: int = 0) -> ImageClassifier:
    return small_network(image_shape=(1, 8, 8), class_names=CLASSES, seed=seed, width=8)


PLAN = TrainingPlan(epochs=6, batch_size=32)


def test_it_learns_what_is_easy() -> None:
    fresh, test = bright_sides(400, 1), bright_sides(200, 2)
    student = train(untrained(), fresh, PLAN, rng=np.random.default_rng(0))
    assert (predict(student, test) == test.labels).mean() > 0.95
    assert (predict(untrained(), test) == test.labels).mean() < 0.6


def test_the_same_seed_gives_the_same_weights_whatever_torch_draws() -> None:
    plan, data = TrainingPlan(epochs=2, batch_size=32, shift=1), bright_sides(100, 1)
    forgetful = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 4))  # torch draws
    pre = Preprocessing(mean=(0.5,), std=(0.5,), size=(8, 8))
    model = ImageClassifier(forgetful, class_names=CLASSES, preprocessing=pre)
    digests = []
    for noise, seed in ((1, 7), (2, 7), (1, 8)):
        with torch.random.fork_rng():
            torch.manual_seed(noise)
            state = torch.get_rng_state()
            student = train(model, data, plan, rng=np.random.default_rng(seed))
            torch.testing.assert_close(torch.get_rng_state(), state)
        digests.append(student.digest())
    assert digests[0] == digests[1] != digests[2]


def test_the_given_classifier_and_data_are_not_changed() -> None:
    model, data = untrained(), bright_sides(64, 1)
    digest, pixels = model.digest(), data.pixels.copy()
    plan = TrainingPlan(epochs=1, batch_size=32)
    student = train(model, data, plan, rng=np.random.default_rng(0))
    assert model.digest() == digest != student.digest()
    assert model.meter.backward == 0
    np.testing.assert_array_equal(data.pixels, pixels)
    assert not student.module.training
    assert not any(p.requires_grad for p in student.module.parameters())


def test_progress_ends_when_the_training_does() -> None:
    told: list[tuple[int, int, str]] = []
    train(
        untrained(),
        bright_sides(50, 1),
        TrainingPlan(epochs=2, batch_size=16),
        rng=np.random.default_rng(0),
        progress=lambda *step: told.append(step),
    )
    assert told[-1] == (8, 8, "training")  # four batches, the last of two pictures, twice
    assert [step[0] for step in told] == list(range(1, 9))


def test_one_picture_left_over_is_no_trouble() -> None:
    plan = TrainingPlan(epochs=1, batch_size=16)
    student = train(untrained(), bright_sides(33, 1), plan, rng=np.random.default_rng(0))
    assert student.digest() != untrained().digest()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (
            ArrayImages(
                name="grey",
                pixels=np.zeros((4, 3, 8, 8), np.uint8),
                labels=np.zeros(4, np.int64),
                class_names=CLASSES,
            ),
            r"cannot train small ResNet on grey: .* 3 channel\(s\)",
        ),
        (
            ArrayImages(
                name="large",
                pixels=np.zeros((4, 1, 9, 8), np.uint8),
                labels=np.zeros(4, np.int64),
                class_names=CLASSES,
            ),
            "9×8 pixels and the model takes 8×8",
        ),
        (
            bright_sides(10, 1, (*CLASSES, "middle")),
            "sides has label 4 and small ResNet has only 4 classes",
        ),
        (bright_sides(1, 1), "sides has one picture; training needs at least two"),
    ],
    ids=["channels", "size", "classes", "one"],
)
def test_data_that_does_not_fit_is_refused(data: ArrayImages, expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        train(untrained(), data, PLAN, rng=np.random.default_rng(0))


def test_a_diverging_training_is_a_model_error() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    pre = Preprocessing(mean=(0.0,), std=(1.0,), size=(8, 8))
    model = ImageClassifier(module, class_names=CLASSES, preprocessing=pre)
    plan = TrainingPlan(epochs=4, batch_size=16, learning_rate=1e30)
    with pytest.raises(ModelError, match="the loss is not finite; lower the learning rate"):
        train(model, bright_sides(200, 1), plan, rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    "options",
    [{"epochs": 0}, {"batch_size": 1}, {"learning_rate": 0.0}, {"shift": -1}],
)
def test_impossible_plans_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="a plan needs positive numbers"):
        TrainingPlan(**options)  # type: ignore[arg-type]


def test_shifting_repeats_the_edges() -> None:
    x = torch.arange(9.0).view(1, 1, 3, 3)
    rows = {
        tuple(map(tuple, shifted(x, 1, np.random.default_rng(seed))[0, 0].int().tolist()))
        for seed in range(80)
    }
    assert len(rows) == 9  # up, stay, down × left, stay, right
    assert ((0, 1, 2), (3, 4, 5), (6, 7, 8)) in rows
    assert ((0, 0, 1), (0, 0, 1), (3, 3, 4)) in rows  # down and to the right
    assert ((4, 5, 5), (7, 8, 8), (7, 8, 8)) in rows  # up and to the left


def test_pictures_are_shifted_apart() -> None:
    x = torch.arange(9.0).view(1, 1, 3, 3).repeat(40, 1, 1, 1)
    moved = shifted(x, 1, np.random.default_rng(0))
    assert len({tuple(picture.flatten().tolist()) for picture in moved}) > 4


def test_small_networks_follow_their_seed_and_shape() -> None:
    assert untrained(1).digest() == untrained(1).digest() != untrained(2).digest()
    state = torch.get_rng_state()
    model = small_network(image_shape=(3, 10, 12), class_names=CLASSES, seed=0, width=4)
    torch.testing.assert_close(torch.get_rng_state(), state)
    assert model.input_shape == (3, 10, 12)
    assert model.logits(torch.rand(2, 3, 10, 12)).shape == (2, 4)
