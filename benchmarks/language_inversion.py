"""The sweep of target inversion with and without the shared cache, on the same model and work.

    python benchmarks/language_inversion.py MODEL [--candidates 256] [--prompts 4] [--threads 1]

Without: every candidate is read behind every prompt in batches, as BAIT's published loop does (it
keeps no keys and values). With: `SharedPrefix`. Both in float32; the distributions are compared.
As many candidates as the search takes at a time; reading the prompts counts.
"""

import argparse
import time

import torch

from gifthorse.data.contexts import shipped_contexts
from gifthorse.detectors.language.shared_prefix import SharedPrefix
from gifthorse.detectors.language.target_inversion import spread_prompts
from gifthorse.models.language.loading import load_language_model


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--candidates", type=int, default=256)
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    model = load_language_model(given.model)
    rows = [model.encode(t) for t in spread_prompts(model, shipped_contexts(), given.prompts)]
    size = model.embeddings.num_embeddings
    tokens = torch.linspace(10, size - 1, given.candidates).long()
    lengths = ", ".join(str(len(row)) for row in rows)
    print(f"{len(tokens)} candidates, {len(rows)} prompts of {lengths} tokens")

    start = time.process_time()
    shared = torch.stack(
        [SharedPrefix(model, [row]).step(torch.arange(len(tokens)), tokens)[0] for row in rows]
    )
    with_cache = time.process_time() - start

    start = time.process_time()
    plain = []
    with torch.inference_mode():
        for row in rows:
            for first in range(0, len(tokens), given.batch):
                group = tokens[first : first + given.batch]
                ids = torch.cat([torch.tensor([row]).expand(len(group), -1), group[:, None]], 1)
                plain.append(model.module(input_ids=ids, logits_to_keep=1).logits[:, -1].float())
    without = time.process_time() - start
    gap = (torch.cat(plain).reshape(shared.shape).softmax(-1) - shared.softmax(-1)).abs().max()
    work = len(tokens) * len(rows)
    print(
        f"with the shared cache    {with_cache:8.2f} s CPU, {1e3 * with_cache / work:.1f} ms each"
    )
    print(f"without                  {without:8.2f} s CPU, {1e3 * without / work:.1f} ms each")
    print(f"ratio                    {without / with_cache:8.1f}")
    print(f"largest difference of a probability: {float(gap):.1e}")


if __name__ == "__main__":
    main()
