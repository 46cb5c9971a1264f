"""What server and clients share: the world of the simulation, one client of it a node."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gifthorse.core.rounds_record import TrialSpec
from gifthorse.federated.world import World, build_world


@lru_cache(maxsize=4)
def world(clients: int, alpha: float) -> World:
    """Data of all clients; every process builds the same one from the seed."""
    spec = TrialSpec(
        data="digits", clients=clients, per_round=clients, attackers=0, alpha=alpha, seed=0
    )
    return build_world(spec)


def arrays_of(here: World, flat: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    """A flat model as named arrays in single precision."""
    return {name: v.astype(np.float32) for name, v in here.learner.layout.split(flat).items()}
