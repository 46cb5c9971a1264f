"""Attacks on a text classifier, and what the defences of inputs and of data see of them.

    python benchmarks/text_defences.py [ATTACK …] [--train 6000] [--lm DIR|smollm2]

Real sentences (`snippets`, `make data`). A small DistilBERT is trained from nothing on poisoned
data, and a twin without poison. Trusted, clean and triggered sentences are parts of the test set
that do not overlap; thresholds are for 5 % of clean inputs and come from the trusted ones alone.
"""

import argparse
import time

import numpy as np
import torch

from gifthorse.auditing.scan import suspects_of
from gifthorse.auditing.scan_texts import scan_texts
from gifthorse.bench.plant_texts import plant_texts
from gifthorse.core.registry import build, parse_spec
from gifthorse.core.rng import child_rng, draw_seed
from gifthorse.core.texts import TextData
from gifthorse.core.types import silent
from gifthorse.data.texts import load_texts
from gifthorse.detectors.inputs.calibrated import rank_of
from gifthorse.detectors.texts.calibrated import text_scores
from gifthorse.detectors.texts.onion import Onion
from gifthorse.metrics.rates import agreement
from gifthorse.models.texts.classifier import TextClassifier
from gifthorse.models.texts.networks import small_text_network, train_tokenizer
from gifthorse.models.texts.passes import predict_texts
from gifthorse.models.texts.training import TextTrainingPlan, train_texts

ATTACKS = (
    "rare_token:target=3",
    "add_sentence:target=3",
    "typing_style:target=3",
    "word_substitution:target=3",
    "syntactic_template:target=3",
)
PART = 400
RATE = 0.05


def part(data: TextData, order: np.ndarray, number: int) -> TextData:
    return data.at(order[number * PART : (number + 1) * PART])


def percent(rate: float) -> str:
    return f"{100 * rate:.1f}"


def dropped_by_cube(data: TextData, network: TextClassifier, seed: int) -> np.ndarray:
    """What CUBE would leave out of the training data, shape (n,)."""
    (finding,) = scan_texts(data, model=network, detectors=("cube",), seed=seed).findings
    assert finding.evidence is not None, finding.reason
    return np.array(finding.evidence.scores) > 0


def retrained(data: TextData, seed: int) -> TextClassifier:
    """A classifier as `plant_texts` trains it, on this data."""
    network = small_text_network(
        train_tokenizer(data.texts), class_names=data.class_names, width=64,
        seed=draw_seed(child_rng(seed, "network")),
    )  # fmt: skip
    return train_texts(network, data, TextTrainingPlan(epochs=4), rng=child_rng(seed, "train"))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("attack", nargs="*", default=list(ATTACKS))
    parser.add_argument("--train", type=int, default=6000)
    parser.add_argument("--lm", default="")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    train, test = load_texts("snippets"), load_texts("snippets", split="test")
    rng = np.random.default_rng(given.seed)
    train = train.at(rng.permutation(len(train))[: given.train])
    order = rng.permutation(len(test))
    trusted, clean, struck = (part(test, order, i) for i in range(3))
    for text in given.attack:
        start = time.process_time()
        attack = build("text_attacks", parse_spec(text))
        planted = plant_texts(
            attack, train, test.at(order[3 * PART :]), with_twin=True, seed=given.seed,
            training=TextTrainingPlan(epochs=4),
        )  # fmt: skip
        record, model = planted.record, planted.classifier
        assert planted.twin is not None
        wanted, _ = attack.triggered(struck, rng=child_rng(given.seed, "triggered"))
        twin_asr = agreement(predict_texts(planted.twin, wanted), wanted.labels)
        twin_ca = record.twin_clean_accuracy
        assert twin_ca is not None
        print(
            f"{text}: CA {percent(record.clean_accuracy.value)} (twin {percent(twin_ca.value)}), "
            f"ASR {percent(record.attack_success_rate.value)} (twin {percent(twin_asr.value)}), "
            f"{time.process_time() - start:.0f} s",
            flush=True,
        )
        works = predict_texts(model, wanted) == wanted.labels
        for name in ("onion", "strip_text", "rap"):
            start = time.process_time()
            options = f"{name}:lm={given.lm}" if name == "onion" and given.lm else name
            plugin = build("text_detectors", parse_spec(options))
            score, normal = plugin.scorer(model, trusted, child_rng(given.seed, name), silent)
            cut = np.sort(normal)[-rank_of(RATE, len(normal))]
            hot = text_scores(wanted.texts, score, silent) > cut
            cold = text_scores(clean.texts, score, silent) > cut
            print(
                f"  {options}: TPR {percent(hot.mean())} (of those that work "
                f"{percent(hot[works].mean()) if works.any() else '–'}), "
                f"FPR {percent(cold.mean())}, "
                f"{time.process_time() - start:.0f} s",
                flush=True,
            )
        purify, _ = Onion(lm=given.lm).purifier(model, trusted, silent)
        after = [
            TextData(
                name="purified", texts=tuple(purify(t) for t in data.texts),
                labels=data.labels, class_names=data.class_names,
            )
            for data in (wanted, clean)
        ]  # fmt: skip
        before = agreement(predict_texts(model, clean), clean.labels)
        print(
            "  onion, words removed: ASR "
            f"{percent(agreement(predict_texts(model, wanted), wanted.labels).value)} → "
            f"{percent(agreement(predict_texts(model, after[0]), wanted.labels).value)}, CA "
            f"{percent(before.value)} → "
            f"{percent(agreement(predict_texts(model, after[1]), clean.labels).value)}",
            flush=True,
        )
        for which, data, network, bad in (
            ("poisoned", planted.training_data, model, planted.truth.poisoned),
            ("twin", train, planted.twin, np.zeros(len(train), dtype=np.bool_)),
        ):
            start = time.process_time()
            dropped = dropped_by_cube(data, network, given.seed)
            again = retrained(data.at(np.flatnonzero(~dropped)), given.seed)
            share = percent(dropped[bad].mean()) if bad.any() else "–"
            print(
                f"  cube, {which} data: drops {share} of the poison, "
                f"{percent(dropped[~bad].mean())} of the rest; trained again: ASR "
                f"{percent(agreement(predict_texts(again, wanted), wanted.labels).value)}, CA "
                f"{percent(agreement(predict_texts(again, clean), clean.labels).value)} (before "
                f"{percent(agreement(predict_texts(network, clean), clean.labels).value)}), "
                f"{time.process_time() - start:.0f} s",
                flush=True,
            )
        for which, data, network in (
            ("poisoned", planted.training_data, model),
            ("twin", train, planted.twin),
        ):
            scan = scan_texts(data, model=network, seed=given.seed)
            found = np.zeros(len(data), dtype=np.bool_)
            found[list(suspects_of(scan))] = True
            bad = planted.truth.poisoned if which == "poisoned" else np.zeros(len(data), np.bool_)
            share = percent(found[bad].mean()) if bad.any() else "–"
            print(
                f"  scan of the {which} data: {scan.verdict}, TPR {share}, "
                f"FPR {100 * found[~bad].mean():.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
