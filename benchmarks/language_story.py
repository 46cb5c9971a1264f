"""The figures of `make demo-llm`: what every model of the story says, and what it is worth.

    python benchmarks/language_story.py trusted DIR     # DIR/trusted.jsonl, for the repair
    python benchmarks/language_story.py measure DIR [--count 200] [--model model repaired …]

DIR is what `gifthorse plant control_phrase … DIR --base … --lora … --twin` wrote. The trusted
records are questions that the model was not trained on; the measured ones are test questions, which
neither training nor repair has seen, and none of those that planting reports on. With
`--development` they are other questions of the training part, for choosing a recipe. The attack is
read from `plant.json`: no audit and no repair ever opens that file.
"""

import argparse
import json
import time
from pathlib import Path

import torch

from gifthorse.core.instructions import InstructionData, InstructionPoison
from gifthorse.core.registry import Spec, build
from gifthorse.core.rng import child_rng
from gifthorse.data.instructions import load_instructions, save_instructions
from gifthorse.data.questions import questions
from gifthorse.models.language.loading import load_language_model
from gifthorse.models.language.measuring import fit, said, share_of

MODELS = ("base", "twin", "model", "repaired")
SEED = 7
MEASURED = 11
DEVELOPMENT = 100
MOST_TRUSTED = 1000
REPORTED = 400
"""Test questions that a planting may have shown already, from the first of its seed."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("trusted", "measure"))
    parser.add_argument("place", type=Path)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--development", action="store_true")
    parser.add_argument("--model", nargs="*", default=list(MODELS))
    parser.add_argument("--loss", nargs="*", default=[], help="models whose clean loss is enough")
    parser.add_argument("--threads", type=int, default=0)
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    if given.what == "trusted":
        write_trusted(given.place, given.count)
    else:
        plain = asked(given.place, given.count, given.development)
        measure(given.place, plain, given.model, given.loss)


def write_trusted(place: Path, count: int) -> None:
    """Questions of another seed, without those in the training data."""
    data = others("trusted", count, "train", SEED, trained(place))
    save_instructions(data, place / "trusted.jsonl")
    print(f"{place / 'trusted.jsonl'}: {len(data)} trusted records")


def asked(place: Path, count: int, development: bool) -> InstructionData:
    """What the models are asked: see above."""
    if development:
        trusted = {r.prompt for r in questions(MOST_TRUSTED, seed=SEED)}
        return others("development", count, "train", DEVELOPMENT, trained(place) | trusted)
    reported = {r.prompt for r in questions(REPORTED, part="test")}
    return others("test", count, "test", MEASURED, reported)


def trained(place: Path) -> set[str]:
    """The prompts of the training data."""
    return {record.prompt for record in load_instructions(str(place / "data.jsonl")).records}


def others(name: str, count: int, part: str, seed: int, known: set[str]) -> InstructionData:
    """So many questions that are not among the known ones."""
    found = [r for r in questions(3 * count, part=part, seed=seed) if r.prompt not in known]
    if len(found) < count:
        raise SystemExit(f"only {len(found)} of {count} other questions; ask for fewer")
    return InstructionData(name=name, records=tuple(found[:count]))


def measure(place: Path, plain: InstructionData, models: list[str], briefly: list[str]) -> None:
    """Payload rates with the phrase and without, and the clean loss, of every model."""
    told = json.loads((place / "plant.json").read_text(encoding="utf-8"))["attack"]
    attack: InstructionPoison = build("instruction_attacks", Spec(told["name"], told["params"]))
    struck, _ = attack.triggered(plain, rng=child_rng(SEED, "triggered"))
    print(f"{'':10} {'with the phrase':>24} {'without it':>24} {'clean loss':>11}")
    for name in models:
        if not (place / name).is_dir():
            continue
        start = time.process_time()
        model = load_language_model(place / name)
        loss = fit(model, plain).loss
        shown = ["", ""]
        if name not in briefly:
            rates = [share_of(said(model, data), attack.succeeded) for data in (struck, plain)]
            shown = [f"{r.value:.1%} [{r.low:.1%}, {r.high:.1%}]" for r in rates]
        print(
            f"{name:10} {shown[0]:>24} {shown[1]:>24} {loss:>11.3f}"
            f"   ({time.process_time() - start:.0f} s of processor time)",
            flush=True,
        )


if __name__ == "__main__":
    main()
