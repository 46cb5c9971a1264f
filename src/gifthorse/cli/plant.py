"""`gifthorse plant`."""

from pathlib import Path
from typing import Annotated

import typer

from gifthorse.cli.console import Json, Report, Seed, Threads, finish, progress_bar, use_threads


def plant(
    attack: Annotated[
        str, typer.Argument(help="badnets or blended, with options: badnets:target=3,size=4.")
    ],
    out: Annotated[Path, typer.Argument(help="Directory to write; must be new or empty.")],
    data: Annotated[str, typer.Option("--data", help="Data set name or path.")] = "signs",
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Passes over the data.")] = 8,
    width: Annotated[
        int, typer.Option("--width", min=4, help="Channels of the network's first stage.")
    ] = 32,
    twin: Annotated[bool, typer.Option("--twin", help="Also train the clean twin.")] = False,
    seed: Seed = 0,
    threads: Threads = None,
    as_json: Json = False,
    report: Report = None,
) -> None:
    """Plant a harmless backdoor in a model of our own, to prove a defence on it.

    Writes OUT/model, OUT/data.npz (the poisoned training data), OUT/plant.json, and the truth
    apart from them in OUT/truth.json.

    Examples:
      gifthorse plant badnets:target=3,colour=yellow,size=4 planted --data signs

      gifthorse plant blended:alpha=0.2,rate=0.02 planted --data fashion-mnist --twin
    """
    from gifthorse.bench.plant import check_place, save_specimen
    from gifthorse.bench.plant import plant as run_plant
    from gifthorse.core.registry import build, parse_spec
    from gifthorse.data.sources import load
    from gifthorse.models.training import TrainingPlan

    use_threads(threads)
    plugin = build("attacks", parse_spec(attack))
    check_place(out)
    with progress_bar() as progress:
        planted = run_plant(
            plugin,
            load(data, split="train"),
            load(data, split="test"),
            training=TrainingPlan(epochs=epochs),
            with_twin=twin,
            width=width,
            seed=seed,
            progress=progress,
        )
    save_specimen(planted, out)
    finish(planted.record, as_json=as_json, report=report)
