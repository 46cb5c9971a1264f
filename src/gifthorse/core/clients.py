"""Values of federated learning: updates of clients, what a server knows, what it makes of them.

Everything is numpy in double precision. A model's trainable numbers are one flat vector; buffers
(running means, counters) never enter it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np

from gifthorse.core.types import BoolArray, Evidence, FloatArray, IntArray, Need, ScoreArray, Unit

Memory = Mapping[str, ScoreArray]
"""What a defence keeps from round to round, by a name of its own choice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How a flat vector of trainable numbers is made of named arrays.

    Attributes:
        names: Of the arrays, in order.
        shapes: Of the arrays.
        output_weight: Name of the last layer's weight, shape (classes, features).
        output_bias: Name of its bias, shape (classes,).
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    output_weight: str
    output_bias: str

    def __post_init__(self) -> None:
        if len(self.names) != len(self.shapes) or len(set(self.names)) != len(self.names):
            raise ValueError("a layout needs one shape a name, and no name twice")
        for name in (self.output_weight, self.output_bias):
            if name not in self.names:
                raise ValueError(f"no array is called {name!r}; known: {', '.join(self.names)}")

    @property
    def size(self) -> int:
        """Length d of the flat vector."""
        return sum(int(np.prod(shape)) for shape in self.shapes)

    def place(self, name: str) -> slice:
        """Where an array lies in the flat vector."""
        start = 0
        for known, shape in zip(self.names, self.shapes, strict=True):
            length = int(np.prod(shape))
            if known == name:
                return slice(start, start + length)
            start += length
        raise KeyError(name)

    def split(self, vector: ScoreArray) -> dict[str, ScoreArray]:
        """Views of a flat vector (d,) as named arrays."""
        shapes = dict(zip(self.names, self.shapes, strict=True))
        return {name: vector[self.place(name)].reshape(shapes[name]) for name in self.names}

    def join(self, arrays: Mapping[str, ScoreArray | FloatArray]) -> ScoreArray:
        """One flat vector (d,) in double precision from named arrays."""
        flat = [np.asarray(arrays[name], dtype=np.float64).ravel() for name in self.names]
        return np.concatenate(flat)

    def output(self, deltas: ScoreArray) -> tuple[ScoreArray, ScoreArray]:
        """Last layer of vectors (n, d): weights (n, classes, features) and biases (n, classes)."""
        shapes = dict(zip(self.names, self.shapes, strict=True))
        weight = deltas[:, self.place(self.output_weight)]
        return (
            weight.reshape(len(deltas), *shapes[self.output_weight]),
            deltas[:, self.place(self.output_bias)],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Updates:
    """The replies of one round that passed the gate.

    Attributes:
        clients: Who sent them, (n,), no name twice.
        deltas: Local model minus global model, shape (n, d), finite.
        weights: The *server's* weight of each client, shape (n,), positive; what a client says of
            its number of examples never enters.
    """

    clients: tuple[str, ...]
    deltas: ScoreArray
    weights: ScoreArray

    def __post_init__(self) -> None:
        n = len(self.clients)
        if self.deltas.ndim != 2 or len(self.deltas) != n or self.weights.shape != (n,):
            raise ValueError(f"{n} clients, deltas {self.deltas.shape}, {self.weights.shape}")
        if len(set(self.clients)) != n:
            raise ValueError("a client appears twice")
        if not np.isfinite(self.deltas).all() or not (self.weights > 0).all():
            raise ValueError("deltas must be finite and weights positive")

    def __len__(self) -> int:
        return len(self.clients)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundContext:
    """What a server knows besides the updates. It never contains who attacks.

    Attributes:
        round: Counted from 0.
        current: The global model G, shape (d,).
        layout: How it is made of arrays.
        rng: For noise.
        root_delta: The update that the server itself computed on its trusted samples, shape (d,);
            None if it has none.
        span: ``span()`` → orthonormal rows (k, d): what the gradients of the server's samples span
            at the current model, one gradient a sample; None if it has none.
        logits: ``logits(parameters, x)`` → (m, classes); None if the server cannot run the model.
        trusted: Trusted pictures (m, c, h, w) and labels (m,); None if the server has none.
        image_shape: (c, h, w) of the pictures.
        memory: What the same defence returned after the last round.
    """

    round: int
    current: ScoreArray
    layout: Layout
    rng: np.random.Generator
    root_delta: ScoreArray | None = None
    span: Callable[[], ScoreArray] | None = None
    logits: Callable[[ScoreArray, FloatArray], ScoreArray] | None = None
    trusted: tuple[FloatArray, IntArray] | None = None
    image_shape: tuple[int, int, int] | None = None
    memory: Memory = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregate:
    """What a defence makes of one round.

    Attributes:
        delta: Added to the global model, shape (d,), finite.
        accepted: Whose updates entered it, shape (n,). Defences that blend all coordinates and
            reject nobody (median, trimmed mean) accept all.
        evidence: One score a client, higher is worse; the suspects are the rejected.
        fallback: Why the method could not work and what was done instead; None if it worked.
        memory: To be given back in the next round.
    """

    delta: ScoreArray
    accepted: BoolArray
    evidence: Evidence
    fallback: str | None = None
    memory: Memory = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not np.isfinite(self.delta).all():
            raise ValueError("an aggregated update must be finite")
        if len(self.evidence.scores) != len(self.accepted):
            raise ValueError("one score a client")


def client_evidence(
    scores: ScoreArray, accepted: BoolArray, notes: tuple[str, ...] = ()
) -> Evidence:
    """Evidence about clients: their scores, and the rejected as suspects, worst first."""
    rejected = np.flatnonzero(~accepted)
    order = rejected[np.argsort(-scores[rejected], kind="stable")]
    return Evidence(
        unit=Unit.CLIENT,
        scores=np.asarray(scores, dtype=np.float64),
        statistic=float(scores.max()) if len(scores) else 0.0,
        suspects=order.astype(np.int64),
        notes=notes,
    )


@runtime_checkable
class Aggregator(Protocol):
    """A server's way of turning updates into one step."""

    needs: ClassVar[frozenset[Need]]
    paper: ClassVar[str]

    def aggregate(self, updates: Updates, context: RoundContext) -> Aggregate:
        """One step of the global model; never raises on admissible updates."""


class Learner(Protocol):
    """A model as functions of one flat vector."""

    @property
    def layout(self) -> Layout:
        """How the vector is made of arrays."""

    def initial(self, rng: np.random.Generator) -> ScoreArray:
        """Untrained parameters, shape (d,)."""

    def gradient(self, parameters: ScoreArray, x: FloatArray, y: IntArray) -> ScoreArray:
        """Gradient of the mean cross-entropy on pictures (m, c, h, w), shape (d,)."""

    def logits(self, parameters: ScoreArray, x: FloatArray) -> ScoreArray:
        """Logits of pictures (m, c, h, w), shape (m, classes)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalPlan:
    """How a client trains.

    Attributes:
        epochs: Passes over its data.
        batch_size: Pictures a step.
        learning_rate: Of plain SGD.
    """

    epochs: int = 2
    batch_size: int = 16
    learning_rate: float = 0.1

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1 or not 0 < self.learning_rate < 1e3:
            raise ValueError(f"a local plan needs positive numbers, got {self}")


class Backdoor(Protocol):
    """What the attackers want: pictures with a trigger, or a rare kind of picture, as a class."""

    @property
    def target(self) -> int:
        """The class wanted."""

    def poison(self, x: FloatArray, y: IntArray, *, part: int, parts: int) -> FloatArray:
        """Copies of clean pictures as the attacker wants them answered with ``target``.

        ``part`` of ``parts``: which share of a distributed trigger; (0, 1) for the whole. May
        return fewer pictures than it got (those that the attack is about).
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackTask:
    """What one malicious client has in hand in one round.

    Attributes:
        learner: The model.
        current: Global model G, shape (d,).
        previous: The last step of the global model, shape (d,), zeros in round 0: an estimate of
            what honest clients do that any client can make.
        x: Its own clean pictures.
        y: Their labels.
        plan: How honest clients train.
        backdoor: What it wants.
        position: Its number among the attackers of this round.
        attackers: How many they are.
        replies: How many clients were asked this round.
    """

    learner: Learner
    current: ScoreArray
    previous: ScoreArray
    x: FloatArray
    y: IntArray
    plan: LocalPlan
    backdoor: Backdoor
    position: int
    attackers: int
    replies: int


@runtime_checkable
class ClientAttack(Protocol):
    """What a malicious client sends instead of an honest update. For evaluation only."""

    paper: ClassVar[str]

    def craft(self, task: AttackTask, *, rng: np.random.Generator) -> ScoreArray:
        """The delta that it sends, shape (d,)."""
