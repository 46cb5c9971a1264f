"""Does the data scan find poison, and leave clean data alone? Many runs, one line each.

    python benchmarks/scan_runs.py signs OUT --runs 10
    python benchmarks/scan_runs.py fashion-mnist OUT --runs 12
    python benchmarks/scan_runs.py fashion-mnist OUT2 --runs 4 --badnets 0.01

Half of the runs are clean. A network is trained on the suspect data, both detectors judge its
activations at the shipped rate. Every run is one JSON line in ``OUT/<data>.jsonl``; runs that are
there already are not repeated. ``--features`` keeps the activations beside it.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from gifthorse.attacks.data.badnets import BadNets
from gifthorse.attacks.data.blended import Blended
from gifthorse.auditing.examine import Plan, plugins
from gifthorse.auditing.scan import DEFAULT_DETECTORS, DEFAULT_FALSE_ALARM_RATE, scan_with
from gifthorse.core.rng import child_rng, draw_seed
from gifthorse.core.types import ImageData
from gifthorse.data.sources import load
from gifthorse.models.networks import small_network
from gifthorse.models.passes import extract_features
from gifthorse.models.training import TrainingPlan, train

PLANS = {
    "signs": (24, TrainingPlan(epochs=12, shift=2)),
    "fashion-mnist": (16, TrainingPlan(epochs=5)),
}


def draw_attack(classes: int, rng: np.random.Generator) -> BadNets | Blended:
    """One all-to-one attack at random; every third is blended."""
    target, rate = int(rng.integers(classes)), float(rng.choice([0.005, 0.01, 0.02, 0.05]))
    if rng.random() < 1 / 3:
        return Blended(target=target, rate=rate, alpha=0.2, watermark=f"noise:{rng.integers(99)}")
    return BadNets(
        target=target,
        rate=rate,
        shape=str(rng.choice(["square", "checker", "disc"])),
        size=int(rng.choice([3, 4])),
        colour=str(rng.choice(["white", "#c0c0c0", "yellow"])),
        place=str(rng.choice(["bottom-right", "top-left", "centre"])),
    )


def run(
    name: str, i: int, clean: ImageData, keep: Path | None, fixed: BadNets | None
) -> dict[str, Any]:
    """One network, one scan; planted if ``i`` is odd, with ``fixed`` if it is given."""
    rng = child_rng(7, "scan runs", name, i)
    attack = (fixed or draw_attack(len(clean.class_names), rng)) if i % 2 else None
    data, poisoned = clean, np.zeros(len(clean), dtype=np.bool_)
    if attack is not None:
        data, truth = attack.poison(clean, rng=rng)
        poisoned = truth.poisoned
    width, plan = PLANS[name]
    network = small_network(
        image_shape=data.image_shape, class_names=data.class_names, seed=draw_seed(rng), width=width
    )
    start = time.perf_counter()
    model = train(network, data, plan, rng=rng)
    seconds = time.perf_counter() - start
    if keep is not None:
        features = extract_features(model, data)
        save_file(
            {
                "features": features.values,
                "predictions": features.predictions,
                "labels": np.asarray(data.labels),
                "poisoned": poisoned,
            },
            keep / f"{name}-{i:02d}.safetensors",
        )
    judged = Plan(
        detectors=plugins("detectors", DEFAULT_DETECTORS),
        false_alarm_rate=DEFAULT_FALSE_ALARM_RATE,
    )
    record = scan_with(model, data, judged)
    row: dict[str, Any] = {"run": i, "attack": repr(attack), "training_seconds": round(seconds)}
    for finding in record.findings:
        assert finding.evidence is not None
        found = np.zeros(len(data), dtype=np.bool_)
        found[list(finding.evidence.suspects)] = True
        row[finding.detector.name] = {
            "verdict": finding.verdict.value,
            "statistic": round(finding.evidence.statistic, 2),
            "threshold": round(finding.threshold.value, 2) if finding.threshold else None,
            "tpr": round(float(found[poisoned].mean()), 4) if poisoned.any() else None,
            "fpr": round(float(found[~poisoned].mean()), 5),
        }
    return row


def main() -> None:
    """Train, scan, print; then count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", choices=sorted(PLANS))
    parser.add_argument("out", type=Path)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--features", action="store_true")
    parser.add_argument(
        "--badnets", type=float, metavar="RATE", help="A white 3×3 square on class 0, at this rate."
    )
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    ledger = options.out / f"{options.data}.jsonl"
    done = [json.loads(line) for line in ledger.read_text().splitlines()] if ledger.exists() else []
    clean = load(options.data, split="train")
    fixed = (
        None
        if options.badnets is None
        else BadNets(target=0, rate=options.badnets, shape="square", size=3, colour="white")
    )
    for i in range(options.runs):
        if all(row["run"] != i for row in done):
            row = run(options.data, i, clean, options.out if options.features else None, fixed)
            done.append(row)
            with ledger.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)
    for name in DEFAULT_DETECTORS:
        for planted in (True, False):
            rows = [row[name] for row in done if (row["run"] % 2 == 1) == planted]
            flagged = sum(row["verdict"] == "FLAGGED" for row in rows)
            print(f"{name}: {flagged} of {len(rows)} {'planted' if planted else 'clean'} flagged")


if __name__ == "__main__":
    main()
