"""Random damage to files, for the tests of everything that reads hostile ones."""

import copy
import json
import os
import random
import signal
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SECONDS = float(os.environ.get("GIFTHORSE_FUZZ_SECONDS", "5"))
"""How long each slow test goes on; ten minutes each were run for docs/results.md."""
SLOWEST = 10.0
MOST_MEMORY_MIB = 600

_INFINITE = "a number that JSON allows and that becomes infinite"
_STRANGE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**30, 1.5, 1e308, -0.0, _INFINITE),
    *("", "x", "x" * 5000, "\0", "\ud800", "../x", "/", "é", "e\u0301", "sha256", "0" * 64),
    *([], {}, [[]], [None], {"": {}}, [[[[[[[[]]]]]]]], {"a": [{"b": None}]}),
)


def mutated(content: bytes, rng: random.Random) -> bytes:
    """One to sixteen changes of bits, bytes and stretches."""
    raw = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        if not raw:
            break
        at = rng.randrange(len(raw))
        match rng.randrange(7):
            case 0:
                raw[at] ^= 1 << rng.randrange(8)
            case 1:
                raw[at] = rng.randrange(256)
            case 2:
                del raw[at : at + rng.randrange(1, 9)]
            case 3:
                raw[at:at] = rng.randbytes(rng.randrange(1, 9))
            case 4:
                raw[at : at + 8] = rng.choice((bytes(8), b"\xff" * 8, struct.pack("<Q", 1 << 40)))
            case 5:
                other = rng.randrange(len(raw))
                raw[at:at] = raw[other : other + rng.randrange(1, 60)]
            case _:
                del raw[at:]
    return bytes(raw)


def edited(value: Any, rng: random.Random) -> Any:
    """Parsed JSON with one to four values exchanged, left out, doubled or nested."""
    root = [copy.deepcopy(value)]
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        holder, place = rng.choice(list(_places(root)))
        match rng.randrange(5):
            case 0 | 1:
                holder[place] = copy.deepcopy(rng.choice(_STRANGE))
            case 2 if holder is not root:
                del holder[place]
            case 3 if isinstance(holder, list) and holder is not root:
                holder.insert(place, copy.deepcopy(holder[place]))
            case _:
                other, where = rng.choice(list(_places(root)))
                holder[place] = copy.deepcopy(other[where])
    return root[0]


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    keys = value.keys() if isinstance(value, dict) else range(len(value))
    for key in list(keys):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _places(value[key])


def damaged_json(content: bytes, rng: random.Random) -> bytes:
    """A JSON file, damaged as bytes or as values."""
    if rng.random() < 0.4:
        return mutated(content, rng)
    value = edited(json.loads(content), rng)
    spelt = json.dumps(value, indent=rng.choice((None, None, 1)), ensure_ascii=rng.random() < 0.9)
    spelt = spelt.replace(json.dumps(_INFINITE), "1e999")
    return spelt.encode("utf-8", "surrogatepass")


@contextmanager
def no_hang() -> Iterator[None]:
    """Whatever takes longer than ``SLOWEST`` fails, even if it would never end."""

    def stop(number: int, frame: object) -> None:
        raise AssertionError(f"a reader took longer than {SLOWEST:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SLOWEST)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
