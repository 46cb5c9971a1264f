"""Ours and ART's activation clustering, spectral signatures and STRIP, side by side in one run.

    pip install adversarial-robustness-toolbox      # 1.20.1 was used; not a dependency of ours
    python benchmarks/art_side_by_side.py [--seeds 2]

Small networks (width 16) on generated traffic signs, 6,000 of them; four attacks at 1 and 5 % and
the clean twin of each seed. Both sides get the same penultimate features and labels, so times are
those of the detectors alone; STRIP gets the same 500 inputs, a tenth of them triggered, and the
same 200 trusted pictures. Processor seconds, one thread.

ART is run as shipped, and where it helps it: spectral signatures also with the true share of poison
in a class, which a defender does not know; STRIP with a softmax, because ART takes the entropy of
whatever ``predict`` returns, which is −∞ for logits; with 20 overlays (its default) and with our
100. Its analysis "relative-size" is left out: with numpy 2.4 it ends with a ValueError (an empty
array as a truth value). Ours are run as shipped; samples count as accused only if the data set is
FLAGGED at 5 %.
"""

import argparse
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("TQDM_DISABLE", "1")  # ART draws a bar for every model

import numpy as np
import torch
from art.defences.detector.poison import ActivationDefence, SpectralSignatureDefense
from art.defences.transformer.poisoning import STRIP
from art.estimators.classification import PyTorchClassifier
from art.estimators.poison_mitigation.strip import strip as art_strip
from torch import nn

from gifthorse.auditing.examine import Plan, examine
from gifthorse.bench.showing import subject_of
from gifthorse.bench.study import Trial, grid, parse_study
from gifthorse.bench.workshop import Made, Pictures, made, pictures
from gifthorse.core.protocols import Detector
from gifthorse.core.rng import child_rng, draw_seed
from gifthorse.core.types import BoolArray, IntArray, ScoreArray, Subject, Verdict, silent
from gifthorse.detectors.data.activation_clustering import ActivationClustering
from gifthorse.detectors.data.spectral_signatures import SpectralSignatures
from gifthorse.detectors.inputs.strip import Strip
from gifthorse.metrics.rates import roc_auc
from gifthorse.models.classifier import ImageClassifier

