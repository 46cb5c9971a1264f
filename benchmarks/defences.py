"""What every repair and every detector does to a BadNets and a Blended model and to a clean twin.

    python benchmarks/defences.py repairs [--seeds 3] [--trusted 500] [--only anp,clp]
    python benchmarks/defences.py models | inputs | data | training [--attacks badnets]

Signs (16 classes, 6,000 training pictures), a small ResNet of width 16, 10 % poison (2 % for
`data`, where a class is 6 % of all), target "speed limit 80". Half of the 2,000 test pictures are
the trusted pool, CA and ASR are measured on the other half. `--models DIR` keeps trained models for
the next table. No option is chosen on what is printed here.
"""

import argparse
import dataclasses
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from gifthorse.attacks.data.badnets import BadNets
from gifthorse.attacks.data.blended import Blended
from gifthorse.bench.plant import attack_success, plant
from gifthorse.core.errors import GifthorseError
from gifthorse.core.protocols import Poison
from gifthorse.core.registry import build, names, parse_spec
from gifthorse.core.rng import child_rng
from gifthorse.core.types import BoolArray, Evidence, ImageData, Subject, silent
from gifthorse.data.sources import load
from gifthorse.data.splits import split, stratified_sample
from gifthorse.detectors.inputs.calibrated import rank_of, scores_of
from gifthorse.detectors.models.universality import Universality
from gifthorse.metrics.rates import agreement, defence_effectiveness, roc_auc
from gifthorse.models.classifier import ImageClassifier, as_classifier
from gifthorse.models.loading import load_classifier
from gifthorse.models.networks import small_network
from gifthorse.models.passes import extract_features, predict
from gifthorse.models.saving import save_classifier
from gifthorse.models.training import TrainingPlan
from gifthorse.training.abl import Abl, Isolated
from gifthorse.training.adversarial import AdversarialTraining
from gifthorse.training.dbd import Dbd, Decoupled

