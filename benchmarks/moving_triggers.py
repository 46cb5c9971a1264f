"""Unlearning a sticker that works anywhere, and one that works in one place.

    python benchmarks/moving_triggers.py [--data signs] [--seeds 1] [--repairs SPEC …]

A small ResNet is planted with a yellow square of 4×4 pixels, at a place drawn anew for every
picture or always in the same corner. ``universality`` looks at it with 600 trusted pictures, and
every repair unlearns what it recovered; the gate is open, so that all outcomes are seen. Clean
accuracy and attack success are measured on pictures that neither saw.
"""

import argparse
import time

import numpy as np
import torch

from gifthorse.attacks.data.badnets import BadNets
from gifthorse.auditing.examine import plugins
from gifthorse.auditing.mend import mend
from gifthorse.core.rng import child_rng
from gifthorse.core.types import Subject, silent
from gifthorse.data.images import subset
from gifthorse.data.sources import load
from gifthorse.detectors.models.universality import Universality
from gifthorse.metrics.rates import agreement
from gifthorse.models.networks import small_network
from gifthorse.models.passes import predict
from gifthorse.models.training import TrainingPlan, train

REPAIRS = (
    "unlearning:learning_rate=0.003",
    "distilled_unlearning",
    "distilled_unlearning:stickers=0",
)
TARGET, TRUSTED = 3, 600


def played(name: str, place: str, seed: int, repairs: list[str]) -> None:
    """Plant one, look at it, repair it in every way."""
    rng = child_rng(seed, "moving", name)
    data, test = load(name, split="train"), load(name, split="test")
    data = subset(data, rng.permutation(len(data))[:6000])
    order = rng.permutation(len(test))
    trusted, judge = subset(test, order[:TRUSTED]), subset(test, order[TRUSTED:][:2000])
    attack = BadNets(target=TARGET, rate=0.05, size=4, colour="yellow", place=place)
    network = small_network(
        image_shape=data.image_shape, class_names=data.class_names, seed=seed, width=16
    )
    model = train(network, attack.poison(data, rng=rng)[0], TrainingPlan(epochs=8), rng=rng)
    wanted, _ = attack.triggered(judge, rng=rng)
    seen = Universality().inspect(
        Subject(model=model, trusted=trusted), rng=np.random.default_rng(seed), progress=silent
    )
    named = data.class_names[int(seen.suspects[0])]
    print(f"{name}, {place}, seed {seed}: the search names {named!r} ({seen.statistic:.2f})")
    judged = [("planted", model, 0.0)]
    for spec in repairs:
        start = time.process_time()
        (method,) = plugins("repairs", [spec])
        repaired, _ = mend(model, trusted, method, [seen], allowed_drop=1.0, seed=seed)
        judged.append((spec, repaired or model, time.process_time() - start))
    for what, one, seconds in judged:
        accuracy = agreement(predict(one, judge), judge.labels).value
        success = agreement(predict(one, wanted), wanted.labels).value
        print(f"  {what}: CA {accuracy:.1%}, ASR {success:.1%}, {seconds:.0f} s", flush=True)


def main() -> None:
    """Both kinds of place, all seeds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="signs")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--repairs", nargs="+", default=list(REPAIRS))
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    for seed in range(options.seeds):
        for place in ("random", "bottom-right"):
            played(options.data, place, seed, options.repairs)


if __name__ == "__main__":
    main()
