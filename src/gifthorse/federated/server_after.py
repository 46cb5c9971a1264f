"""After the fact at a real server: who contributed to what, and its model without some nodes.

Works on the directory that a server keeps (``ServerPlace`` with ``keep_updates``); Flower is not
needed for it.
"""

from collections.abc import Collection
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from gifthorse.core.clients import Aggregator, RoundContext
from gifthorse.core.errors import DataError, RecordError, SpecError
from gifthorse.core.rng import child_rng
from gifthorse.core.types import Need, ScoreArray
from gifthorse.federated.checkpoint import Checkpoint
from gifthorse.federated.lineage import write_lineage
from gifthorse.federated.removal import StoredRound, read_rounds, replay
from gifthorse.federated.schemas import schema_of
from gifthorse.federated.server_place import ServerPlace


def _kept(folder: Path) -> tuple[Checkpoint, tuple[StoredRound, ...]]:
    if not folder.is_dir():
        raise RecordError(f"{folder}: there is no such directory of a server")
    state = ServerPlace(folder=folder).last()
    if state is None:
        raise RecordError(f"{folder} holds no checkpoint.npz: no round was finished there")
    rounds = tuple(one for one in read_rounds(folder) if one.round <= state.round)
    numbers = [one.round for one in rounds]
    if numbers != list(range(1, state.round + 1)):
        raise RecordError(
            f"{folder} holds the updates of {len(numbers)} of {state.round} rounds; the server "
            "must keep them from the first round on"
        )
    return state, rounds


def server_lineage(folder: Path, place: Path) -> Path:
    """Write the provenance of all rounds of a server; see ``write_lineage``.

    Raises:
        RecordError: The server kept no updates, or they are broken.
        DataError: Something is in the way.
    """
    state, rounds = _kept(folder)
    layout = schema_of(state.arrays, None).layout
    name = folder.resolve().name
    return write_lineage(
        rounds, layout.join(dict(state.arrays)), layout, place, name=name, parameters={}
    )


def without_nodes(
    folder: Path, defence: Aggregator, nodes: Collection[str], out: Path, *, seed: int = 0
) -> Path:
    """Write the server's model as it is without some nodes, as a safetensors file.

    Args:
        folder: Of the server.
        defence: The aggregator that it used.
        nodes: Names of nodes, as the records of rounds have them.
        out: The file; must not exist.
        seed: Of the strategy.

    Raises:
        SpecError: The defence needs the server's own samples, which are not in the directory.
        RecordError: The server kept no updates, or they are broken.
        DataError: A node never sent an update, or the file exists.
    """
    if Need.TRUSTED in defence.needs:
        raise SpecError(
            f"{type(defence).__name__} needs the server's own samples, which are not in {folder}; "
            "call gifthorse.federated.removal.replay with them, or name another defence"
        )
    if out.exists():
        raise DataError(f"{out} exists; choose another place")
    state, rounds = _kept(folder)
    schema = schema_of(state.arrays, None)

    def context(round_: int, current: ScoreArray, memory: dict[str, ScoreArray]) -> RoundContext:
        return RoundContext(
            round=round_,
            current=current,
            layout=schema.layout,
            rng=child_rng(seed, "round", round_, "defence"),
            memory=memory,
        )

    model = replay(rounds[0].before, rounds, defence, context, without=nodes)
    arrays = dict(state.arrays) | {
        name: np.asarray(value, dtype=schema.types[name])
        for name, value in schema.layout.split(model).items()
    }
    try:
        with out.open("xb") as file:
            file.write(save({name: np.asarray(v, order="C") for name, v in arrays.items()}))
    except OSError as error:
        raise RecordError(f"cannot write {out}: {error.strerror}") from error
    return out
