"""`gifthorse repair`."""

from pathlib import Path
from typing import Annotated

import typer

from gifthorse.cli.console import (
    Json,
    Report,
    Seed,
    Threads,
    err,
    finish,
    progress_bar,
    use_threads,
)


def repair(
    model: Annotated[str, typer.Argument(help="Model directory or hub:OWNER/NAME.")],
    out: Annotated[Path, typer.Argument(help="Where to write the repaired model; must be new.")],
    trusted: Annotated[
        str, typer.Option("--trusted", help="Pictures that you know are clean; see `audit`.")
    ],
    method: Annotated[
        str,
        typer.Option("--method", help="A repair of `gifthorse list`, with options."),
    ] = "unlearning",
    max_drop: Annotated[
        float,
        typer.Option("--max-drop", help="Clean accuracy that may be lost; more is refused."),
    ] = 0.02,
    seed: Seed = 0,
    threads: Threads = None,
    as_json: Json = False,
    report: Report = None,
) -> None:
    """Repair an image classifier; refused if it costs too much clean accuracy.

    Half of the trusted pictures tune the model, the other half decide.

    Exit code: 0 repaired, 2 bad input, 3 refused or not applicable (nothing is written).

    Examples:
      gifthorse repair ./model ./repaired --trusted folder:./photos

      gifthorse repair ./model ./repaired --trusted fashion-mnist --method fine_pruning
    """
    from gifthorse.auditing.repair import repair as run_repair
    from gifthorse.bench.plant import check_place
    from gifthorse.models.saving import save_classifier

    use_threads(threads)
    check_place(out)
    with progress_bar() as progress:
        result = run_repair(
            model,
            trusted=trusted,
            method=method,
            allowed_drop=max_drop,
            seed=seed,
            progress=progress,
        )
    finish(result.record, as_json=as_json, report=report)
    if result.model is None:
        raise typer.Exit(3)
    save_classifier(result.model, out)
    err.print(f"repaired model: {out}")
