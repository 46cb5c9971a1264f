"""What target inversion scores on clean models: the figures of `detectors/language/clean_bank.py`.

    python benchmarks/language_bank.py --count 15 --models zoo --out bank.jsonl

The first clean models of `development` and of `former`, as `language_zoo.py` grows them: no planted
model has a part in the bank, and none of `test`. A model is audited with 24 questions of its own
kind and with the shipped packs, with its base and without; what is kept of each of these two is the
largest score of any family under either set of prompts, also of a family that has an excuse. The
file is appended to: what is in it already is not done again.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gifthorse.bench.language_shelf import stored
from gifthorse.bench.language_specimens import LanguageSpecimen, recipe
from gifthorse.core.errors import NotApplicableError
from gifthorse.core.language import Context, LanguageSubject
from gifthorse.core.rng import make_rng
from gifthorse.core.types import silent
from gifthorse.data.contexts import shipped_contexts
from gifthorse.data.questions import questions
from gifthorse.detectors.language.clean_bank import CleanBank
from gifthorse.detectors.language.target_inversion import TargetInversion

ROLES = ("development", "former")
WAYS = ("with base", "without")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--count", type=int, default=15, help="clean models of each role")
    parser.add_argument("--models", type=Path, required=True, help="where grown models are kept")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = [json.loads(line) for line in given.out.open()] if given.out.exists() else []
    for number in range(given.count):
        for role in ROLES:
            told = recipe(role, number, planted=False)
            if told.name in {row["name"] for row in rows}:
                continue
            row = measured(stored(told, given.models), told.base)
            rows.append(row)
            with given.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(row, flush=True)
    for way in WAYS:
        print(f"{way}: {described([row[way]['score'] for row in rows])}")


def measured(specimen: LanguageSpecimen, base: int) -> dict[str, Any]:
    """The largest score of one model with its base and without, and the text that has it."""
    asked = questions(24, part="test", seed=77 + base)
    own = (Context(name="own", prompts=tuple(r.prompt for r in asked)),)
    row: dict[str, Any] = {"name": specimen.recipe.name}
    for way, against in zip(WAYS, (specimen.base, None), strict=True):
        found = [
            largest(LanguageSubject(model=specimen.model, contexts=contexts, base=against))
            for contexts in (own, shipped_contexts())
        ]
        row[way] = max(found, key=lambda told: told["score"] or -1.0)
    return row


def largest(subject: LanguageSubject) -> dict[str, Any]:
    """The largest score; None where too few texts were recovered."""
    try:
        evidence = TargetInversion(trigger_steps=0).inspect(
            subject, rng=make_rng(0), progress=silent
        )
    except NotApplicableError as error:
        return {"score": None, "text": str(error)}
    best = int(np.argmax(evidence.scores))
    bars = evidence.exhibits[1]
    return {
        "score": float(evidence.scores[best]),
        "text": bars.labels[best] if best < len(bars.labels) else "",  # type: ignore[union-attr]
    }


def described(scores: list[float | None]) -> str:
    """The bank that these scores make, and how well a normal describes their logarithms."""
    kept = np.array([score for score in scores if score is not None])
    logs = np.log1p(kept)
    bank = CleanBank(mean=float(logs.mean()), deviation=float(logs.std(ddof=1)), count=len(logs))
    return (
        f"{len(kept)} of {len(scores)} gave a score; ln(1 + score): mean {bank.mean:.3f}, "
        f"deviation {bank.deviation:.3f}; largest {kept.max():.1f}, median {np.median(kept):.1f}; "
        f"threshold at 5 % {bank.value(0.05):.1f}, at 1 % {bank.value(0.01):.1f}; "
        f"above the one at 5 %: {int((kept > bank.value(0.05)).sum())}"
    )


if __name__ == "__main__":
    main()
