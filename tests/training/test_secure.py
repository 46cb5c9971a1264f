"""Adversarial training, ABL and cleaning: known answers and contract, on a small world."""

import math

import numpy as np
import pytest
import torch

from gifthorse.core.errors import DataError
from gifthorse.data.images import ArrayImages
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.networks import small_network
from gifthorse.models.passes import predict
from gifthorse.models.training import TrainingPlan, train
from gifthorse.training.abl import Abl, sample_losses
from gifthorse.training.adversarial import AdversarialTraining, turned
from gifthorse.training.cleaning import relabelled, without

CLASSES = ("north-west", "north-east", "south-west", "south-east")
PLAN = TrainingPlan(epochs=4, batch_size=32, learning_rate=0.1)


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
def data() -> ArrayImages:
    torch.set_num_threads(1)
    return quarters(400, seed=0)


@pytest.fixture(scope="module")
def untrained() -> ImageClassifier:
    return small_network(image_shape=(1, 12, 12), class_names=CLASSES, seed=0, width=4)


@pytest.fixture(scope="module")
def trained(data: ArrayImages, untrained: ImageClassifier) -> ImageClassifier:
    return train(untrained, data, PLAN, rng=np.random.default_rng(0))


def test_turns_and_moves_by_hand() -> None:
    x = torch.zeros((1, 1, 3, 3))
    x[0, 0, 0, 1] = 1.0  # the middle of the top edge
    quarter = turned(x, np.array([90.0]), np.zeros((1, 2)))
    wanted = torch.zeros((3, 3))
    wanted[1, 0] = 1.0  # seen from a frame that turns clockwise it comes to the left
    torch.testing.assert_close(quarter[0, 0], wanted, atol=1e-6, rtol=0)
    moved = turned(x, np.zeros(1), np.array([[1 / 3, 0.0]]))  # read one pixel further right
    torch.testing.assert_close(moved[0, 0, 0], torch.tensor([1.0, 0.0, 0.0]), atol=1e-6, rtol=0)


def test_the_worst_turn_hurts_and_other_pictures_are_none_of_it(
    trained: ImageClassifier, data: ArrayImages
) -> None:
    x, y = torch.from_numpy(data.batch(np.arange(64))), torch.from_numpy(data.labels[:64])
    loss = torch.nn.functional.cross_entropy

    def after(steps: int) -> float:
        method = AdversarialTraining(kind="spatial", steps=steps)
        return float(loss(trained.logits(method.worst(trained, x, y, np.random.default_rng(0))), y))

    assert after(10) > after(1)
    still = AdversarialTraining(kind="spatial", turn=0.0, move=0.0)
    same = still.worst(trained, x, y, np.random.default_rng(0))
    torch.testing.assert_close(same, x, atol=1e-5, rtol=0)
    assert not trained.module.training


@pytest.mark.parametrize("kind", ["pgd", "patch"])
def test_the_worst_change_stays_in_its_set_and_hurts(
    kind: str, trained: ImageClassifier, data: ArrayImages
) -> None:
    method = AdversarialTraining(kind=kind, radius=0.1, side=4, steps=5)
    x, y = torch.from_numpy(data.batch(np.arange(64))), torch.from_numpy(data.labels[:64])
    kept = x.clone()
    worst = method.worst(trained, x, y, np.random.default_rng(0))
    moved = (worst - x).abs()
    assert torch.equal(x, kept)
    assert 0 <= float(worst.min()) <= float(worst.max()) <= 1
    if kind == "pgd":
        assert float(moved.max()) <= 0.1 + 1e-6
    else:
        rows = (moved.amax((1, 3)) > 0).sum(1)
        columns = (moved.amax((1, 2)) > 0).sum(1)
        assert int(rows.max()) <= 4
        assert int(columns.max()) <= 4
    loss = torch.nn.functional.cross_entropy
    assert float(loss(trained.logits(worst), y)) > float(loss(trained.logits(x), y))


def test_adversarial_training_resists_what_it_trained_on(
    trained: ImageClassifier, untrained: ImageClassifier, data: ArrayImages
) -> None:
    method = AdversarialTraining(radius=0.15, steps=3)
    before = untrained.digest()
    strong = method.train(untrained, data, PLAN, rng=np.random.default_rng(0))
    again = method.train(untrained, data, PLAN, rng=np.random.default_rng(0))
    assert untrained.digest() == before
    assert strong.digest() == again.digest()
    assert strong.meter.backward == 4 * 400 + 3 * 4 * 200  # training, and half of it searched
    fresh = quarters(200, seed=5)
    x, y = torch.from_numpy(fresh.batch(np.arange(200))), torch.from_numpy(fresh.labels)

    def under_attack(model: ImageClassifier) -> float:
        worst = method.worst(model, x, y, np.random.default_rng(1))
        return float((model.logits(worst).argmax(1) == y).float().mean())

    assert under_attack(strong) > under_attack(trained) + 0.1