ATTACKS: dict[str, BadNets | Blended] = {
    "badnets": BadNets(target=3, rate=0.1, size=4),
    "blended": Blended(target=3, rate=0.1),
}
PLAN = TrainingPlan(epochs=8, batch_size=64)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One planted model with its twin, and what it is judged with."""

    name: str
    attack: Poison
    planted: ImageClassifier
    twin: ImageClassifier
    training: ImageData
    poisoned: BoolArray
    clean: ImageData
    trusted: ImageData
    test: ImageData

    def measure(self, model: ImageClassifier) -> tuple[float, float]:
        ca = agreement(predict(model, self.test), self.test.labels).value
        return ca, attack_success(self.attack, model, self.test, seed=0)


def world(name: str, seed: int, options: argparse.Namespace, rate: float = 0.1) -> World:
    train, held = load("signs", split="train"), load("signs", split="test")
    pool, test = split(held, 0.5, child_rng(seed, "pool"))
    attack = dataclasses.replace(ATTACKS[name], rate=rate)
    kept = Path(options.models or tempfile.mkdtemp()) / f"{name}-{rate:g}-{seed}"
    if not kept.exists():
        made = plant(attack, train, test, training=PLAN, with_twin=True, width=16, seed=seed)
        assert made.twin is not None
        save_classifier(made.classifier, kept / "planted")
        save_classifier(made.twin, kept / "twin")
    # The very draw that `plant` makes.
    poisoned, truth = attack.poison(train, rng=child_rng(seed, "poison"))
    return World(
        name=name,
        attack=attack,
        planted=load_classifier(kept / "planted"),
        twin=load_classifier(kept / "twin"),
        training=poisoned,
        poisoned=truth.poisoned,
        clean=train,
        trusted=stratified_sample(pool, options.trusted, child_rng(seed, "trusted")),
        test=test,
    )


def repairs(options: argparse.Namespace) -> None:
    chosen = options.only.split(",") if options.only else names("repairs")
    for name in options.attacks.split(","):
        for seed in range(options.seeds):
            w = world(name, seed, options)
            ca, asr = w.measure(w.planted)
            twin_ca, _ = w.measure(w.twin)
            print(f"{name} {seed} none CA {ca:.3f} ASR {asr:.3f} twin CA {twin_ca:.3f}", flush=True)
            for repair in chosen:
                found = evidence_of(w, seed) if repair.startswith("unlearning") else []
                one_repair(w, seed, repair, found, ca, asr, twin_ca)


def one_repair(
    w: World,
    seed: int,
    name: str,
    found: list[Evidence],
    ca: float,
    asr: float,
    twin_ca: float,
) -> None:
    plugin = build("repairs", parse_spec(name))
    parts = [f"{w.name} {seed} {name}"]
    for which, model in (("planted", w.planted), ("twin", w.twin)):
        subject = Subject(model=model, trusted=w.trusted).granting(plugin.needs)
        start = time.perf_counter()
        try:
            fixed = as_classifier(
                plugin.repair(subject, found, rng=child_rng(seed, "repair"), progress=silent)
            )
        except GifthorseError as error:
            parts.append(f"{which}: {error}")
            continue
        seconds = time.perf_counter() - start
        after, left = w.measure(fixed)
        if which == "planted":
            der = defence_effectiveness(
                ca_before=ca, ca_after=after, asr_before=asr, asr_after=left
            )
            parts.append(f"CA {after:.3f} ASR {left:.3f} DER {der:.3f} {seconds:.1f} s")
        else:
            parts.append(f"twin CA {twin_ca:.3f} -> {after:.3f}")
    print(" | ".join(parts), flush=True)


def evidence_of(w: World, seed: int) -> list[Evidence]:
    subject = Subject(model=w.planted, trusted=w.trusted)
    return [Universality().inspect(subject, rng=child_rng(seed, "audit"), progress=silent)]


def models(options: argparse.Namespace) -> None:
    chosen = chosen_of(
        options,
        "linear_weights,channel_lipschitz,mm_bd,universality,abs,bti_dbf,feature_re",
    )
    for name in options.attacks.split(","):
        for seed in range(options.seeds):
            w = world(name, seed, options)
            for which, model in (("planted", w.planted), ("twin", w.twin)):
                for detector in chosen:
                    one_model_detector(f"{name} {seed} {which} {detector}", detector, model, w)


def one_model_detector(line: str, detector: str, model: ImageClassifier, w: World) -> None:
    plugin = build("detectors", parse_spec(detector))
    subject = Subject(model=model, trusted=w.trusted).granting(plugin.needs)
    start = time.perf_counter()
    try:
        seen = plugin.inspect(subject, rng=child_rng(0, "audit"), progress=silent)
    except GifthorseError as error:
        print(line, error, flush=True)
        return
    seconds = time.perf_counter() - start
    p = plugin.null(seen).p_value(seen.statistic)
    print(
        f"{line}: statistic {seen.statistic:.2f} p {p:.3g} points to {seen.suspects.tolist()} "
        f"{seconds:.1f} s",
        flush=True,
    )


def inputs(options: argparse.Namespace) -> None:
    chosen = chosen_of(options, "strip:overlays=20,scale_up,ibd_psc,teco,ted,beatrix")
    for name in options.attacks.split(","):
        for seed in range(options.seeds):
            w = world(name, seed, options)
            clean = stratified_sample(w.test, 300, child_rng(seed, "inputs"))
            stamped, _ = w.attack.triggered(clean, rng=child_rng(seed, "triggered"))
            for which, model in (("planted", w.planted), ("twin", w.twin)):
                for detector in chosen:
                    line = f"{name} {seed} {which} {detector}"
                    one_input_detector(line, detector, model, w.trusted, clean, stamped)


def one_input_detector(
    line: str,
    detector: str,
    model: ImageClassifier,
    trusted: ImageData,
    clean: ImageData,
    stamped: ImageData,
) -> None:
    plugin = build("detectors", parse_spec(detector))
    start = time.perf_counter()
    score, normal = plugin.scorer(model, trusted, child_rng(0, "inputs"), silent)
    negatives = scores_of(model, clean, score, silent)
    positives = scores_of(model, stamped, score, silent)
    seconds = time.perf_counter() - start
    cut = np.sort(normal)[-rank_of(0.01, len(normal))]
    truth = np.r_[np.zeros(len(clean), bool), np.ones(len(stamped), bool)]
    auc = roc_auc(np.concatenate([negatives, positives]), truth)
    own = np.sort(negatives)
    print(
        f"{line}: AUC {auc:.3f}; 1 % threshold of trusted pictures: TPR "
        f"{(positives > cut).mean():.3f} FPR {(negatives > cut).mean():.3f}; TPR at 1 % / 5 % of "
        f"clean inputs {(positives > own[-4]).mean():.3f} / {(positives > own[-16]).mean():.3f}; "
        f"{plugin.forward_passes()} passes an input, {seconds:.1f} s",
        flush=True,
    )


def data(options: argparse.Namespace) -> None:
    chosen = chosen_of(
        options,
        "activation_clustering,spectral_signatures,scan,spectre,frequency,confusion_training",
    )
    for name in options.attacks.split(","):
        for seed in range(options.seeds):
            w = world(name, seed, options, rate=options.rate)
            for which, model, suspect in (
                ("planted", w.planted, w.training),
                ("clean", w.twin, w.clean),
            ):
                features = extract_features(model, suspect)
                subject = Subject(
                    model=model, suspect=suspect, trusted=w.trusted, features=features
                )
                for detector in chosen:
                    poisoned = w.poisoned if which == "planted" else None
                    one_scan(f"{name} {seed} {which} {detector}", detector, subject, poisoned)


def one_scan(line: str, detector: str, subject: Subject, poisoned: BoolArray | None) -> None:
    plugin = build("detectors", parse_spec(detector))
    start = time.perf_counter()
    seen = plugin.inspect(subject.granting(plugin.needs), rng=child_rng(0, "scan"), progress=silent)
    seconds = time.perf_counter() - start
    line += f": p {plugin.null(seen).p_value(seen.statistic):.2g}"
    if poisoned is not None:
        line += (
            f" AUC {roc_auc(seen.scores, poisoned):.3f}, {int(poisoned[seen.suspects].sum())} of "
            f"{int(poisoned.sum())} poisoned among {len(seen.suspects)} suspects"
        )
    print(f"{line}, {seconds:.1f} s", flush=True)


def training(options: argparse.Namespace) -> None:
    methods = {
        "abl": Abl(),
        "pgd": AdversarialTraining(kind="pgd"),
        "patch": AdversarialTraining(kind="patch"),
        "spatial": AdversarialTraining(kind="spatial", steps=10),
        "dbd": Dbd(),
    }
    for name in options.attacks.split(","):
        for seed in range(options.seeds):
            w = world(name, seed, options)
            ca, asr = w.measure(w.planted)
            print(f"{name} {seed} plain CA {ca:.3f} ASR {asr:.3f}", flush=True)
            fresh = small_network(
                image_shape=w.clean.image_shape,
                class_names=w.clean.class_names,
                seed=seed,
                width=16,
            )
            for label in chosen_of(options, ",".join(methods)):
                start = time.perf_counter()
                made = methods[label].train(fresh, w.training, PLAN, rng=child_rng(seed, "secure"))
                seconds = time.perf_counter() - start
                line = ""
                if isinstance(made, Isolated):
                    hits = int(w.poisoned[made.isolated].sum())
                    line = f", {hits} of {len(made.isolated)} isolated samples are poisoned"
                    made = made.model
                if isinstance(made, Decoupled):
                    hits = int(w.poisoned[made.distrusted].sum())
                    line = f", {hits} of {int(w.poisoned.sum())} poisoned lost their label"
                    made = made.model
                ca, asr = w.measure(made)
                print(
                    f"{name} {seed} {label} CA {ca:.3f} ASR {asr:.3f}{line}, {seconds:.0f} s",
                    flush=True,
                )


def chosen_of(options: argparse.Namespace, everything: str) -> list[str]:
    return str(options.only or everything).replace(";", ",").split(",")


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["repairs", "models", "inputs", "data", "training"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trusted", type=int, default=500)
    parser.add_argument("--rate", type=float, default=0.02, help="poison rate of `data`")
    parser.add_argument("--models", default="", help="directory to keep trained models in")
    parser.add_argument("--only", default="")
    parser.add_argument("--attacks", default=",".join(ATTACKS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    np.seterr(all="raise", under="ignore")
    tables = {
        "repairs": repairs,
        "models": models,
        "inputs": inputs,
        "data": data,
        "training": training,
    }
    tables[options.what](options)


if __name__ == "__main__":
    main()
