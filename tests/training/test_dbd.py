"""DBD: known answers of its losses, and that it distrusts poison on a small world."""

import math

import numpy as np
import pytest
import torch

from gifthorse.core.errors import DataError, ModelError
from gifthorse.data.images import subset
from gifthorse.models.networks import small_network
from gifthorse.models.passes import predict
from gifthorse.models.training import TrainingPlan
from gifthorse.testing.workbench import CLASSES, Workbench, quarters
from gifthorse.training.dbd import Dbd, contrast, credible, symmetric_cross_entropy

BENCH = Workbench()
PLAN = TrainingPlan(epochs=4, batch_size=32)
SHORT = Dbd(self_epochs=4, head_epochs=4)


def test_contrast_by_hand() -> None:
    # Two pictures whose views agree and which are opposite: the partner's likeness is 1 / T, the
    # two others' −1 / T.
    features = torch.tensor([[2.0, 0], [-1, 0], [3, 0], [-5, 0]])
    expected = -math.log(math.exp(2) / (math.exp(2) + 2 * math.exp(-2)))
    assert float(contrast(features, 0.5)) == pytest.approx(expected, abs=1e-6)


def test_symmetric_cross_entropy_bounds_what_a_wrong_label_costs() -> None:
    logits = torch.tensor([[0.0, 50.0]])
    sure = float(symmetric_cross_entropy(logits, torch.tensor([0]), alpha=0.0))
    assert sure == pytest.approx(-math.log(1e-4))
    even = torch.zeros((1, 2))
    found = float(symmetric_cross_entropy(even, torch.tensor([1])))
    assert found == pytest.approx(0.1 * math.log(2) + 0.5 * -math.log(1e-4), rel=1e-5)


def test_each_class_keeps_its_most_credible_half() -> None:
    losses = np.array([4.0, 1.0, 3.0, 2.0, 9.0, 8.0])
    labels = np.array([0, 0, 0, 0, 1, 1])
    assert credible(losses, labels, 0.5).tolist() == [1, 3, 5]


def test_poison_is_distrusted_and_a_seed_decides_it() -> None:
    untrained = small_network(image_shape=(1, 12, 12), class_names=CLASSES, seed=0, width=8)
    before = untrained.digest()
    made = [
        SHORT.train(untrained, BENCH.suspect, PLAN, rng=np.random.default_rng(0)) for _ in range(2)
    ]
    assert made[0].model.digest() == made[1].model.digest()
    assert untrained.digest() == before
    assert not any(p.requires_grad for p in made[0].model.module.parameters())
    poisoned = np.flatnonzero(BENCH.poisoned)
    assert np.isin(poisoned, made[0].distrusted).mean() > 0.6  # by chance, a half
    fresh = quarters(200, seed=7)
    assert (predict(made[0].model, fresh) == fresh.labels).mean() > 0.8


def test_what_does_not_fit_is_refused() -> None:
    colour = small_network(image_shape=(3, 12, 12), class_names=CLASSES, seed=0, width=4)
    with pytest.raises(DataError, match="channel"):
        SHORT.train(colour, BENCH.suspect, PLAN, rng=np.random.default_rng(0))
    grey = small_network(image_shape=(1, 12, 12), class_names=CLASSES, seed=0, width=4)
    with pytest.raises(DataError, match="too few"):
        SHORT.train(grey, subset(BENCH.suspect, np.arange(4)), PLAN, rng=np.random.default_rng(0))
    headless = grey.replaced(torch.nn.Sequential(torch.nn.Flatten(), _Slice()))
    with pytest.raises(ModelError, match="linear layer"):
        SHORT.train(headless, BENCH.suspect, PLAN, rng=np.random.default_rng(0))


class _Slice(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :4]


@pytest.mark.parametrize(("option", "value"), [("self_epochs", 0), ("kept", 1.0)])
def test_options_out_of_range_are_refused(option: str, value: float) -> None:
    with pytest.raises(ValueError, match=option):
        Dbd(**{option: value})  # type: ignore[arg-type]
