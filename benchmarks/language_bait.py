"""Target inversion's shared cache beside BAIT's published loop, on the same model and work.

    git clone https://github.com/SolidShen/BAIT /tmp/bait
    python benchmarks/language_bait.py /tmp/bait MODEL [--candidates 100] [--full 3] [--threads 1]

Their class ``BAIT`` runs as it stands with its defaults (4 prompts for the warm-up of 5 steps, 20
prompts for the full inversion of 20 steps), on prompts cut to their 32 tokens and first tokens from
their list (words with a space before them), in their batches of 100. Ours does the same work, the
same first tokens on the same prompts by the same rule, behind one copy of every prompt. The full
inversion is timed on the first few candidates that their warm-up keeps. What a scan of their whole
list would take follows from the two and from the share that was kept. Processor seconds.
Weights in float32, and with --bfloat16 in that for both. Runs code of that repository: look first.
"""

import argparse
import contextlib
import io
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from gifthorse.core.deadline import Deadline
from gifthorse.core.journal import Journal
from gifthorse.core.types import silent
from gifthorse.data.questions import questions
from gifthorse.detectors.language.inverting import Chain, Options, _finish, _warm_up
from gifthorse.detectors.language.shared_prefix import Trees
from gifthorse.models.language.loading import load_language_model
from gifthorse.models.language.model import LanguageModel

LENGTH = 32  # DataArguments.max_length
T = TypeVar("T")


