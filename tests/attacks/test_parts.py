"""Parts of attacks against answers worked out by hand."""

import numpy as np
import pytest
import torch

from gifthorse.attacks.data.poisoning import aim_of
from gifthorse.attacks.training.blind import balance
from gifthorse.attacks.training.input_aware import mask_of, worn
from gifthorse.attacks.training.lira import mark
from gifthorse.attacks.training.wanet_training import WaNetTraining
from gifthorse.attacks.weights.handcrafted import discriminant
from gifthorse.attacks.weights.trojan_nn import chosen_neurons
from gifthorse.models.networks import small_network


def test_only_the_two_plain_modes_are_for_learned_triggers() -> None:
    labels = np.array([0, 1, 2])
    assert aim_of("all-to-all", target=1).wanted(labels, 3).tolist() == [1, 2, 0]
    assert aim_of("all-to-one", target=1).wanted(labels, 3).tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="mode must be"):
        aim_of("source-specific", target=1)


def test_a_mask_chooses_between_picture_and_pattern() -> None:
    x = torch.full((1, 1, 1, 2), 0.2)
    mask = torch.tensor([[[[5.0, -5.0]]]])
    torch.testing.assert_close(mask_of(mask), torch.tensor([[[[1.0, 0.0]]]]))
    seen = worn(x, torch.zeros(1, 1, 1, 2), mask)  # the pattern is a sigmoid: one half
    torch.testing.assert_close(seen, torch.tensor([[[[0.5, 0.2]]]]))


def test_a_mark_never_exceeds_its_bound() -> None:
    class Loud(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 1e3 * (x - 0.5)

    x = torch.tensor([[[[0.0, 0.4, 0.6, 1.0]]]])
    torch.testing.assert_close(mark(Loud(), x, 0.1), torch.tensor([[[[0.0, 0.3, 0.7, 1.0]]]]))


def test_the_discriminant_ignores_what_varies_anyway() -> None:
    rng = np.random.default_rng(0)
    clean = rng.normal(0, [10.0, 0.1], (500, 2))
    stamped = clean + np.ones(2)
    weight = discriminant(torch.from_numpy(clean), torch.from_numpy(stamped))
    assert weight[1] > 0.9
    assert abs(float(weight[0])) < 0.5


def test_the_best_connected_neurons_are_chosen() -> None:
    model = small_network(image_shape=(1, 16, 16), class_names=("a", "b"), seed=0, width=4)
    last = [m for m in model.module.modules() if isinstance(m, torch.nn.Conv2d)][-1]
    with torch.no_grad():
        last.weight[[2, 7]] = 3.0
    assert chosen_neurons(model, 2) == [2, 7]


def test_the_loss_that_is_learned_already_leaves_the_weight_to_the_other() -> None:
    head = [torch.zeros(2, requires_grad=True)]

    def losses(honest: float, planted: float) -> tuple[torch.Tensor, torch.Tensor]:
        return head[0][0] + honest, head[0][1] + planted  # gradients (1, 0) and (0, 1)

    assert balance(*losses(0.5, 0.5), head) == pytest.approx(0.5)
    # Lengths 1/.5 and 1/.25: the point nearest to zero is at 16 / (4 + 16) of the honest one.
    assert balance(*losses(0.5, 0.25), head) == pytest.approx(0.8)
    assert balance(*losses(0.5, 1e-4), head) == 0.9
    assert balance(*losses(1e-4, 0.5), head) == 0.1


def test_a_batch_of_wanet_is_warped_noisy_and_clean_in_the_ratio_asked_for() -> None:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.random((20, 1, 16, 16), dtype=np.float32))
    y = torch.arange(20) % 4
    attack = WaNetTraining(target=3, share=0.2, cross_ratio=2.0)
    shown, labels = attack._batch(x, y, 4, rng)
    assert labels.tolist() == [3] * 4 + y[4:].tolist()
    np.testing.assert_array_equal(shown[:4].numpy(), attack.trigger.apply(x[:4].numpy(), rng))
    warped = torch.from_numpy(attack.trigger.apply(x[4:12].numpy(), rng))
    apart = (shown[4:12] - warped).abs().flatten(1).mean(dim=1)
    assert bool((apart > 1e-3).all())
    assert torch.equal(shown[12:], x[12:])


def test_wanet_refuses_more_pictures_than_a_batch_holds() -> None:
    with pytest.raises(ValueError, match="fit into one batch"):
        WaNetTraining(share=0.4, cross_ratio=2.0)
