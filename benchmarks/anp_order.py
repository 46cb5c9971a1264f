"""Whether ANP's masks put the channels of a backdoor first, whatever rule stops the pruning.

gifthorse bench run studies/attack-repair.toml --ledger ledger
python benchmarks/anp_order.py ledger            # a minute for two models

Channels are pruned in the order of their masks, and clean accuracy and attack success are measured
on test pictures after every step. A defender has no such pictures: it tells a wrong order from a
stop that comes too early or too late.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from gifthorse.bench.study import Trial, grid, read_study
from gifthorse.bench.workshop import made, pictures
from gifthorse.core.rng import child_rng
from gifthorse.core.types import silent
from gifthorse.data.splits import split
from gifthorse.models.passes import predict
from gifthorse.repairs.anp import Anp
from gifthorse.repairs.normalisation import Gates, silence_channels

SHARES = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)


def look(trial: Trial, models: Path, anp: Anp) -> None:
    """Print CA and ASR for every share of pruned channels."""
    shared = pictures(trial.data, trial.seed)
    held = made(trial, shared, models, device="cpu", progress=silent)
    assert held.wanted is not None
    rng = child_rng(trial.seed, "anp-order")
    _, tuning = split(shared.trusted, anp.validation, rng)
    gates = Gates(held.classifier.replaced(held.classifier.module))
    masks = anp.learn(gates, tuning, rng, silent)
    values = np.concatenate([mask.numpy() for mask in masks])
    order = np.lexsort((-np.arange(len(values)), values))
    bounds = np.cumsum([0, *(len(mask) for mask in masks)])
    assert trial.attack is not None
    print(trial.attack.name, trial.attack.params["rate"], f"{len(values)} channels")
    for share in SHARES:
        chosen = np.zeros(len(values), dtype=np.bool_)
        chosen[order[: int(share * len(values))]] = True
        pruned = held.classifier.replaced(held.classifier.module)
        layers = zip(gates.names, bounds[:-1], bounds[1:], strict=True)
        silence_channels(pruned, {name: chosen[i:j] for name, i, j in layers}, keep_bias=True)
        ca = np.mean(predict(pruned, shared.measured) == shared.measured.labels)
        asr = np.mean(predict(pruned, held.wanted) == held.wanted.labels)
        print(f"{share:5.0%} pruned: CA {ca:.1%}, ASR {asr:.1%}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("ledger", type=Path)
    parser.add_argument("--steps", type=int, default=Anp().steps)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for trial in grid(read_study(Path("studies/attack-repair.toml"))):
        attack = trial.attack
        if trial.role != "none" or trial.seed or attack is None:
            continue
        if attack.name in ("badnets", "blended") and attack.params["rate"] == 0.1:
            look(trial, given.ledger / "models", Anp(steps=given.steps))


if __name__ == "__main__":
    main()