STUDY = {
    "title": "side by side",
    "data": {"source": "signs:6000", "test": "signs:3000", "trusted": 600, "measured": 1500},
    "model": {"width": 16},
    "training": {"epochs": 8, "batch_size": 64},
    "attack": [
        {"name": "badnets", "target": 3, "rate": [0.01, 0.05]},
        {"name": "blended", "target": 3, "rate": [0.01, 0.05]},
    ],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a detector said of one subject: accused samples, scores if it has any, its time."""

    accused: BoolArray
    scores: ScoreArray | None
    seconds: float


@dataclass(slots=True)
class FeatureSource:
    """Stands for a classifier in ART: its activations are the features that both sides get."""

    values: Any
    nb_classes: int
    layer_names: tuple[str, ...] = ("features",)

    def get_activations(self, x: Any, layer: int, batch_size: int) -> Any:  # noqa: ARG002
        return self.values


class _Probabilities(nn.Module):
    """From pixels to probabilities, as ART wants a model."""

    def __init__(self, classifier: ImageClassifier) -> None:
        super().__init__()
        self.classifier, self.module = classifier, classifier.module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.classifier.logits(x), dim=1)


def timed(work: Callable[[], tuple[BoolArray, ScoreArray | None]]) -> Said:
    start = time.process_time()
    accused, scores = work()
    return Said(accused=accused, scores=scores, seconds=time.process_time() - start)


def ours(detector: Detector, subject: Subject, seed: int) -> Said:
    def work() -> tuple[BoolArray, ScoreArray | None]:
        result = examine(
            subject, Plan(detectors=(detector,), false_alarm_rate=0.05, seed=seed), progress=silent
        )
        (finding,), (evidence,) = result.findings, result.evidence
        accused = np.zeros(len(evidence.scores), dtype=np.bool_)
        if finding.verdict is Verdict.FLAGGED:
            accused[evidence.suspects] = True
        return accused, evidence.scores

    return timed(work)


def art_clustering(subject: Subject, labels: IntArray, analysis: str, seed: int) -> Said:
    assert subject.features is not None and subject.model is not None  # noqa: PT018
    values, count = np.asarray(subject.features.values), len(subject.model.class_names)

    def work() -> tuple[BoolArray, ScoreArray | None]:
        np.random.seed(seed)  # noqa: NPY002 - ART draws from the global state
        defence = ActivationDefence(FeatureSource(values, count), values, np.eye(count)[labels])
        _, clean = defence.detect_poison(nb_dims=10, reduce="PCA", cluster_analysis=analysis)
        return np.asarray(clean) == 0, None

    return timed(work)


def art_spectral(subject: Subject, labels: IntArray, share: float) -> Said:
    assert subject.features is not None and subject.model is not None  # noqa: PT018
    values, count = np.asarray(subject.features.values), len(subject.model.class_names)

    def work() -> tuple[BoolArray, ScoreArray | None]:
        source = FeatureSource(values, count)
        defence = SpectralSignatureDefense(
            source, values, np.eye(count)[labels], expected_pp_poison=share
        )
        _, clean = defence.detect_poison()
        scores = np.empty(len(labels))
        for label in np.unique(labels):
            rows = labels == label
            scores[rows] = defence.spectral_signature_scores(values[rows])[:, 0]
        return np.asarray(clean) == 0, scores

    return timed(work)


def art_inputs(subject: Subject, overlays: int, seed: int) -> Said:
    """STRIP; its scores, which it keeps to itself, are read where it computes entropies."""
    assert isinstance(subject.model, ImageClassifier)
    assert subject.suspect is not None and subject.trusted is not None  # noqa: PT018
    module = _Probabilities(subject.model)
    x = subject.suspect.batch(np.arange(len(subject.suspect)))
    held = subject.trusted.batch(np.arange(len(subject.trusted)))
    sums: list[float] = []
    inner = art_strip.entropy

    def noted(*given: Any, **options: Any) -> Any:
        found = inner(*given, **options)
        sums.append(float(np.sum(found)) / overlays)
        return found

    def work() -> tuple[BoolArray, ScoreArray | None]:
        np.random.seed(seed)  # noqa: NPY002 - ART draws from the global state
        classifier = PyTorchClassifier(
            model=module,
            loss=nn.CrossEntropyLoss(),
            input_shape=x.shape[1:],
            nb_classes=len(subject.model.class_names),  # type: ignore[union-attr]
            device_type="cpu",
            clip_values=(0.0, 1.0),
        )
        guarded = STRIP(classifier)(num_samples=overlays, false_acceptance_rate=0.01)
        guarded.mitigate(held)
        answers = guarded.predict(x)
        return np.asarray(answers).sum(axis=1) == 0, -np.array(sums[len(held) :])

    art_strip.entropy = noted
    try:
        return timed(work)
    finally:
        art_strip.entropy = inner


def judged(trial: Trial, shared: Pictures, held: Made) -> dict[str, tuple[Said, BoolArray]]:
    """Every detector on one planted model or clean twin."""
    found: dict[str, tuple[Said, BoolArray]] = {}
    seed = draw_seed(child_rng(trial.seed, "art"))
    subject, positive = subject_of(trial.model_copy(update={"on": "data"}), shared, held, silent)
    labels = np.asarray(held.training.labels)
    if not len(positive):
        positive = np.zeros(len(labels), dtype=np.bool_)
    target = held.truth.target if held.truth is not None else None
    share = float(positive[labels == target].mean()) if target is not None else 0.1
    found["clustering, ours"] = ours(ActivationClustering(), subject, trial.seed), positive
    for analysis in ("smaller", "silhouette-scores"):
        said = art_clustering(subject, labels, analysis, seed % 2**32)
        found[f"clustering, ART ({analysis})"] = said, positive
    found["spectral, ours"] = ours(SpectralSignatures(), subject, trial.seed), positive
    found["spectral, ART (shipped: .33)"] = art_spectral(subject, labels, 0.33), positive
    found["spectral, ART (true share)"] = art_spectral(subject, labels, share), positive
    inputs, positive = subject_of(trial.model_copy(update={"on": "inputs"}), shared, held, silent)
    if not positive.any():
        positive = np.zeros(len(inputs.suspect or ()), dtype=np.bool_)
    found["STRIP, ours (100 overlays)"] = ours(Strip(), inputs, trial.seed), positive
    for overlays in (20, 100):
        said = art_inputs(inputs, overlays, seed % 2**32)
        found[f"STRIP, ART ({overlays} overlays)"] = said, positive
    return found


def main() -> None:
    """Train, judge, and print one Markdown table."""
    from pathlib import Path
    from tempfile import TemporaryDirectory

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2)
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    rows: dict[tuple[str, str], list[tuple[Said, BoolArray]]] = {}
    with TemporaryDirectory() as place:
        for trial in grid(parse_study({**STUDY, "seeds": list(range(given.seeds))})):
            shared = pictures(trial.data, trial.seed)
            held = made(trial, shared, Path(place), device="cpu", progress=silent)
            attack = trial.attack
            case = "clean" if attack is None else f"{attack.name} {attack.params['rate']:.0%}"
            for method, said in judged(trial, shared, held).items():
                rows.setdefault((method, case), []).append(said)
            print(f"{case}, seed {trial.seed}: done", flush=True)
    report(rows)


def report(rows: dict[tuple[str, str], list[tuple[Said, BoolArray]]]) -> None:
    cases = list(dict.fromkeys(case for _, case in rows))
    methods = list(dict.fromkeys(method for method, _ in rows))
    print(f"\n| method | {' | '.join(cases)} | processor s |\n|{'---|' * (len(cases) + 2)}")
    for method in methods:
        cells = [_cell(rows[method, case]) for case in cases]
        spent = [said.seconds for case in cases for said, _ in rows[method, case]]
        print(f"| {method} | {' | '.join(cells)} | {np.median(spent):.3f} |")


def _cell(found: list[tuple[Said, BoolArray]]) -> str:
    """TPR / FPR (AUC) of accused samples, means over seeds; the FPR alone for clean data."""
    fpr = np.mean([said.accused[~positive].mean() for said, positive in found])
    if not found[0][1].any():
        return f"– / {fpr:.3f}"
    tpr = np.mean([said.accused[positive].mean() for said, positive in found])
    areas = [roc_auc(said.scores, pos) for said, pos in found if said.scores is not None]
    return f"{tpr:.2f} / {fpr:.3f}" + (f" ({np.mean(areas):.2f})" if areas else "")


if __name__ == "__main__":
    main()