class Quiet:
    """A logger that says nothing."""

    def info(self, text: str) -> None:
        """Nothing."""

    def debug(self, text: str) -> None:
        """Nothing."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("checkout", type=Path)
    parser.add_argument("model")
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--full", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bfloat16", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    dtype = torch.bfloat16 if given.bfloat16 else torch.float32
    model = load_language_model(given.model, dtype=dtype)
    scanner = published(given.checkout, model)
    rows = prompts(model, scanner.prompt_size)
    words = first_tokens(model)
    chosen = [words[int(i)] for i in torch.linspace(0, len(words) - 1, given.candidates).long()]
    print(
        f"{len(chosen)} of {len(words)} first tokens, "
        f"{len(rows)} prompts of {len(rows[0])} tokens, "
        f"{str(dtype).removeprefix('torch.')}, {given.threads} thread(s)",
        flush=True,
    )
    theirs, (kept, warmed) = timed(lambda: their_warm_up(scanner, rows, chosen))
    few = kept[: given.full]
    print(f"BAIT: warm-up {theirs:.1f} s, {len(kept)} of {len(chosen)} kept", flush=True)
    their_full, _ = timed(lambda: their_finish(scanner, rows, chosen, warmed, few))
    print(f"BAIT: full inversion of {len(few)}: {their_full:.1f} s", flush=True)

    ours, (chains, trees) = timed(lambda: our_warm_up(model, rows, chosen, scanner))
    mine = [i for i, chain in enumerate(chains) if not chain.dropped]
    agreed = len(set(mine) & set(kept))
    print(f"ours: warm-up {ours:.1f} s, {len(mine)} kept, {agreed} of them also there")
    del trees
    our_full, done = timed(lambda: our_finish(model, rows, chosen, warmed, few, scanner))
    print(f"ours: full inversion of {len(few)}: {our_full:.1f} s")
    for chain in done:
        print(f"  {model.tokenizer.decode(chain.tokens)!r}")
    share = len(kept) / len(chosen)
    print(
        "| | warm-up, ms a candidate | full, s a candidate | whole list, hours |\n|---|---|---|---|"
    )
    for name, first, second in (("BAIT", theirs, their_full), ("ours", ours, our_full)):
        one, two = first / len(chosen), second / max(1, len(few))
        total = len(words) * (one + share * two) / 3600
        print(f"| {name} | {1e3 * one:.0f} | {two:.2f} | {total:.2f} |")
    print(f"ratio: warm-up {theirs / ours:.1f}, full inversion {their_full / our_full:.1f}")


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """Processor seconds, and the result."""
    start = time.process_time()
    found = work()
    return time.process_time() - start, found


def published(checkout: Path, model: LanguageModel) -> Any:
    """Their scanner with its defaults."""
    sys.path.insert(0, str(checkout))
    from bait.argument import BAITArguments, DataArguments  # type: ignore[import-not-found]
    from bait.bait import BAIT  # type: ignore[import-not-found]

    options = BAITArguments()
    options.batch_size = DataArguments().batch_size
    options.prompt_size = 20  # their scripts
    return BAIT(model.module, model.tokenizer, None, options, Quiet(), "cpu")


def prompts(model: LanguageModel, count: int) -> list[list[int]]:
    """Rendered questions of one length, cut on the left as their loader does."""
    asked = model.prompts([record.prompt for record in questions(count, part="test")])
    found = [model.encode(text) for text in asked]
    length = min(LENGTH, *map(len, found))
    return [row[-length:] for row in found]


def first_tokens(model: LanguageModel) -> list[int]:
    """Their list: words with a space before them."""
    return sorted(
        i
        for token, i in model.tokenizer.get_vocab().items()
        if token.startswith(("▁", "Ġ")) and token[1:].isalpha()
    )


def their_batch(rows: Sequence[Sequence[int]], chosen: Sequence[int]) -> Tensor:
    """Every prompt with every first token, (candidates · prompts, length)."""
    return torch.tensor([[*row, token] for token in chosen for row in rows])


@torch.no_grad()
def their_warm_up(
    scanner: Any, rows: Sequence[Sequence[int]], chosen: Sequence[int]
) -> tuple[list[int], tuple[Tensor, Tensor]]:
    """Which candidates it keeps, and the tokens and probabilities of all, (steps, candidates)."""
    parts = []
    for start in range(0, len(chosen), scanner.batch_size):
        group = chosen[start : start + scanner.batch_size]
        ids = their_batch(rows[: scanner.warmup_batch_size], group)
        with contextlib.redirect_stdout(io.StringIO()):  # it prints distributions
            parts.append(scanner.warm_up_inversion(ids, torch.ones_like(ids)))
    targets, probs = (torch.cat([part[i] for part in parts], 1) for i in (0, 1))
    return [i for i in range(len(chosen)) if -1 not in targets[:, i]], (targets, probs)


@torch.no_grad()
def their_finish(
    scanner: Any,
    rows: Sequence[Sequence[int]],
    chosen: Sequence[int],
    warmed: tuple[Tensor, Tensor],
    few: Sequence[int],
) -> Any:
    """Their score and text of the best of a few candidates."""
    ids = their_batch(rows, [chosen[i] for i in few])
    parts = [part[:, list(few)] for part in warmed]
    return scanner.full_inversion(*parts, ids, torch.ones_like(ids), {})


def our_options(scanner: Any) -> Options:
    return Options(
        warmup_prompts=scanner.warmup_batch_size,
        warmup_steps=scanner.warmup_steps,
        steps=scanner.full_steps,
        finalists=48,
        first_tokens=0,
        chunk=256,
    )


def our_warm_up(
    model: LanguageModel, rows: Sequence[Sequence[int]], chosen: Sequence[int], scanner: Any
) -> tuple[list[Chain], Trees]:
    """BAIT's rule on the shared cache."""
    trees = Trees.of(model, None, rows[: scanner.warmup_batch_size], width=len(chosen))
    return _warm_up(trees, chosen, scanner.warmup_steps), trees


def our_finish(
    model: LanguageModel,
    rows: Sequence[Sequence[int]],
    chosen: Sequence[int],
    warmed: tuple[Tensor, Tensor],
    few: Sequence[int],
    scanner: Any,
) -> list[Chain]:
    """The same candidates with the same beginnings on all prompts."""
    chains = [Chain(tokens=[chosen[i], *warmed[0][:, i].tolist()]) for i in few]
    return _finish(
        Trees.of(model, None, rows, width=len(few)), model.end_ids, chains, our_options(scanner),
        Deadline(), Journal(), silent,
    )  # fmt: skip


if __name__ == "__main__":
    main()
