"""Repairs on a planted model and on its clean twin. The repairs never see what measures them."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch.nn import functional

from gifthorse.attacks.data.badnets import BadNets
from gifthorse.auditing.mend import mend
from gifthorse.core.protocols import Repair
from gifthorse.core.types import Evidence, ImageData, RecoveredTrigger, Unit
from gifthorse.data.sources import load
from gifthorse.data.splits import split, stratified_sample
from gifthorse.metrics.rates import agreement
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.networks import small_network
from gifthorse.models.passes import predict
from gifthorse.models.training import TrainingPlan, train
from gifthorse.repairs.fine_pruning import FinePruning
from gifthorse.repairs.fine_tuning import FineTuning
from gifthorse.repairs.unlearning import Unlearning

pytestmark = pytest.mark.slow

GATE = 0.04
"""Wide, so that the draw of 500 held-back pictures does not decide; the test set judges at .02."""

ATTACK = BadNets(colour="white")


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    planted: ImageClassifier
    twin: ImageClassifier
    trusted: ImageData
    test: ImageData
    stamped: ImageData

    def accuracy(self, model: ImageClassifier) -> float:
        return agreement(predict(model, self.test), self.test.labels).value

    def attack_success(self, model: ImageClassifier) -> float:
        return agreement(predict(model, self.stamped), self.stamped.labels).value


@pytest.fixture(scope="module")
def world() -> World:
    torch.set_num_threads(1)
    data, held = load("fashion-mnist", split="train"), load("fashion-mnist", split="test")
    trusted, test = split(held, 0.1, np.random.default_rng(0))
    poisoned, _ = ATTACK.poison(data, rng=np.random.default_rng(0))

    def trained(on: ImageData) -> ImageClassifier:
        untrained = small_network(
            image_shape=on.image_shape, class_names=on.class_names, seed=0, width=16
        )
        return train(untrained, on, TrainingPlan(epochs=5), rng=np.random.default_rng(0))

    return World(
        planted=trained(poisoned),
        twin=trained(data),
        trusted=trusted,
        test=test,
        stamped=ATTACK.triggered(test, rng=np.random.default_rng(0))[0],
    )


def recovered(model: ImageClassifier, trusted: ImageData) -> Evidence:
    """A trigger for class 0 found by plain inversion (mask and pattern, Adam, 300 steps).

    It must be one that works on the model: the attacker's patch moved by one pixel does not, and
    unlearning that leaves the backdoor standing.
    """
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    mask = (-3 + 0.1 * torch.randn((28, 28), generator=generator)).requires_grad_()
    pattern = torch.zeros((1, 28, 28)).requires_grad_()
    optimizer = torch.optim.Adam([mask, pattern], lr=0.1, betas=(0.5, 0.9))
    others, weight = np.flatnonzero(trusted.labels != 0), 0.01
    for _ in range(300):
        x = torch.from_numpy(trusted.batch(rng.choice(others, 64)))
        m, p = mask.sigmoid(), pattern.sigmoid()
        logits = model.logits(x * (1 - m) + p * m)
        hit = float((logits.argmax(1) == 0).float().mean())
        loss = functional.cross_entropy(logits, torch.zeros(64, dtype=torch.int64))
        optimizer.zero_grad()
        (loss + weight * m.sum()).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        weight *= 1.1 if hit >= 0.95 else 1 / 1.1
    trigger = RecoveredTrigger(
        target=0,
        mask=mask.detach().sigmoid().numpy(),
        pattern=pattern.detach().sigmoid().numpy(),
    )
    return Evidence(unit=Unit.CLASS, scores=np.zeros(10), statistic=1.0, triggers=(trigger,))


def test_the_planted_model_is_planted(world: World) -> None:
    assert world.accuracy(world.planted) > 0.9
    assert world.attack_success(world.planted) > 0.95
    assert world.attack_success(world.twin) < 0.05


@pytest.mark.efficacy("planted", of=Unlearning)
def test_unlearning_removes_the_backdoor(world: World) -> None:
    evidence = recovered(world.planted, world.trusted)
    model, record = mend(world.planted, world.trusted, Unlearning(), [evidence], allowed_drop=GATE)
    assert model is not None, record.reason
    assert world.attack_success(model) <= 0.05
    assert world.accuracy(world.planted) - world.accuracy(model) <= 0.02


@pytest.mark.parametrize("repair", [FineTuning(), FinePruning()])
def test_the_baselines_keep_the_accuracy(world: World, repair: Repair) -> None:
    # They are not held to an attack success rate: with 500 pictures both leave most of it standing.
    model, record = mend(world.planted, world.trusted, repair, allowed_drop=GATE)
    assert model is not None, record.reason
    assert world.accuracy(world.planted) - world.accuracy(model) <= 0.02


@pytest.mark.efficacy("twin")
@pytest.mark.parametrize("repair", [FineTuning(), FinePruning(), Unlearning()])
@pytest.mark.parametrize("count", [1000, 100])
def test_a_clean_twin_loses_little_or_the_repair_is_refused(
    world: World, repair: Repair, count: int
) -> None:
    trusted = stratified_sample(world.trusted, count, np.random.default_rng(0))
    evidence = recovered(world.twin, trusted)
    model, record = mend(world.twin, trusted, repair, [evidence])
    if model is None:
        assert "allowed: 2 points" in record.reason
    else:  # the held-back part is a sample: at 50 pictures it may miss a few points
        margin = 0.02 + 2 * np.sqrt(0.1 / record.accuracy_after.total) / 2
        assert world.accuracy(world.twin) - world.accuracy(model) <= margin