def test_losses_and_gradient_ascent_by_hand(untrained: ImageClassifier, data: ArrayImages) -> None:
    few = without(data, np.arange(10, 400)).kept
    losses = sample_losses(untrained, few)
    logits = untrained.logits(torch.from_numpy(few.batch(np.arange(10))))
    expected = torch.nn.functional.cross_entropy(
        logits, torch.from_numpy(few.labels), reduction="none"
    )
    np.testing.assert_allclose(losses, expected.numpy(), rtol=1e-4)
    # A loss of ln 4 is above γ = .5 and counts; one near 0 is below and is turned round.
    sure, unsure = torch.tensor([[2.0, 0, 0, 0]]), torch.zeros((1, 4))
    low = math.log(math.exp(2) + 3) - 2
    y = torch.tensor([0, 0])
    found = float(Abl(gamma=0.5).ascent_at_gamma(torch.cat([sure, unsure]), y))
    assert found == pytest.approx((math.log(4) - low) / 2, abs=1e-5)


def test_unlearning_stops_at_enough() -> None:
    logits = torch.tensor([[-20.0, 0.0], [1.0, 0.0]], requires_grad=True)
    loss = Abl(enough=3.0).unlearning_loss(logits, torch.tensor([0, 0]))
    (slope,) = torch.autograd.grad(loss, logits)
    assert float(slope[0].abs().max()) == 0
    assert float(slope[1, 0]) > 0  # descent lowers the logit of the label


def test_abl_isolates_what_is_learnt_first_and_a_seed_decides_it(
    untrained: ImageClassifier, data: ArrayImages
) -> None:
    # A white square that always means class 0 is far easier than the quarters.
    pixels, labels = data.pixels.copy(), data.labels.copy()
    planted = np.flatnonzero(labels != 0)[:40]
    pixels[planted, :, 9:, 9:] = 255
    labels[planted] = 0
    poisoned = ArrayImages(name="planted", pixels=pixels, labels=labels, class_names=CLASSES)
    method = Abl(isolation=0.05, isolation_epochs=2, unlearning_epochs=1)
    found = method.train(untrained, poisoned, PLAN, rng=np.random.default_rng(0))
    again = method.train(untrained, poisoned, PLAN, rng=np.random.default_rng(0))
    assert len(found.isolated) == 20
    np.testing.assert_array_equal(found.isolated, again.isolated)
    assert found.model.digest() == again.model.digest()
    share = np.isin(found.isolated, planted).mean()
    assert share > 3 * len(planted) / len(poisoned)  # far better than a draw by chance


def test_suspects_are_left_out_and_set_apart(data: ArrayImages) -> None:
    cleaned = without(data, np.array([7, 3, 3]))
    assert len(cleaned.kept) == 398
    assert cleaned.indices.tolist() == [3, 7]
    assert cleaned.quarantined is not None
    np.testing.assert_array_equal(cleaned.quarantined.labels, data.labels[[3, 7]])
    np.testing.assert_array_equal(
        cleaned.quarantined.batch(np.arange(2)), data.batch(np.array([3, 7]))
    )
    nothing = without(data, np.zeros(0, dtype=np.int64))
    assert nothing.kept is data
    assert nothing.quarantined is None


def test_relabelling_asks_the_judge(trained: ImageClassifier, data: ArrayImages) -> None:
    wrong = data.labels.copy()
    wrong[:20] = (wrong[:20] + 1) % 4
    dirty = ArrayImages(name="dirty", pixels=data.pixels, labels=wrong, class_names=CLASSES)
    fixed = relabelled(dirty, np.arange(20), trained)
    np.testing.assert_array_equal(fixed.kept.labels[:20], predict(trained, data)[:20])
    np.testing.assert_array_equal(fixed.kept.labels[20:], wrong[20:])
    np.testing.assert_array_equal(dirty.labels, wrong)


@pytest.mark.parametrize("bad", [[-1], [400], list(range(400))])
def test_suspects_that_cannot_be_are_refused(bad: list[int], data: ArrayImages) -> None:
    with pytest.raises(DataError, match="400"):
        without(data, np.array(bad))


@pytest.mark.parametrize(
    ("cls", "option", "value"),
    [
        (AdversarialTraining, "kind", "other"),
        (AdversarialTraining, "radius", 0.0),
        (AdversarialTraining, "steps", 0),
        (AdversarialTraining, "turn", 181.0),
        (AdversarialTraining, "move", 1.0),
        (AdversarialTraining, "share", float("nan")),
        (Abl, "gamma", 0.0),
        (Abl, "isolation", 0.6),
        (Abl, "isolation_epochs", 0),
    ],
)
def test_options_out_of_range_are_named(cls: type, option: str, value: object) -> None:
    with pytest.raises(ValueError, match=option):
        cls(**{option: value})


def test_too_few_samples_to_isolate_are_refused(
    untrained: ImageClassifier, data: ArrayImages
) -> None:
    few = without(data, np.arange(50, 400)).kept
    with pytest.raises(DataError, match="too few"):
        Abl().train(untrained, few, PLAN, rng=np.random.default_rng(0))
