"""A zoo of clean and planted Fashion-MNIST classifiers, to judge the model audit on.

    python benchmarks/fashion_zoo.py train test ZOO --pairs 14
    python benchmarks/fashion_zoo.py audit ZOO

The development and the test population differ in seeds, trigger shapes, sizes, places, watermarks
and target classes; thresholds and options are chosen without the test population.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gifthorse.attacks.data.badnets import BadNets
from gifthorse.attacks.data.blended import Blended
from gifthorse.auditing.audit import audit
from gifthorse.core.rng import child_rng
from gifthorse.core.types import ImageData, Verdict
from gifthorse.data.sources import load
from gifthorse.metrics.rates import agreement, rate, roc_auc, roc_auc_interval
from gifthorse.models.networks import small_network
from gifthorse.models.passes import predict
from gifthorse.models.saving import save_classifier
from gifthorse.models.training import TrainingPlan, train


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """What a population draws from."""

    seed: int
    shapes: tuple[str, ...]
    sizes: tuple[int, ...]
    places: tuple[str, ...]
    colours: tuple[str, ...]
    watermarks: tuple[str, ...]
    alphas: tuple[float, ...]
    targets: tuple[int, ...]
    rates: tuple[float, ...]
    widths: tuple[int, ...]


POPULATIONS = {
    "development": Population(
        seed=100,
        shapes=("square", "checker"),
        sizes=(3, 4),
        places=("bottom-right", "top-left"),
        colours=("white", "#c0c0c0"),
        watermarks=("noise:1", "noise:2"),
        alphas=(0.2,),
        targets=(0, 1, 2, 3, 4),
        rates=(0.02, 0.05),
        widths=(16, 20),
    ),
    "test": Population(
        seed=200,
        shapes=("disc", "triangle", "cross", "reverse-lambda", "square"),
        sizes=(2, 5, 6),
        places=("top-right", "bottom-left", "centre", "5x10", "18x3"),
        colours=("white", "#e0e0e0", "#909090"),
        watermarks=("rings", "noise:11", "noise:12"),
        alphas=(0.15, 0.25),
        targets=(5, 6, 7, 8, 9),
        rates=(0.03, 0.08),
        widths=(12, 16),
    ),
}


def draw_attack(population: Population, rng: np.random.Generator) -> BadNets | Blended:
    """One all-to-one attack at random; every third is blended."""
    target = int(rng.choice(population.targets))
    poison_rate = float(rng.choice(population.rates))
    if rng.random() < 1 / 3:
        return Blended(
            target=target,
            rate=poison_rate,
            alpha=float(rng.choice(population.alphas)),
            watermark=str(rng.choice(population.watermarks)),
        )
    return BadNets(
        target=target,
        rate=poison_rate,
        shape=str(rng.choice(population.shapes)),
        size=int(rng.choice(population.sizes)),
        colour=str(rng.choice(population.colours)),
        place=str(rng.choice(population.places)),
    )


def train_zoo(population: Population, out: Path, pairs: int) -> None:
    """Train as many planted and clean models as asked for; models that exist are kept."""
    data, test = load("fashion-mnist", split="train"), load("fashion-mnist", split="test")
    out.mkdir(parents=True, exist_ok=True)
    for i in range(2 * pairs):
        place = out / f"{i:03d}"
        if (place / "truth.json").exists():
            continue
        start = time.perf_counter()
        truth = train_one(population, i, place, data, test)
        print(place.name, truth, f"{time.perf_counter() - start:.0f} s", flush=True)


def train_one(
    population: Population, i: int, place: Path, data: ImageData, test: ImageData
) -> dict[str, Any]:
    """One model: planted if ``i`` is odd. Its truth lies beside it, in ``truth.json``."""
    rng = child_rng(population.seed, "zoo", i)
    attack = draw_attack(population, rng) if i % 2 else None
    training_data = attack.poison(data, rng=rng)[0] if attack else data
    network = small_network(
        image_shape=data.image_shape,
        class_names=data.class_names,
        seed=population.seed + i,
        width=int(rng.choice(population.widths)),
    )
    model = train(network, training_data, TrainingPlan(epochs=5), rng=rng)
    truth: dict[str, Any] = {
        "clean_accuracy": agreement(predict(model, test), test.labels).value,
        "attack": None,
        "target": None,
    }
    if attack:
        wanted, _ = attack.triggered(test, rng=rng)
        success = agreement(predict(model, wanted), wanted.labels).value
        truth |= {
            "attack": type(attack).__name__,
            "options": asdict(attack),
            "target": data.class_names[attack.target],
            "attack_success_rate": success,
        }
    save_classifier(model, place)
    (place / "truth.json").write_text(json.dumps(truth, indent=2) + "\n", encoding="utf-8")
    return truth


def audit_zoo(zoo: Path, detectors: Sequence[str], samples: int) -> list[dict[str, Any]]:
    """Audit every model with each detector on its own; rows are kept in ``results.jsonl``."""
    results = zoo / "results.jsonl"
    rows = (
        [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    )
    done = {(row["model"], row["detector"]) for row in rows}
    places = sorted(path.parent for path in zoo.glob("*/truth.json"))
    for detector in detectors:
        for place in places:
            truth = json.loads((place / "truth.json").read_text(encoding="utf-8"))
            if (place.name, detector) in done:
                continue
            start = time.perf_counter()
            chosen = None if detector == "shipped" else (detector,)
            record = audit(
                place, trusted="fashion-mnist", detectors=chosen, samples=samples, seed=1
            )
            seen = max(
                (found.evidence for found in record.findings if found.evidence is not None),
                key=lambda evidence: evidence.statistic,
            )
            row = {
                "model": place.name,
                "detector": detector,
                "planted": truth["attack"] is not None,
                "attack": truth["attack"],
                "target": truth["target"],
                "named": seen.unit_names[seen.suspects[0]],
                "flagged": record.verdict is Verdict.FLAGGED,
                "statistic": record.score if detector == "shipped" else seen.statistic,
                "score": record.score,
                "seconds": time.perf_counter() - start,
            }
            rows.append(row)
            with results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)
    return rows


def summarise(rows: list[dict[str, Any]]) -> None:
    """One line a rule: ROC-AUC with interval, false alarms, hits, right class, time."""
    for detector in sorted({row["detector"] for row in rows}):
        mine = [row for row in rows if row["detector"] == detector]
        planted = np.array([row["planted"] for row in mine])
        statistics = np.array([row["statistic"] for row in mine])
        low, high = roc_auc_interval(statistics, planted, rng=np.random.default_rng(0))
        rules = {"shipped threshold": np.array([row["flagged"] for row in mine])}
        if detector.startswith("neural_cleanse"):
            rules["anomaly index > 2"] = statistics > 2
        for rule, flagged in rules.items():
            false = rate(int((flagged & ~planted).sum()), int((~planted).sum()))
            hits = rate(int((flagged & planted).sum()), int(planted.sum()))
            right = sum(
                row["named"] == row["target"]
                for row, hit in zip(mine, flagged & planted, strict=True)
                if hit
            )
            area = f"AUC {roc_auc(statistics, planted):.3f} [{low:.3f}, {high:.3f}]"
            print(
                f"{detector} ({rule}): {area}"
                f"; false alarms {false.count}/{false.total} [{false.low:.2f}, {false.high:.2f}]"
                f"; found {hits.count}/{hits.total} [{hits.low:.2f}, {hits.high:.2f}]"
                f"; right class {right}/{hits.count}"
                f"; {np.median([row['seconds'] for row in mine]):.1f} s a model (median)"
            )


def main() -> None:
    """Train or audit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=None)
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train")
    training.add_argument("population", choices=POPULATIONS)
    training.add_argument("zoo", type=Path)
    training.add_argument("--pairs", type=int, default=14)
    auditing = commands.add_parser("audit")
    auditing.add_argument("zoo", type=Path)
    auditing.add_argument("--detector", action="append")
    auditing.add_argument("--samples", type=int, default=200)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.command == "train":
        train_zoo(POPULATIONS[options.population], options.zoo, options.pairs)
    else:
        detectors = options.detector or ["shipped", "neural_cleanse"]
        summarise(audit_zoo(options.zoo, detectors, options.samples))


if __name__ == "__main__":
    main()
