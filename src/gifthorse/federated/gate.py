"""The gate before every aggregator: a reply is admitted, or quarantined with a reason.

A hostile reply never raises and never ends a round. Nothing that a client claims is used: the
number of examples is looked at for sanity only, the weights are the server's.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gifthorse.core.clients import Layout, Updates
from gifthorse.core.types import ScoreArray
from gifthorse.detectors.clients.geometry import norms


class Reason(StrEnum):
    """Why a reply is kept out."""

    UNKNOWN_CLIENT = "unknown client"
    DUPLICATE = "second reply of one client"
    STALE_ROUND = "reply of another round"
    MISSING_ARRAY = "missing array"
    EXTRA_ARRAY = "extra array"
    WRONG_SHAPE = "wrong shape"
    WRONG_TYPE = "wrong type"
    NOT_FINITE = "not finite"
    BAD_EXAMPLES = "impossible number of examples"
    BAD_METRICS = "wrong metrics"
    REPLAY = "replay of an earlier reply"
    HUGE_NORM = "norm out of proportion"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back from a client, unchecked.

    Attributes:
        client: Who it says it is (the transport vouches for that).
        round: The round that it says it answers.
        arrays: The local model, trainable arrays and buffers.
        examples: How many examples it says it trained on.
        metrics: What it reports besides.
    """

    client: str
    round: int
    arrays: Mapping[str, NDArray[Any]]
    examples: object
    metrics: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """What a reply must look like.

    Attributes:
        layout: Of the trainable arrays.
        types: NumPy type of every array, buffers included.
        buffers: Shapes of the buffers.
        metrics: Names that must be reported, no more and no fewer; None to ignore metrics.
    """

    layout: Layout
    types: Mapping[str, np.dtype[Any]]
    buffers: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    metrics: frozenset[str] | None = frozenset()

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of all arrays."""
        trainable = dict(zip(self.layout.names, self.layout.shapes, strict=True))
        return {**trainable, **self.buffers}


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """A reply that was kept out."""

    client: str
    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """What the gate makes of a round.

    Attributes:
        updates: Of the admitted clients, in the order of their names.
        buffers: Of the admitted clients, in the same order.
        quarantined: The others, with reasons.
        missing: Clients that were asked and did not answer.
        digests: ``sha256`` of every admitted reply, by client.
    """

    updates: Updates
    buffers: tuple[Mapping[str, NDArray[Any]], ...]
    quarantined: tuple[Quarantined, ...]
    missing: tuple[str, ...]
    digests: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Bounds beyond the schema.

    Attributes:
        most_examples: Highest number of examples that a client may claim.
        norm_factor: An update longer than so many times the median of the round is kept out. It is
            no defence, only sanity: enlarged updates are the business of the aggregator.
    """

    most_examples: int = 10_000_000
    norm_factor: float = 1000.0

    def admit(
        self,
        replies: Sequence[Reply],
        *,
        schema: Schema,
        current: ScoreArray,
        round_: int,
        weights: Mapping[str, float],
        seen: frozenset[str] = frozenset(),
    ) -> Admission:
        """Sort the replies of a round.

        Args:
            replies: In any order; the outcome does not depend on it, except that the first of two
                replies of one client counts.
            schema: What a reply must look like.
            current: The global model (d,) that was sent out.
            round_: Of this round.
            weights: The server's weight of every client that was asked.
            seen: Digests of all replies that were admitted in earlier rounds.
        """
        kept: dict[str, Reply] = {}
        digests: dict[str, str] = {}
        out: list[Quarantined] = []
        known: set[str] = set(seen)
        answered = {reply.client for reply in replies}
        for reply in sorted(replies, key=lambda r: r.client):  # stable: the first counts
            fault = self._fault(reply, schema, round_, weights, kept)
            if fault is None:
                mark = _digest(reply, schema)
                if mark in known:
                    fault = (Reason.REPLAY, f"same content as {mark[:12]}…")
            if fault is not None:
                out.append(Quarantined(client=reply.client, reason=fault[0], detail=fault[1]))
                continue
            known.add(mark)
            kept[reply.client], digests[reply.client] = reply, mark
        deltas = {c: schema.layout.join(dict(r.arrays)) - current for c, r in kept.items()}
        for client, detail in self._out_of_proportion(deltas).items():
            out.append(Quarantined(client=client, reason=Reason.HUGE_NORM, detail=detail))
            del kept[client], digests[client], deltas[client]
        names = tuple(kept)
        return Admission(
            updates=Updates(
                clients=names,
                deltas=np.stack(list(deltas.values())) if names else np.zeros((0, len(current))),
                weights=np.array([weights[c] for c in names], dtype=np.float64),
            ),
            buffers=tuple({b: kept[c].arrays[b] for b in schema.buffers} for c in names),
            quarantined=tuple(out),
            missing=tuple(sorted(set(weights) - answered)),
            digests=digests,
        )

    def _fault(
        self,
        reply: Reply,
        schema: Schema,
        round_: int,
        weights: Mapping[str, float],
        kept: Mapping[str, Reply],
    ) -> tuple[Reason, str] | None:
        if reply.client not in weights:
            return Reason.UNKNOWN_CLIENT, "it was not asked in this round"
        if reply.client in kept:
            return Reason.DUPLICATE, "the first one counts"
        if reply.round != round_:
            return Reason.STALE_ROUND, f"it answers {reply.round!r}, this is {round_}"
        return (
            _arrays_fault(reply.arrays, schema)
            or self._examples_fault(reply.examples)
            or _metrics_fault(reply.metrics, schema)
        )

    def _examples_fault(self, claimed: object) -> tuple[Reason, str] | None:
        whole = isinstance(claimed, int | np.integer) and not isinstance(claimed, bool)
        if not whole or not 1 <= int(claimed) <= self.most_examples:  # type: ignore[call-overload]
            return Reason.BAD_EXAMPLES, f"{claimed!r}"[:80]
        return None

    def _out_of_proportion(self, deltas: Mapping[str, ScoreArray]) -> dict[str, str]:
        if not deltas:
            return {}
        with np.errstate(over="ignore"):
            lengths = norms(np.stack(list(deltas.values())))
        # The median of an even number is the lower one here: of two updates, the shorter rules.
        middle = float(np.sort(lengths)[(len(lengths) - 1) // 2])
        bound = self.norm_factor * max(middle, 1e-12)
        return {
            client: f"{length:.3g}, the median is {middle:.3g}"
            for client, length in zip(deltas, lengths, strict=True)
            if not length <= bound
        }


def _arrays_fault(arrays: Mapping[str, Any], schema: Schema) -> tuple[Reason, str] | None:
    shapes = schema.shapes
    for name in shapes:
        if name not in arrays:
            return Reason.MISSING_ARRAY, name
    for name in arrays:
        if name not in shapes:
            return Reason.EXTRA_ARRAY, f"{name!r}"[:80]
    for name, shape in shapes.items():
        value = arrays[name]
        if not isinstance(value, np.ndarray) or value.dtype != schema.types[name]:
            found = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
            return Reason.WRONG_TYPE, f"{name}: {found} instead of {schema.types[name]}"
        if value.shape != shape:
            return Reason.WRONG_SHAPE, f"{name}: {value.shape} instead of {shape}"
        if not np.isfinite(value).all():
            return Reason.NOT_FINITE, name
    return None


def _metrics_fault(metrics: Mapping[str, object], schema: Schema) -> tuple[Reason, str] | None:
    if schema.metrics is None:
        return None
    if set(metrics) == schema.metrics:
        odd = [n for n, v in metrics.items() if isinstance(v, float) and not math.isfinite(v)]
        return (Reason.BAD_METRICS, f"{odd[0]} is not finite") if odd else None
    return Reason.BAD_METRICS, f"{sorted(map(str, metrics))} instead of {sorted(schema.metrics)}"


def _digest(reply: Reply, schema: Schema) -> str:
    body = hashlib.sha256()
    for name in sorted(schema.shapes):
        body.update(name.encode())
        body.update(np.ascontiguousarray(reply.arrays[name]).tobytes())
    return body.hexdigest()


def merge_buffers(
    current: Mapping[str, NDArray[Any]], replies: Sequence[Mapping[str, NDArray[Any]]]
) -> dict[str, NDArray[Any]]:
    """Buffers of the new global model: the median of every number, in the type that it had.

    An average would let one client set running statistics, and turn counters into floats.
    """
    if not replies:
        return dict(current)
    merged = {}
    for name, old in current.items():
        middle = np.median(np.stack([np.asarray(reply[name]) for reply in replies]), axis=0)
        rounded = np.rint(middle) if np.issubdtype(old.dtype, np.integer) else middle
        merged[name] = np.asarray(rounded, dtype=old.dtype)
    return merged
