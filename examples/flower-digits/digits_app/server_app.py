"""The server: a guarded strategy, evaluated after every round on test data."""

from pathlib import Path
from typing import Any

from flwr.app import Array, ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from numpy.typing import NDArray

from digits_app.task import arrays_of, world
from gifthorse.core.registry import build, parse_spec
from gifthorse.core.rng import child_rng
from gifthorse.federated.flower import GuardedStrategy
from gifthorse.federated.server_place import ServerPlace
from gifthorse.models.local import train_locally

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds that the checkpoint does not hold yet."""
    config = context.run_config
    here = world(int(config["nodes"]), float(config["alpha"]))

    def root(arrays: dict[str, NDArray[Any]], round_: int) -> dict[str, NDArray[Any]]:
        assert here.trusted is not None  # noqa: S101 - a trial has trusted pictures by default
        rng = child_rng(0, "round", round_, "server")
        flat = train_locally(
            here.learner, here.learner.layout.join(arrays), *here.trusted, here.plan, rng=rng
        )
        return arrays_of(here, flat)

    def evaluate(_: int, arrays: ArrayRecord) -> MetricRecord:
        flat = here.learner.layout.join({name: array.numpy() for name, array in arrays.items()})
        return MetricRecord({"ca": here.clean_accuracy(flat), "asr": here.attack_success(flat)})

    place = str(config["place"])
    strategy = GuardedStrategy(
        build("aggregators", parse_spec(str(config["defence"]))),
        metrics=frozenset(),
        root=root,
        learner=here.learner,
        trusted=here.trusted,
        min_available_nodes=int(config["nodes"]),
        place=ServerPlace(folder=Path(place), keep_updates=True) if place else None,
    )
    fresh = arrays_of(here, here.learner.initial(child_rng(0, "network")))
    start, done = strategy.resume(ArrayRecord({name: Array(v) for name, v in fresh.items()}))
    print(f"rounds done before: {done}")
    strategy.start(
        grid=grid,
        initial_arrays=start,
        num_rounds=max(0, int(config["rounds"]) - done),
        evaluate_fn=evaluate,
    )
    for entry in strategy.history:
        print(
            f"round {entry.round}: accepted {len(entry.accepted)}, rejected "
            f"{len(entry.rejected)}, quarantined "
            f"{[(q.client, str(q.reason)) for q in entry.quarantined]}, missing {entry.missing}"
        )
