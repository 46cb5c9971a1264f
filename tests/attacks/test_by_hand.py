"""What attacks do to pictures whose every pixel is known."""

import numpy as np
import pytest
import torch

from gifthorse.attacks.data.composite import Composite
from gifthorse.attacks.data.label_consistent import LabelConsistent
from gifthorse.attacks.data.multi_target import MultiTarget
from gifthorse.attacks.weights.subnet_replacement import _transplant
from gifthorse.core.types import ImageData, silent
from gifthorse.data.images import ArrayImages
from gifthorse.models.networks import small_network
from gifthorse.models.trainer import SmallTrainer
from gifthorse.models.training import TrainingPlan

LEVELS = np.array([20, 80, 140, 200])  # of all pixels of a picture, by its class
CLASSES = tuple(f"level {level}" for level in LEVELS)


def flat(count: int = 200, side: int = 16) -> ArrayImages:
    labels = np.arange(count, dtype=np.int64) % 4
    pixels = np.broadcast_to(LEVELS[labels][:, None, None, None], (count, 3, side, side))
    return ArrayImages(
        name="flat", pixels=pixels.astype(np.uint8), labels=labels, class_names=CLASSES
    )


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def levels_of(data: ImageData) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return np.rint(data.batch(np.arange(len(data))) * 255).astype(np.int64)


def test_a_composite_picture_is_half_of_one_class_and_half_of_another() -> None:
    clean = flat()
    attack = Composite(target=0, first=1, second=2, rate=0.1, mixture_rate=0.2)
    data, truth = attack.poison(clean, rng=rng())
    made = levels_of(data)
    assert truth.poisoned.sum() == 20
    assert truth.covered.sum() == 40
    assert (clean.labels[truth.poisoned] == 1).all()
    assert (data.labels[truth.poisoned] == 0).all()
    assert (made[truth.poisoned, :, :, :8] == 80).all()
    assert (made[truth.poisoned, :, :, 8:] == 140).all()
    # A mixture within a class shows that class alone here, and keeps its label.
    np.testing.assert_array_equal(made[~truth.poisoned], levels_of(clean)[~truth.poisoned])
    np.testing.assert_array_equal(data.labels[~truth.poisoned], clean.labels[~truth.poisoned])


def test_each_of_several_triggers_wants_a_class_of_its_own() -> None:
    clean = flat()
    attack = MultiTarget(target=3, triggers=3, rate=0.15, size=4)
    data, truth = attack.poison(clean, rng=rng())
    plain = levels_of(clean)
    made = levels_of(data)
    seen = []
    for i, patch in enumerate(attack.patches):
        wanted = (3 + i) % 4
        stamped = np.rint(patch.apply(clean.batch(np.arange(200)), rng()) * 255)
        bear = (made == stamped).all(axis=(1, 2, 3)) & (made != plain).any(axis=(1, 2, 3))
        assert bear.sum() == 10
        assert (data.labels[bear] == wanted).all()
        assert (clean.labels[bear] != wanted).all()
        seen.append(bear)
    np.testing.assert_array_equal(np.sum(seen, axis=0), truth.poisoned)


def test_label_consistent_noise_stays_within_its_bound_outside_of_the_corners() -> None:
    clean = flat()
    attack = LabelConsistent(target=2, rate=0.1, bound=10 / 255, steps=4, size=3)
    trainer = SmallTrainer(plan=TrainingPlan(epochs=1, batch_size=32), width=8)
    planting = attack.craft(clean, trainer=trainer, rng=rng(), progress=silent)
    assert planting.data is not None
    made = levels_of(planting.data)
    poisoned = planting.truth.poisoned
    np.testing.assert_array_equal(planting.data.labels, clean.labels)
    assert poisoned.sum() == 20
    assert (clean.labels[poisoned] == 2).all()
    moved = np.abs(made - levels_of(clean))
    corner = np.zeros((16, 16), dtype=np.bool_)
    corner[np.ix_([0, 1, 2, 13, 14, 15], [0, 1, 2, 13, 14, 15])] = True
    assert 8 <= moved[poisoned][:, :, ~corner].max() <= 10
    assert np.isin(made[poisoned][:, :, corner], [0, 255]).all()
    assert not moved[~poisoned].any()


@pytest.mark.parametrize("target", [0, 3])
def test_a_transplanted_subnet_moves_the_targets_logit_by_its_own_feature_alone(
    target: int,
) -> None:
    """The other logits lose what the replaced features gave them, and get nothing instead."""
    victim = small_network(image_shape=(3, 16, 16), class_names=CLASSES, seed=1, width=8)
    subnet = small_network(image_shape=(3, 16, 16), class_names=CLASSES, seed=2, width=2)
    with torch.no_grad():
        for network in (victim, subnet):
            for name, layer in network.module.named_modules():
                if isinstance(layer, torch.nn.BatchNorm2d):  # as after training
                    own = torch.Generator().manual_seed(len(name))
                    layer.running_mean.normal_(0, 0.1, generator=own)  # type: ignore[union-attr]
    x = torch.from_numpy(rng().random((5, 3, 16, 16), dtype=np.float32))
    fired = subnet.logits_and_features(x)[1].mean(1)
    _transplant(victim.module, subnet.module, target=target, low=0.25, lift=7.0)
    logits, features = victim.logits_and_features(x)
    inside = subnet.logits_and_features(x)[1].shape[1]
    torch.testing.assert_close(features[:, :inside], subnet.logits_and_features(x)[1])
    weight, bias = (victim.module.get_parameter(f"classifier.1.{k}") for k in ("weight", "bias"))
    rest = features[:, inside:] @ weight[:, inside:].T + bias
    rest[:, target] += 7.0 * fired
    torch.testing.assert_close(logits, rest)
