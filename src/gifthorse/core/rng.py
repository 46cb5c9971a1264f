"""Randomness is an argument. These helpers derive independent streams from one seed."""

import hashlib

import numpy as np


def make_rng(seed: int) -> np.random.Generator:
    """A generator for one piece of work, from the seed that the user gave."""
    return np.random.default_rng(seed)


def child_rng(seed: int, *names: str | int) -> np.random.Generator:
    """An independent stream for a named part of the work.

    The stream depends on the names alone, so adding a detector to a plan does not change what
    the others draw.
    """
    text = "/".join(str(name) for name in names)
    words = np.frombuffer(hashlib.sha256(text.encode()).digest(), dtype=np.uint32)
    return np.random.default_rng(np.random.SeedSequence([seed, *words.tolist()]))


def draw_seed(rng: np.random.Generator) -> int:
    """A seed for a library that keeps its own generator."""
    return int(rng.integers(2**31 - 1))
