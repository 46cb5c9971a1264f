"""The defences as a Flower strategy, and the attacks as Flower client mods.

Thin: replies are decoded without trust, and then go through the same gate and the same aggregators
as in a simulation. Tested with flwr 1.41.0; needs ``pip install 'gifthorse[federated]'``.
"""

import hashlib
import io
import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from gifthorse.core.clients import (
    Aggregate,
    Aggregator,
    AttackTask,
    ClientAttack,
    Layout,
    Learner,
    RoundContext,
)
from gifthorse.core.errors import GifthorseError
from gifthorse.core.rng import child_rng
from gifthorse.core.rounds_record import QuarantineRecord, ServerRound
from gifthorse.core.types import FloatArray, IntArray, ScoreArray
from gifthorse.federated.checkpoint import Checkpoint
from gifthorse.federated.gate import (
    Admission,
    Gate,
    Quarantined,
    Reason,
    Reply,
    Schema,
    merge_buffers,
)
from gifthorse.federated.removal import stored_round
from gifthorse.federated.schemas import BUFFERS, Arrays, schema_of
from gifthorse.federated.server_place import ServerPlace
from gifthorse.models.local import sample_span

try:
    from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord
    from flwr.serverapp import Grid
    from flwr.serverapp.strategy import FedAvg
except ImportError as error:  # pragma: no cover - depends on the environment
    raise GifthorseError(
        f"Flower cannot be imported ({error}); install it with: pip install 'gifthorse[federated]'"
    ) from error


