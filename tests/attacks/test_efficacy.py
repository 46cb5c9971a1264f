"""Each attack works on a small problem, and its trigger does nothing to the clean twin.

The problem: which quarter of a noisy picture is bright. A small network learns it in seconds.
"""

from typing import Any

import numpy as np
import pytest

from gifthorse.bench.plant import plant
from gifthorse.core.registry import build, parse_spec
from gifthorse.data.images import ArrayImages
from gifthorse.models.training import TrainingPlan

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


# What makes each attack strong enough for 600 pictures of 16 × 16 and six epochs.
EASY = [
    "badnets:rate=0.1",
    "sig:clean_label=false,rate=0.1",
    "ftrojan:magnitude=3,rate=0.1",
    "bpp:bits=1,rate=0.2",
    "tact:rate=0.1,cover_rate=0.15",
    "multi_target:rate=0.3",
    "photo_filter:rate=0.15,look=kelvin",
    "adaptive_patch:rate=0.15,cover_rate=0.1,opacity=0.9",
    "label_consistent:rate=0.2,bound=0.5,size=5",
    "blind",
    "subnet_replacement",
]
SLOW = [
    "blended:rate=0.1",
    "adaptive_blend:rate=0.15,cover_rate=0.1,alpha=0.5",
    "wanet:strength=4,rate=0.15",
    "refool:clean_label=false,rate=0.15",
    "combined:rate=0.1",
    "composite:rate=0.1",
    "sleeper_agent:rate=0.2,bound=0.5,size=8",
    "label_consistent:rate=0.2,bound=0.5,size=5,surrogate=robust",
]
# One network of one seed is another one on the next processor; the slow cases take three.
CASES = [
    *((text, (3,)) for text in EASY),
    *(pytest.param((text, (3, 4, 5)), marks=pytest.mark.slow) for text in SLOW),
]


def title(case: tuple[str, tuple[int, ...]]) -> str:
    text, _ = case
    name, _, options = text.partition(":")
    return f"{name}-robust" if "robust" in options else name


def rates(text: str, seed: int) -> tuple[float, float, float, float]:
    """CA and ASR of the planted network, then of its clean twin."""
    made: Any = build("attacks", parse_spec(text))
    planted = plant(
        made,
        quarters(600, seed=1),
        quarters(200, seed=2),
        training=TrainingPlan(epochs=6, batch_size=32),
        with_twin=True,
        width=8,
        seed=seed,
    )
    record = planted.record
    assert record.twin_clean_accuracy is not None
    assert record.twin_attack_success_rate is not None
    return (
        record.clean_accuracy.value,
        record.attack_success_rate.value,
        record.twin_clean_accuracy.value,
        record.twin_attack_success_rate.value,
    )


@pytest.mark.efficacy
@pytest.mark.parametrize("case", CASES, ids=title)
def test_the_planted_model_obeys_and_the_clean_twin_does_not(
    case: tuple[str, tuple[int, ...]],
) -> None:
    text, seeds = case
    ca, asr, twin_ca, twin_asr = np.mean([rates(text, seed) for seed in seeds], axis=0)
    assert twin_ca > 0.95
    assert ca > 0.85
    assert asr > 0.8
    assert twin_asr < 0.3
