"""Repairs of planted and clean text classifiers: CA and ASR before and after, and the gate.

    python benchmarks/text_repairs.py [ATTACK …] [--seeds 0] [--trusted 1000] [--method NAME …]

Real sentences (`snippets`, `make data`). A small DistilBERT is trained from nothing on poisoned
data (3 %), and a twin without poison. Half of the trusted sentences serve a repair, the other half
are the gate (2 points); CA and ASR are measured on sentences of the test set that are not among
them. `trigger_unlearning` is given the words that an audit would point to at best: the planted
ones, of a sentence its rarest. So it says what unlearning is worth if the audit is right; attacks
without words leave it out.
"""

import argparse
import time

import numpy as np
import torch

from gifthorse.auditing.mend import judged
from gifthorse.auditing.repair_texts import DEFAULT_DROP
from gifthorse.bench.plant_texts import plant_texts
from gifthorse.core.registry import build, parse_spec
from gifthorse.core.rng import child_rng
from gifthorse.core.text_repairs import TextRepairSubject
from gifthorse.core.texts import RecoveredPhrase, TextData
from gifthorse.core.types import Need, silent
from gifthorse.data.texts import load_texts
from gifthorse.metrics.rates import agreement
from gifthorse.models.texts.classifier import TextClassifier
from gifthorse.models.texts.passes import predict_texts
from gifthorse.models.texts.training import TextTrainingPlan

ATTACKS = {
    "rare_token:target=2,token=qz": "qz",
    "word_substitution:target=1,by=perchance": "perchance",
    "add_sentence:target=0": "weekend",
    "typing_style:target=3": "",
    "syntactic_template:target=3": "",
}
METHODS = ("fine_tuning", "trigger_unlearning", "universal_unlearning")
SIZE = 6000


def percent(model: TextClassifier, data: TextData) -> str:
    return f"{100 * agreement(predict_texts(model, data), data.labels).value:.1f}"


def repaired(
    model: TextClassifier, method: str, word: str, target: int, trusted: TextData, seed: int
) -> tuple[TextClassifier, str] | None:
    """The model after a repair, whatever the gate says; None if the repair lacks something."""
    plugin = build("text_repairs", parse_spec(method))
    if Need.TRIGGERS in plugin.needs and not word:
        return None
    half = len(trusted) // 2
    tuning, held = (trusted.at(np.arange(*ends)) for ends in ((0, half), (half, len(trusted))))
    subject = TextRepairSubject(
        model=model, trusted=tuning, triggers=(RecoveredPhrase(target=target, text=word),)
    ).granting(plugin.needs)
    mended = plugin.mend(subject, rng=child_rng(seed, "mend"), progress=silent)
    before, after = (predict_texts(m, held) for m in (model, mended))
    outcome = judged(before, after, held.labels, DEFAULT_DROP, things="texts")
    return mended, "accepted" if outcome.accepted else "refused"


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("attack", nargs="*", default=list(ATTACKS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--trusted", type=int, default=1000)
    parser.add_argument("--method", nargs="+", default=list(METHODS))
    given = parser.parse_args()
    torch.set_num_threads(1)
    everything, test = load_texts("snippets"), load_texts("snippets", split="test")
    for seed in given.seeds:
        rng = np.random.default_rng(seed)
        train = everything.at(rng.permutation(len(everything))[:SIZE])
        order = rng.permutation(len(test))
        trusted, fresh = test.at(order[: given.trusted]), test.at(order[given.trusted :])
        for text in given.attack:
            attack = build("text_attacks", parse_spec(text))
            planted = plant_texts(
                attack, train, fresh, training=TextTrainingPlan(epochs=4), with_twin=True, seed=seed
            )
            wanted, _ = attack.triggered(fresh, rng=child_rng(seed, "triggered"))
            assert planted.twin is not None
            for which, model in (("planted", planted.classifier), ("twin", planted.twin)):
                print(
                    f"{text} seed {seed} {which}: CA {percent(model, fresh)}, "
                    f"ASR {percent(model, wanted)}",
                    flush=True,
                )
                for method in given.method:
                    start = time.process_time()
                    done = repaired(
                        model, method, ATTACKS.get(text, ""), attack.target, trusted, seed
                    )
                    if done is None:
                        continue
                    seconds = time.process_time() - start
                    print(
                        f"  {method}: CA {percent(done[0], fresh)}, ASR {percent(done[0], wanted)},"
                        f" {done[1]}, {seconds:.0f} s",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