class GuardedStrategy(FedAvg):  # type: ignore[misc]
    """Federated averaging with a gate before and a defence instead of the average.

    Args:
        defence: Any aggregator, for example ``MultiKrum(assumed=2)``.
        metrics: Names that a client must report besides the number of examples; None to ignore
            what it reports.
        root: The server's own training on trusted samples, ``root(arrays, round)`` → arrays; for
            FLTrust, Anchored and Explained.
        learner: The model as functions of a flat vector; with ``trusted`` for Explained and
            DeepSight.
        trusted: Pictures (m, c, h, w) and labels (m,) of the server.
        buffers: Endings of the names of arrays that are not trained.
        gate: Bounds.
        seed: Of the noise of the defence.
        place: What is kept on disk after every round; None to keep nothing.
        fraction_train: As in Flower.
        fraction_evaluate: As in Flower.
        min_available_nodes: As in Flower.
    """

    def __init__(
        self,
        defence: Aggregator,
        *,
        metrics: frozenset[str] | None = None,
        root: Callable[[dict[str, NDArray[Any]], int], Arrays] | None = None,
        learner: Learner | None = None,
        trusted: tuple[FloatArray, IntArray] | None = None,
        buffers: tuple[str, ...] = BUFFERS,
        gate: Gate | None = None,
        seed: int = 0,
        place: ServerPlace | None = None,
        fraction_train: float = 1.0,
        fraction_evaluate: float = 0.0,
        min_available_nodes: int = 2,
    ) -> None:
        super().__init__(
            fraction_train=fraction_train,
            fraction_evaluate=fraction_evaluate,
            min_available_nodes=min_available_nodes,
        )
        self.history: list[ServerRound] = []
        self._defence, self._metrics, self._root, self._buffers = defence, metrics, root, buffers
        self._gate, self._seed, self._place = gate or Gate(), seed, place
        self._learner, self._trusted = learner, trusted
        self._memory: dict[str, ScoreArray] = {}
        self._seen: frozenset[str] = frozenset()
        self._sent: dict[str, NDArray[Any]] = {}
        self._asked: dict[str, float] = {}
        self._before = 0
        self._lock: IO[bytes] | None = None

    def resume(self, initial: ArrayRecord) -> tuple[ArrayRecord, int]:
        """Where to start: the state of the checkpoint, or ``initial`` if there is none.

        Returns:
            The arrays to start from, and how many rounds are done already.

        Raises:
            RecordError: The checkpoint is there and cannot be read, or another server is at work.
        """
        if self._place is None:
            return initial, 0
        self._lock = self._place.claim()
        found = self._place.last()
        if found is None:
            return initial, 0
        self._memory, self._seen, self._before = dict(found.memory), found.seen, found.round
        return _record(found.arrays), found.round

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """As in Flower; remembers what was sent to whom."""
        messages = list(super().configure_train(server_round, arrays, config, grid))
        self._sent = {name: array.numpy() for name, array in arrays.items()}
        self._asked = {str(message.metadata.dst_node_id): 1.0 for message in messages}
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """One step of the global model, whatever the replies are."""
        number = self._before + server_round
        schema = schema_of(self._sent, self._metrics, self._buffers)
        current = schema.layout.join(self._sent)
        readable, unreadable = self._sorted(replies, schema, number)
        admission = self._gate.admit(
            readable,
            schema=schema,
            current=current,
            round_=number,
            weights=self._asked,
            seen=self._seen,
        )
        context = self._context(number, current, schema.layout)
        outcome = self._defence.aggregate(admission.updates, context)
        self._memory = dict(outcome.memory)
        self._seen |= frozenset(admission.digests.values())
        split = schema.layout.split(current + outcome.delta)
        arrays = {name: value.astype(schema.types[name]) for name, value in split.items()}
        kept = [b for b, ok in zip(admission.buffers, outcome.accepted, strict=True) if ok]
        arrays |= merge_buffers({name: self._sent[name] for name in schema.buffers}, kept)
        arrays = {name: arrays[name] for name in self._sent}
        marks = _mark(self._sent), _mark(arrays)
        entry = _entry(number, admission, outcome, unreadable, marks)
        self.history.append(entry)
        if self._place is not None:
            self._place.add(
                entry,
                stored_round(number, current, admission, outcome),
                Checkpoint(round=number, arrays=arrays, memory=self._memory, seen=self._seen),
            )
        counts = {
            "accepted": len(entry.accepted),
            "rejected": len(entry.rejected),
            "quarantined": len(entry.quarantined),
            "missing": len(entry.missing),
        }
        return _record(arrays), MetricRecord(counts)

    def _sorted(
        self, replies: Iterable[Message], schema: Schema, round_: int
    ) -> tuple[list[Reply], list[Quarantined]]:
        """Replies that could be decoded, and those that could not; errors count as missing."""
        found = [self._reply(m, schema, round_) for m in replies if not m.has_error()]
        return (
            [one for one in found if isinstance(one, Reply)],
            [one for one in found if isinstance(one, Quarantined)],
        )

    def _context(self, round_: int, current: ScoreArray, layout: Layout) -> RoundContext:
        root = None
        if self._root is not None:
            trained = self._root({k: v.copy() for k, v in self._sent.items()}, round_)
            root = layout.join(dict(trained)) - current
        return RoundContext(
            round=round_,
            current=current,
            layout=layout,
            rng=child_rng(self._seed, "round", round_, "defence"),
            root_delta=root,
            memory=self._memory,
            **self._own(current),
        )

    def _own(self, current: ScoreArray) -> dict[str, Any]:
        """What the server knows if it can run the model."""
        if self._learner is None:
            return {}
        known: dict[str, Any] = {"logits": self._learner.logits}
        if self._trusted is not None:
            x, y = self._trusted
            known["trusted"], known["image_shape"] = self._trusted, x.shape[1:]
            known["span"] = partial(sample_span, self._learner, current, x, y)
        return known

    def _reply(self, message: Message, schema: Schema, round_: int) -> Reply | Quarantined:
        """A reply with its arrays decoded; nothing in it is believed yet."""
        client = str(message.metadata.src_node_id)
        content = message.content
        try:
            record = content[self.arrayrecord_key]
            reported = {}
            for found in content.metric_records.values():
                reported.update(dict(found))
            arrays = {
                name: decoded(array, schema.shapes.get(name)) for name, array in record.items()
            }
        except (KeyError, AttributeError, TypeError, ValueError, EOFError, OSError) as fault:
            return Quarantined(client=client, reason=Reason.UNREADABLE, detail=f"{fault!r}"[:200])
        examples = reported.pop(self.weighted_by_key, None)
        return Reply(
            client=client, round=round_, arrays=arrays, examples=examples, metrics=reported
        )


