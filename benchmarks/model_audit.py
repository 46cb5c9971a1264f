"""Seconds that a model audit takes, by detector.

    python benchmarks/model_audit.py [--rounds 3]

A small network, trained briefly, on Fashion-MNIST (ten classes) and on signs (sixteen).
"""

import argparse
import time

import numpy as np

from gifthorse.auditing.audit import audit
from gifthorse.data.images import subset
from gifthorse.data.sources import load
from gifthorse.models.networks import small_network
from gifthorse.models.training import TrainingPlan, train


def main() -> None:
    """Print the median for every data set and detector."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    for name in ("fashion-mnist", "signs"):
        data = load(name, split="test")
        classifier = small_network(
            image_shape=data.image_shape, class_names=data.class_names, seed=0, width=16
        )
        lessons = subset(load(name, split="train"), np.arange(6000))
        plan = TrainingPlan(epochs=4, learning_rate=0.05)
        classifier = train(classifier, lessons, plan, rng=np.random.default_rng(0))
        for detector in ("universality", "neural_cleanse"):
            seconds = []
            for seed in range(options.rounds):
                start = time.perf_counter()
                audit(classifier, trusted=data, detectors=(detector,), seed=seed)
                seconds.append(time.perf_counter() - start)
            print(
                f"{name}, {len(data.class_names)} classes, {detector}: median "
                f"{np.median(seconds):.1f} s (min {min(seconds):.1f}, max {max(seconds):.1f})"
            )


if __name__ == "__main__":
    main()
