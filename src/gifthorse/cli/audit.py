"""`gifthorse audit`."""

from pathlib import Path
from typing import Annotated, NoReturn

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
            help="Model directory (Hugging Face layout, safetensors) or hub:OWNER/NAME. With "
            "--files-only any file or folder."
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
    files_only: Annotated[
        bool,
        typer.Option(
            "--files-only",
            help="Only examine the files: what they are, whether they can run code, what they "
            "would import. Loads nothing and needs no torch.",
        ),
    ] = False,
    seed: Seed = 0,
    threads: Threads = None,
    as_json: Json = False,
    report: Report = None,
    sarif: Sarif = None,
) -> None:
    """Ask whether an image classifier is backdoored, and whether its files can run code.

    Exit code: 0 clear, 1 flagged, 2 bad input, 3 no answer.

    Examples:
      gifthorse audit ./model --trusted folder:./photos --report audit.html

      gifthorse audit ./model --trusted fashion-mnist --json

      gifthorse audit ./model --trusted npz:clean.npz --detector neural_cleanse

      gifthorse audit ./downloads/checkpoint.pt --files-only --sarif files.sarif
    """
    if files_only:
        _audit_files(model, as_json=as_json, report=report, sarif=sarif)
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


def _audit_files(path: str, *, as_json: bool, report: Path | None, sarif: Path | None) -> NoReturn:
    from gifthorse.provenance.files.audit import audit_files

    with progress_bar() as progress:
        record = audit_files(path, progress=progress)
    finish(record, as_json=as_json, report=report, sarif=sarif)
    raise typer.Exit(EXIT_CODES[record.verdict])
