"""`gifthorse audit`."""

from typing import Annotated

import typer

from gifthorse.cli.console import (
    EXIT_CODES,
    Json,
    Rate_,
    Report,
    Sarif,
    Seed,
    Threads,
    finish,
    progress_bar,
    use_threads,
)


def audit(
    model: Annotated[
        str,
        typer.Argument(
            help="Model directory (Hugging Face layout, safetensors) or hub:OWNER/NAME."
        ),
    ],
    trusted: Annotated[
        str | None,
        typer.Option(
            "--trusted",
            help="Pictures that you know are clean: a data set name, folder:DIR, idx:DIR, "
            "parquet:FILE, npz:FILE or hf:NAME. 100 are enough.",
        ),
    ] = None,
    detector: Annotated[
        list[str] | None,
        typer.Option("--detector", help="name or name:option=value,…; may be repeated."),
    ] = None,
    false_alarm_rate: Rate_ = 0.02,
    samples: Annotated[
        int, typer.Option("--samples", min=2, help="Use at most so many trusted pictures.")
    ] = 200,
    seed: Seed = 0,
    threads: Threads = None,
    as_json: Json = False,
    report: Report = None,
    sarif: Sarif = None,
) -> None:
    """Ask whether an image classifier is backdoored.

    Exit code: 0 clear, 1 flagged, 2 bad input, 3 no answer.

    Examples:
      gifthorse audit ./model --trusted folder:./photos --report audit.html

      gifthorse audit ./model --trusted fashion-mnist --json

      gifthorse audit ./model --trusted npz:clean.npz --detector neural_cleanse
    """
    from gifthorse.auditing.audit import DEFAULT_DETECTORS
    from gifthorse.auditing.audit import audit as run_audit

    use_threads(threads)
    with progress_bar() as progress:
        record = run_audit(
            model,
            trusted=trusted,
            detectors=tuple(detector or DEFAULT_DETECTORS),
            false_alarm_rate=false_alarm_rate,
            samples=samples,
            seed=seed,
            progress=progress,
        )
    finish(record, as_json=as_json, report=report, sarif=sarif)
    raise typer.Exit(EXIT_CODES[record.verdict])
