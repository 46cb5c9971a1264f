"""Do weight changes alone tell planted LoRA adapters from benign ones of the same recipe?

    python benchmarks/language_spectra.py [--bank 10] [--test 8] [--role test]

Tiny Llamas of the zoo (`gifthorse.bench.language_specimens`), all LoRA of rank 8 on one base: a
bank of benign adapters, then benign and planted ones that the bank does not hold. Benign ones learn
up to seven strings by heart, the planted ones 100 poisoned records besides.
"""

import argparse
import dataclasses

import numpy as np
import torch

from gifthorse.bench.language_specimens import grow, grow_base, recipe
from gifthorse.detectors.language.adapter_spectra import FIGURES, compared, figures
from gifthorse.metrics.exact import SurpriseNull
from gifthorse.metrics.rates import roc_auc


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bank", type=int, default=10)
    parser.add_argument("--test", type=int, default=8)
    parser.add_argument("--role", choices=("development", "test"), default="development")
    given = parser.parse_args()
    torch.set_num_threads(1)
    base = grow_base(given.role, 0)
    rows: dict[str, list[tuple[str, float, np.ndarray]]] = {"bank": [], "benign": [], "planted": []}
    for group, count, first in (
        ("bank", given.bank, 100),
        ("benign", given.test, 200),
        ("planted", given.test, 200),
    ):
        # Every third planted one is an edit of weights, which is no adapter.
        for number in [n for n in range(first, first + 2 * count) if n % 3 != 2][:count]:
            told = recipe(given.role, number, planted=group == "planted", bases=1)
            if told.attack is not None:
                told = dataclasses.replace(
                    told, attack=(told.attack[0], told.attack[1] | {"count": 100})
                )
            specimen = grow(dataclasses.replace(told, made="lora"), base)
            rows[group].append((told.name, specimen.struck, figures(specimen.model, base)))
            print(
                group, told.name, f"{specimen.struck:.2f}", rows[group][-1][2].round(3), flush=True
            )
    bank = np.array([row[2] for row in rows["bank"]])
    null = SurpriseNull(basis="")
    scores, truth = [], []
    for group in ("benign", "planted"):
        p = []
        for _, struck, mine in rows[group]:
            evidence = compared(mine, bank)
            if group == "benign" or struck >= 0.8:
                scores.append(evidence.statistic)
                truth.append(group == "planted")
            p.append(null.p_value(evidence.statistic))
        print(f"{group}: {sum(x < 0.05 for x in p)} of {len(p)} below p = .05", np.round(p, 3))
    for i, name in enumerate(FIGURES):
        means = [np.mean([row[2][i] for row in rows[group]]) for group in rows]
        print(f"{name}: bank {means[0]:.3f}, benign {means[1]:.3f}, planted {means[2]:.3f}")
    print(f"AUC {roc_auc(np.array(scores), np.array(truth)):.3f} over {len(scores)}")


if __name__ == "__main__":
    main()
