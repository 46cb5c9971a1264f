"""What `text_trigger` sees of poisoned sentences, and how clean ones and clean docstrings fare.

    python benchmarks/text_scan.py [--part 0] [--train 6000] [--cube] [ATTACK …]

Part 0 of `snippets` (`make data`) is what the detector was built on, parts 1 and 2 are others.
Beside them stand docstrings of installed packages, the package being the label: they hold much
boilerplate, which is what goes wrong first with such a search. Seconds of processor time a scan.
With ``--cube`` a network is trained on every data set, and CUBE looks at its activations instead.
"""

import argparse
import ast
import importlib.util
import time
from pathlib import Path

import numpy as np

from gifthorse.core.registry import build, parse_spec
from gifthorse.core.texts import TextData
from gifthorse.core.types import BoolArray, Subject, silent
from gifthorse.data.texts import load_texts
from gifthorse.detectors.data.cube import Cube
from gifthorse.detectors.data.text_trigger import TextTrigger
from gifthorse.models.texts.networks import small_text_network, train_tokenizer
from gifthorse.models.texts.passes import extract_text_features
from gifthorse.models.texts.training import TextTrainingPlan, train_texts

KINDS = (
    "rare_token:",
    "add_sentence:",
    "typing_style:style=spaced-stops,",
    "typing_style:style=no-capitals,",
    "word_substitution:",
    "syntactic_template:",
)
ATTACKS = tuple(f"{kind}target={target}" for kind in KINDS for target in range(4))
PACKAGES = (
    ("numpy", "scipy", "sklearn", "transformers"),
    ("torch", "pip", "pydantic", "typer"),
    ("jinja2", "rich", "peft", "tokenizers"),
    ("pyarrow", "yaml", "cryptography", "mypy"),
    ("email", "asyncio", "unittest", "json"),
    ("numpy", "torch"),
    ("scipy", "sklearn"),
)
MOST = 1200
LENGTH = 150
THRESHOLD = -np.log10(0.05)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("attack", nargs="*", default=list(ATTACKS))
    parser.add_argument("--part", type=int, default=0)
    parser.add_argument("--train", type=int, default=6000)
    parser.add_argument("--cube", action="store_true")
    given = parser.parse_args()
    whole = load_texts("snippets")
    order = np.random.default_rng(0).permutation(len(whole))
    part = whole.at(order[given.part * given.train : (given.part + 1) * given.train])
    nothing = np.zeros(len(part), dtype=np.bool_)
    scan = by_cube if given.cube else by_traits
    scan("clean", part, nothing)
    for text in given.attack:
        attack = build("text_attacks", parse_spec(text))
        data, truth = attack.poison(part, rng=np.random.default_rng(given.part))
        scan(text, data, truth.poisoned)
    for names in PACKAGES if not given.cube else ():
        data = docstrings(names)
        scan(f"docstrings of {', '.join(names)}", data, np.zeros(len(data), dtype=np.bool_))


def by_cube(name: str, data: TextData, poisoned: BoolArray) -> None:
    start = time.process_time()
    rng = np.random.default_rng(0)
    network = small_text_network(train_tokenizer(data.texts), class_names=data.class_names, seed=0)
    trained = train_texts(network, data, TextTrainingPlan(epochs=4), rng=rng)
    features = extract_text_features(trained, data)
    middle = time.process_time()
    seen = Cube().inspect(Subject(suspect=data, features=features), rng=rng, progress=silent)
    p_value = Cube().null(seen).p_value(seen.statistic)
    dropped = seen.scores > 0
    share = f"drops {dropped[poisoned].mean():.1%} of the poison, " if poisoned.any() else ""
    print(
        f"{name}: {share}{dropped[~poisoned].mean():.1%} of the clean texts; p = {p_value:.3f}; "
        f"training {middle - start:.0f} s, clusters {time.process_time() - middle:.1f} s",
        flush=True,
    )


def by_traits(name: str, data: TextData, poisoned: BoolArray) -> None:
    start = time.process_time()
    seen = TextTrigger().inspect(
        Subject(suspect=data), rng=np.random.default_rng(0), progress=silent
    )
    flagged = seen.statistic > THRESHOLD
    found = np.zeros(len(data), dtype=np.bool_)
    found[seen.suspects] = flagged
    share = f"TPR {found[poisoned].mean():.1%}, " if poisoned.any() else ""
    print(
        f"{name}: {'FLAGGED' if flagged else 'clear'} {seen.statistic:.1f}, {share}"
        f"FPR {found[~poisoned].mean():.2%} of {len(data)}, {time.process_time() - start:.1f} s",
        flush=True,
    )


def docstrings(packages: tuple[str, ...]) -> TextData:
    """Up to 1,200 different beginnings of docstrings of each package, in random order."""
    texts, labels = [], []
    for label, package in enumerate(packages):
        found = sorted(set(_docstrings(package)))
        np.random.default_rng(0).shuffle(found)
        texts += found[:MOST]
        labels += [label] * len(found[:MOST])
    order = np.random.default_rng(0).permutation(len(texts))
    return TextData(
        name="docstrings",
        texts=tuple(texts[int(i)] for i in order),
        labels=np.array(labels, dtype=np.int64)[order],
        class_names=packages,
    )


def _docstrings(package: str) -> list[str]:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    found: list[str] = []
    for path in sorted(Path(spec.submodule_search_locations[0]).rglob("*.py")):
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                text = " ".join((ast.get_docstring(node) or "").split())[:LENGTH]
                found += [text] if len(text) > 30 else []
        if len(found) > 4 * MOST:
            break
    return found


if __name__ == "__main__":
    main()
