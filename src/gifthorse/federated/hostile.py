"""Every kind of hostile or broken reply, made from an honest one. For evaluation only.

Our own collection, after what servers in the field are known to fall over.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from gifthorse.core.errors import SpecError
from gifthorse.federated.gate import Reason, Reply

Spoil = Callable[[Reply, Reply], list[Reply]]
"""``spoil(now, first)``: what is sent instead of the honest reply ``now``; ``first`` is the honest
reply of the same client in round 0."""


def _filled(value: float) -> Spoil:
    def spoil(now: Reply, _: Reply) -> list[Reply]:
        return [_with_first_array(now, lambda a: np.full_like(a, value))]

    return spoil


def _with_first_array(reply: Reply, change: Callable[[np.ndarray], np.ndarray]) -> Reply:
    name = next(iter(reply.arrays))
    return replace(reply, arrays={**reply.arrays, name: change(reply.arrays[name])})


def _examples(value: object) -> Spoil:
    return lambda now, _: [replace(now, examples=value)]


def _missing_array(now: Reply, _: Reply) -> list[Reply]:
    return [replace(now, arrays=dict(list(now.arrays.items())[1:]))]


def _overflow(now: Reply, _: Reply) -> list[Reply]:
    with np.errstate(over="ignore"):
        return [_with_first_array(now, lambda a: (a * np.float32(1e6)).astype(np.float16))]


HOSTILE: dict[str, tuple[Spoil, Reason | None]] = {
    "nan": (_filled(np.nan), Reason.NOT_FINITE),
    "inf": (_filled(np.inf), Reason.NOT_FINITE),
    "wrong-shape": (
        lambda now, _: [_with_first_array(now, lambda a: a.ravel()[:-1])],
        Reason.WRONG_SHAPE,
    ),
    "missing-array": (_missing_array, Reason.MISSING_ARRAY),
    "extra-array": (
        lambda now, _: [replace(now, arrays={**now.arrays, "extra": np.zeros(3, np.float32)})],
        Reason.EXTRA_ARRAY,
    ),
    "float16-overflow": (_overflow, Reason.WRONG_TYPE),
    "objects": (
        lambda now, _: [_with_first_array(now, lambda a: a.astype(object))],
        Reason.WRONG_TYPE,
    ),
    "missing-metrics": (lambda now, _: [replace(now, metrics={})], Reason.BAD_METRICS),
    "extra-metric": (
        lambda now, _: [replace(now, metrics={**now.metrics, "bonus": 1.0})],
        Reason.BAD_METRICS,
    ),
    "nan-metric": (
        lambda now, _: [replace(now, metrics=dict.fromkeys(now.metrics, float("nan")))],
        Reason.BAD_METRICS,
    ),
    "examples-1e12": (_examples(10**12), Reason.BAD_EXAMPLES),
    "examples-negative": (_examples(-600), Reason.BAD_EXAMPLES),
    "examples-nan": (_examples(float("nan")), Reason.BAD_EXAMPLES),
    "replay": (lambda now, first: [replace(first, round=now.round)], Reason.REPLAY),
    "stale-round": (lambda now, _: [replace(now, round=now.round - 1)], Reason.STALE_ROUND),
    "unknown-client": (
        lambda now, _: [replace(now, client="nobody-asked")],
        Reason.UNKNOWN_CLIENT,
    ),
    "duplicate": (lambda now, _: [now, now], Reason.DUPLICATE),
    "huge": (
        lambda now, _: [_with_first_array(now, lambda a: a + np.float32(1e30))],
        Reason.HUGE_NORM,
    ),
    "dropped": (lambda *_: [], None),
}
"""By name: what is sent, and the reason that the gate must give (None: it is missing)."""


def kinds(names: tuple[str, ...]) -> tuple[str, ...]:
    """The kinds that a study names; ``all`` for every one.

    Raises:
        SpecError: No such kind.
    """
    if "all" in names:
        return tuple(HOSTILE)
    for name in names:
        if name not in HOSTILE:
            raise SpecError(
                f"no hostile reply is called {name!r}; known: all, {', '.join(HOSTILE)}"
            )
    return names