def _entry(
    number: int,
    admission: Admission,
    outcome: Aggregate,
    unreadable: list[Quarantined],
    marks: tuple[str, str],
) -> ServerRound:
    names = admission.updates.clients
    pairs = list(zip(names, outcome.accepted.tolist(), strict=True))
    broken = {one.client for one in unreadable}
    return ServerRound(
        round=number,
        accepted=tuple(name for name, ok in pairs if ok),
        rejected=tuple(name for name, ok in pairs if not ok),
        quarantined=tuple(
            QuarantineRecord(client=one.client, reason=one.reason, detail=one.detail)
            for one in (*admission.quarantined, *unreadable)
        ),
        missing=tuple(name for name in admission.missing if name not in broken),
        fallback=outcome.fallback,
        scores=dict(zip(names, outcome.evidence.scores.tolist(), strict=True)),
        replies=dict(admission.digests),
        before=marks[0],
        after=marks[1],
    )


def _mark(arrays: Arrays) -> str:
    """SHA-256 of a model with its buffers, as a safetensors file."""
    return hashlib.sha256(
        save({name: np.asarray(value, order="C") for name, value in arrays.items()})
    ).hexdigest()


def decoded(array: Array, shape: tuple[int, ...] | None) -> NDArray[Any]:
    """A Flower array as numpy, allocating no more than the bytes that came.

    ``np.load`` believes the header: a few bytes could ask for terabytes.

    Raises:
        ValueError: Not in NumPy's format, of Python objects, or of another size than it says.
    """
    stream = io.BytesIO(array.data)
    version = np.lib.format.read_magic(stream)
    if version != (1, 0):
        raise ValueError(f"array format {version}, expected (1, 0)")
    found, fortran, kind = np.lib.format.read_array_header_1_0(stream)
    body = array.data[stream.tell() :]
    if kind.hasobject:
        raise ValueError("an array of Python objects")
    if math.prod(found) * kind.itemsize != len(body):
        raise ValueError(f"{len(body)} bytes for an array {found} of {kind} where {shape} is due")
    return np.frombuffer(body, dtype=kind).reshape(found, order="F" if fortran else "C")


def attack_mod(
    attack: ClientAttack,
    task_of: Callable[[Message, Context, dict[str, NDArray[Any]]], AttackTask | None],
    *,
    seed: int = 0,
) -> Callable[[Message, Context, Callable[[Message, Context], Message]], Message]:
    """A client mod that sends what an attack crafts instead of the honest update.

    For evaluation. Attach it with ``@app.train(mods=[attack_mod(…)])``.

    Args:
        attack: What to send.
        task_of: ``task_of(message, context, arrays)``: what the client has in hand; None to be
            honest in this round.
        seed: Of its randomness.
    """

    def mod(
        message: Message, context: Context, call_next: Callable[[Message, Context], Message]
    ) -> Message:
        reply = call_next(message, context)
        if reply.has_error():
            return reply
        key, sent = next(iter(message.content.array_records.items()))
        arrays = {name: array.numpy() for name, array in sent.items()}
        task = task_of(message, context, arrays)
        if task is None:
            return reply
        rng = child_rng(seed, "attack", message.metadata.dst_node_id, message.metadata.run_id)
        local: dict[str, FloatArray | ScoreArray] = dict(
            task.learner.layout.split(task.current + attack.craft(task, rng=rng))
        )
        answer = reply.content[key]
        reply.content[key] = _record(
            {
                n: np.asarray(local.get(n, a.numpy()), dtype=arrays[n].dtype)
                for n, a in answer.items()
            }
        )
        return reply

    return mod


def _record(arrays: Arrays) -> ArrayRecord:
    return ArrayRecord(
        {name: Array(np.asarray(value, order="C")) for name, value in arrays.items()}
    )
