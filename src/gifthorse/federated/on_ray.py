"""Trials of a federated study on the bench's Ray engine: this machine, or a running cluster.

The engine asks of what it is handed only an ``id``, and gives back what the work returned, so a
trial of a federated study passes through it as it is.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from gifthorse.bench.ray_engine import RayEngine
from gifthorse.bench.study import Resources
from gifthorse.bench.trials import Place
from gifthorse.core.errors import IncompleteError
from gifthorse.core.rounds_record import TrialRecord, TrialSpec
from gifthorse.federated.runner import run_alone


@dataclass(frozen=True, slots=True, kw_only=True)
class _Item:
    """What the engine sees of a trial."""

    id: str
    spec: TrialSpec


def run_on_ray(
    todo: Sequence[TrialSpec], *, address: str | None = None, cpus: int | None = None
) -> Iterator[TrialRecord]:
    """Run trials as Ray tasks of one core each; records come as they are finished.

    Args:
        todo: The trials.
        address: Of a running cluster; None for this machine.
        cpus: Cores that Ray may use on this machine; None for all.

    Raises:
        GifthorseError: Ray is missing, or has no node with a core.
        IncompleteError: A trial was lost after retries.
    """
    engine = RayEngine(Resources(cpus=1), address=address, cpus=cpus)
    # The ledger is written here, so the tasks need no place.
    nowhere = cast("Place", Path())
    waiting = list(reversed(todo))
    flying = 0
    try:
        while waiting or flying:
            while waiting and flying < engine.slots:
                spec = waiting.pop()
                engine.submit(
                    cast("Any", _Item(id=spec.key(), spec=spec)), cast("Any", _work), nowhere
                )
                flying += 1
            for ended in engine.wait():
                flying -= 1
                if ended.outcome is None:
                    raise IncompleteError(
                        f"trial {ended.trial.id} was {ended.reason}; what was finished is in the "
                        "ledger, run the study again to go on"
                    )
                yield cast("TrialRecord", ended.outcome)
    finally:
        engine.close()


def _work(item: _Item, *_: object) -> TrialRecord:
    return run_alone(item.spec)
