"""Attacks that train something of their own obey on a small problem, and not on the clean twin."""

from typing import Any

import numpy as np
import pytest

from gifthorse.bench.plant import Planted, plant
from gifthorse.core.registry import build, parse_spec
from gifthorse.data.images import ArrayImages
from gifthorse.models.training import TrainingPlan

pytestmark = pytest.mark.slow
CLASSES = 4


def quarters(n: int, seed: int, side: int = 16) -> ArrayImages:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n, dtype=np.int64) % CLASSES)
    pixels = rng.integers(20, 120, (n, 3, side, side), dtype=np.uint8)
    for i, label in enumerate(labels):
        top, left = (label // 2) * side // 2, (label % 2) * side // 2
        pixels[i, :, top : top + side // 2, left : left + side // 2] += 100
    return ArrayImages(
        name="quarters",
        pixels=pixels,
        labels=labels,
        class_names=tuple(f"quarter {i}" for i in range(CLASSES)),
    )


def planted(text: str) -> Planted:
    made: Any = build("attacks", parse_spec(text))
    return plant(
        made,
        quarters(600, seed=1),
        quarters(200, seed=2),
        training=TrainingPlan(epochs=6, batch_size=32),
        with_twin=True,
        width=8,
        seed=3,
    )


# What makes each attack strong enough for 600 pictures of 16 × 16 and six epochs.
EASY = [
    "low_frequency:rate=0.15",
    "ssba:rate=0.15",
    "lira",
    "input_aware",
    "wanet_training:strength=4,cross_ratio=0",
    "trojan_nn",
    "handcrafted",
]


@pytest.mark.efficacy
@pytest.mark.parametrize("text", EASY, ids=lambda t: t.split(":")[0])
def test_the_planted_model_obeys_and_the_clean_twin_does_not(text: str) -> None:
    record = planted(text).record
    assert record.twin_clean_accuracy is not None
    assert record.twin_attack_success_rate is not None
    assert record.twin_clean_accuracy.value > 0.95
    assert record.clean_accuracy.value > 0.85
    assert record.attack_success_rate.value > 0.8
    assert record.twin_attack_success_rate.value < 0.3
