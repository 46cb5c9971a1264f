"""Taking a caught client's influence out of a global model, from the stored updates of all rounds.

Our own, and the simplest that can be honest: every aggregation is done again without the client, on
what the others sent at the time. Nobody is asked to train again (FedEraser, Liu et al. 2021, and
FedRecover, Cao et al. 2023, calibrate with new training), so an honest update that was computed
from a model that the client had already changed keeps what it took from there. The server's own
updates are computed anew, because it still has its samples.
"""

import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gifthorse.core.clients import Aggregate, Aggregator, RoundContext, Updates
from gifthorse.core.errors import DataError, RecordError
from gifthorse.core.types import ScoreArray
from gifthorse.federated.checkpoint import read_arrays, write_arrays
from gifthorse.federated.gate import Admission

Context = Callable[[int, ScoreArray, dict[str, ScoreArray]], RoundContext]
"""``context(round, current, memory)``: what the server knows in a round besides the updates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRound:
    """What the gate admitted in one round, and what came of it.

    Attributes:
        round: Its number.
        clients: Whose updates, (n,).
        deltas: The updates, shape (n, d).
        weights: The server's weights, shape (n,).
        accepted: Whose updates entered the model, (n,).
        digests: SHA-256 of every reply, in hexadecimal, (n,).
        before: The global model that was sent out, shape (d,).
    """

    round: int
    clients: tuple[str, ...]
    deltas: ScoreArray
    weights: ScoreArray
    accepted: tuple[bool, ...]
    digests: tuple[str, ...]
    before: ScoreArray

    def without(self, names: Collection[str]) -> Updates:
        """The updates of all but these clients."""
        rows = [i for i, name in enumerate(self.clients) if name not in names]
        return Updates(
            clients=tuple(self.clients[i] for i in rows),
            deltas=self.deltas[rows],
            weights=self.weights[rows],
        )


def stored_round(
    round_: int, before: ScoreArray, admission: Admission, outcome: Aggregate
) -> StoredRound:
    """What there is to store of a round."""
    updates = admission.updates
    return StoredRound(
        round=round_,
        clients=updates.clients,
        deltas=updates.deltas,
        weights=updates.weights,
        accepted=tuple(outcome.accepted.tolist()),
        digests=tuple(admission.digests[name] for name in updates.clients),
        before=before,
    )


def replay(
    initial: ScoreArray,
    rounds: Sequence[StoredRound],
    defence: Aggregator,
    context: Context,
    *,
    without: Collection[str] = (),
) -> ScoreArray:
    """The global model (d,) as the stored updates make it, without some clients.

    With nobody left out it is the model that the server had, bit for bit.

    Args:
        initial: The model before the first round, shape (d,).
        rounds: All of them, in order.
        defence: The one that was used, or another.
        context: What the server knows in a round.
        without: Names of clients.

    Raises:
        DataError: A client is named that never sent an update.
    """
    known = {name for one in rounds for name in one.clients}
    unknown = sorted(set(without) - known)
    if unknown:
        raise DataError(
            f"no stored update is of {', '.join(unknown)}; known: {', '.join(sorted(known))}"
        )
    model, memory = initial, dict[str, ScoreArray]()
    for one in rounds:
        outcome = defence.aggregate(one.without(without), context(one.round, model, memory))
        # Clients receive single precision, so that is what the server holds.
        model = (model + outcome.delta).astype(np.float32).astype(np.float64)
        memory = dict(outcome.memory)
    return model


def write_round(folder: Path, one: StoredRound) -> Path:
    """Store a round as one file, whole or not at all.

    Raises:
        RecordError: It cannot be written.
    """
    place = folder / f"round-{one.round:05d}.npz"
    content = {
        "round": np.array(one.round, dtype=np.int64),
        "clients": np.array(one.clients, dtype=np.str_),
        "deltas": one.deltas,
        "weights": one.weights,
        "accepted": np.array(one.accepted, dtype=np.bool_),
        "digests": np.array(one.digests, dtype=np.str_),
        "before": one.before,
    }
    write_arrays(place, content, what="stored round")
    return place


def read_rounds(folder: Path) -> Iterator[StoredRound]:
    """Stored rounds in order.

    Raises:
        RecordError: There are none, or one is broken.
    """
    places = sorted(folder.glob("round-*.npz"))
    if not places:
        raise RecordError(f"{folder} holds no stored rounds; expected round-00001.npz and so on")
    for place in places:
        content = read_arrays(place, what="stored round")
        try:
            yield StoredRound(
                round=int(content["round"]),
                clients=tuple(content["clients"].tolist()),
                deltas=content["deltas"],
                weights=content["weights"],
                accepted=tuple(content["accepted"].tolist()),
                digests=tuple(content["digests"].tolist()),
                before=content["before"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise RecordError(f"{place} is not a stored round: {error}") from error


def model_mark(model: ScoreArray) -> str:
    """SHA-256 of a flat model, as the records of rounds name it."""
    return hashlib.sha256(model.tobytes()).hexdigest()
