"""`gifthorse scan`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from gifthorse.cli.console import (
    EXIT_CODES,
    Json,
    Rate_,
    Report,
    Sarif,
    Seed,
    Threads,
    err,
    finish,
    progress_bar,
    use_threads,
)
from gifthorse.core.errors import DataError
from gifthorse.core.record import AuditRecord
from gifthorse.core.types import Progress


def scan(
    data: Annotated[
        str,
        typer.Argument(
            help="Training data: a data set name, folder:DIR, idx:DIR, parquet:FILE, npz:FILE, "
            "hf:NAME, labelled texts: texts:FILE.jsonl, or instructions: FILE.jsonl, FILE.parquet."
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="Directory of a classifier trained on this data; without it a small network is "
            "trained first.",
        ),
    ] = None,
    trusted: Annotated[
        str | None,
        typer.Option(
            "--trusted",
            help="Pictures or texts that you know are clean; detectors of inputs need some.",
        ),
    ] = None,
    detector: Annotated[
        list[str] | None,
        typer.Option("--detector", help="name or name:option=value,…; may be repeated."),
    ] = None,
    false_alarm_rate: Rate_ = 0.05,
    split: Annotated[
        Literal["train", "test"], typer.Option("--split", help="Which part, if there are two.")
    ] = "train",
    suspects: Annotated[
        Path | None,
        typer.Option("--suspects", help="Write the indices of suspect samples, one a line."),
    ] = None,
    seed: Seed = 0,
    threads: Threads = None,
    as_json: Json = False,
    report: Report = None,
    sarif: Sarif = None,
) -> None:
    """Ask whether training data is poisoned, and which samples.

    Exit code: 0 clear, 1 flagged, 2 bad input, 3 no answer.

    Examples:
      gifthorse scan folder:./train --report scan.html

      gifthorse scan npz:data.npz --model ./model --suspects suspects.txt

      gifthorse scan texts:reviews.jsonl --report scan.html

      gifthorse scan texts:inputs.jsonl --model ./model --trusted snippets --detector onion

      gifthorse scan instructions.jsonl --report scan.html

      gifthorse scan npz:inputs.npz --model ./model --trusted folder:./photos --detector strip
    """
    from gifthorse.auditing.scan import DEFAULT_DETECTORS, suspects_of
    from gifthorse.auditing.scan import scan as run_scan
    from gifthorse.auditing.scan_instructions import (
        DEFAULT_INSTRUCTION_DETECTORS,
        scan_instructions,
    )
    from gifthorse.auditing.scan_texts import DEFAULT_TEXT_DETECTORS, judge_inputs, scan_texts
    from gifthorse.data.instructions import is_instruction_source
    from gifthorse.data.texts import is_text_source

    use_threads(threads)
    texts = is_text_source(data)
    chosen = tuple(detector or (DEFAULT_TEXT_DETECTORS if texts else DEFAULT_DETECTORS))
    with progress_bar() as progress:
        if is_instruction_source(data):
            record = scan_instructions(
                data,
                detectors=tuple(detector or DEFAULT_INSTRUCTION_DETECTORS),
                false_alarm_rate=false_alarm_rate,
                split=split,
                seed=seed,
                progress=progress,
            )
        elif texts and judge_inputs(chosen):
            record = _scan_inputs(
                data, model, trusted, chosen, false_alarm_rate, split, seed, progress
            )
        elif texts:
            record = scan_texts(
                data,
                model=model,
                detectors=chosen,
                false_alarm_rate=false_alarm_rate,
                split=split,
                seed=seed,
                progress=progress,
            )
        else:
            record = run_scan(
                data,
                model=model,
                trusted=trusted,
                detectors=chosen,
                false_alarm_rate=false_alarm_rate,
                split=split,
                seed=seed,
                progress=progress,
            )
    finish(record, as_json=as_json, report=report, sarif=sarif)
    if suspects is not None:
        found = suspects_of(record)
        suspects.write_text("".join(f"{i}\n" for i in found), encoding="utf-8")
        err.print(f"{len(found)} suspect samples: {suspects}")
    raise typer.Exit(EXIT_CODES[record.verdict])


def _scan_inputs(
    data: str,
    model: str | None,
    trusted: str | None,
    detectors: tuple[str, ...],
    false_alarm_rate: float,
    split: Literal["train", "test"],
    seed: int,
    progress: Progress,
) -> AuditRecord:
    """Texts that a classifier is sent."""
    from gifthorse.auditing.scan_texts import scan_text_inputs

    if model is None or trusted is None:
        raise DataError(
            f"{', '.join(detectors)}: judging inputs needs --model and --trusted (clean texts)"
        )
    return scan_text_inputs(
        data,
        model=model,
        trusted=trusted,
        detectors=detectors,
        false_alarm_rate=false_alarm_rate,
        split=split,
        seed=seed,
        progress=progress,
    )
