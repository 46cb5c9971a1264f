"""Texts that are nearly the same as another one, found without comparing all with all.

MinHash with bands (Broder 1997, "On the resemblance and containment of documents"; Leskovec,
Rajaraman and Ullman, "Mining of Massive Datasets", chapter 3): 64 hashes of the set of words in 16
bands of four; who shares a band is compared. Copies with another label or answer are how careless
poison shows: a sample was taken, a trigger put in, the label changed. Shown, not judged: honest
data hold copies, too.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from gifthorse.core.exhibits import Passage, TextsExhibit

ALIKE = 0.75
"""Share of all words of two texts that both hold, from which they are near copies."""
_BANDS, _ROWS = 16, 4
_PRIME = (1 << 31) - 1
_LEAST_WORDS = 4
_SHOWN = 6


@dataclass(frozen=True, slots=True)
class NearCopy:
    """Two texts by index, the first one first, and the share of words that they have in common."""

    first: int
    second: int
    alike: float


def near_copies(words: Sequence[frozenset[str]]) -> list[NearCopy]:
    """Near copies, at most one for every text: the most alike of the earlier ones that were met.

    Args:
        words: The words of each text; texts of fewer than four different words are left out.
    """
    kept = [i for i, found in enumerate(words) if len(found) >= _LEAST_WORDS]
    if len(kept) < 2:
        return []
    marks = _min_hashes([words[i] for i in kept])
    best: dict[int, NearCopy] = {}
    for band in range(_BANDS):
        seen: dict[bytes, int] = {}
        part = np.ascontiguousarray(marks[:, band * _ROWS : (band + 1) * _ROWS])
        for place, index in enumerate(kept):
            other = seen.setdefault(part[place].tobytes(), index)
            if other == index:
                continue
            share = len(words[other] & words[index]) / len(words[other] | words[index])
            known = best.get(index)
            if share >= ALIKE and (known is None or share > known.alike):
                best[index] = NearCopy(other, index, share)
    return [best[index] for index in sorted(best)]


def copies_shown(
    pairs: Sequence[NearCopy], texts: Sequence[str], names: Sequence[str]
) -> tuple[TextsExhibit, ...]:
    """Pairs whose names (labels, answers) differ, the most alike first; () for none.

    Args:
        pairs: As ``near_copies`` gives them.
        texts: All texts.
        names: What each is labelled or answered with, as many.
    """
    other = [pair for pair in pairs if names[pair.first] != names[pair.second]]
    other.sort(key=lambda pair: (-pair.alike, pair.second))
    if not other:
        return ()
    passages = tuple(
        Passage(label=f"#{i}, {names[i][:80]!r}", text=texts[i][:2000])
        for pair in other[:_SHOWN]
        for i in (pair.first, pair.second)
    )
    return (
        TextsExhibit(
            title="Near copies that do not go with the same thing",
            caption=f"{len(other)} pairs, the most alike first, two by two. Not judged.",
            passages=passages,
        ),
    )


def copies_told(pairs: Sequence[NearCopy], names: Sequence[str]) -> str:
    """One sentence for a record."""
    other = sum(names[pair.first] != names[pair.second] for pair in pairs)
    return (
        f"{len(pairs)} texts are near copies of an earlier one, {other} of them labelled otherwise"
    )


def _min_hashes(words: Sequence[frozenset[str]]) -> np.ndarray:
    """(texts, hashes); the seed is fixed, so that two runs meet the same pairs."""
    numbers = {word: _number(word) for word in set(chain.from_iterable(words))}
    rng = np.random.default_rng(0)
    factor, shift = rng.integers(1, _PRIME, (2, _BANDS * _ROWS), dtype=np.int64)
    out = np.empty((len(words), _BANDS * _ROWS), dtype=np.int64)
    for i, found in enumerate(words):
        values = np.array([numbers[word] for word in found], dtype=np.int64)
        out[i] = ((values[:, None] * factor + shift) % _PRIME).min(axis=0)
    return out


def _number(word: str) -> int:
    digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % _PRIME
