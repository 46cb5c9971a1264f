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
from gifthorse.core.deadline import seconds
from gifthorse.core.errors import ModelError
from gifthorse.core.record import AuditRecord


def audit(
    model: Annotated[
        str,
        typer.Argument(
            help="Model directory (Hugging Face layout, safetensors), a LoRA adapter's directory, "
            "a .gguf file, or hub:OWNER/NAME. With --files-only any file or folder."
        ),
    ],
    trusted: Annotated[
        str | None,
        typer.Option(
            "--trusted",
            help="Pictures that you know are clean: a data set name, folder:DIR, idx:DIR, "
            "parquet:FILE, npz:FILE or hf:NAME. 100 are enough. For a language model: JSON Lines "
            "with harmless prompts of your own.",
        ),
    ] = None,
    detector: Annotated[
        list[str] | None,
        typer.Option("--detector", help="name or name:option=value,…; may be repeated."),
    ] = None,
    bank: Annotated[
        list[Path] | None,
        typer.Option(
            "--bank",
            help="Image classifiers: reference bank (gifthorse calibrate) in place of those that "
            "are shipped; may be repeated.",
        ),
    ] = None,
    false_alarm_rate: Rate_ = 0.02,
    samples: Annotated[
        int, typer.Option("--samples", min=2, help="Use at most so many trusted pictures.")
    ] = 200,
    base: Annotated[
        str | None,
        typer.Option(
            "--base",
            help="Language models: the trusted model that this one was made from, or that the "
            "adapter belongs to.",
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget",
            help="Time for the work, as 60s, 10m or 1h30m. What is not finished by then is never "
            "called clear.",
        ),
    ] = None,
    power: Annotated[
        int | None,
        typer.Option(
            "--power",
            min=1,
            help="Image classifiers: also plant backdoors in so many copies of the model and say "
            "how many of them the same audit finds. Six tell more than three.",
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            "--resume",
            help="Language models: folder for what is finished; the same command goes on there.",
        ),
    ] = None,
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
    """Ask whether a model is backdoored, and whether its files can run code.

    What kind of model it is, image classifier or language model, is read from its files.

    Exit code: 0 clear, 1 flagged, 2 bad input, 3 no answer.

    Examples:
      gifthorse audit ./model --trusted folder:./photos --report audit.html

      gifthorse audit ./model --trusted fashion-mnist --json

      gifthorse audit ./model --trusted npz:clean.npz --detector neural_cleanse

      gifthorse audit ./model --trusted folder:./photos --budget 60s

      gifthorse audit ./model --trusted folder:./photos --bank bank.json --power 6

      gifthorse audit ./model.gguf --budget 10m --report audit.html

      gifthorse audit ./lora-adapter --base ./base-model

      gifthorse audit ./downloads/checkpoint.pt --files-only --sarif files.sarif
    """
    if files_only:
        _audit_files(model, as_json=as_json, report=report, sarif=sarif)
    use_threads(threads)
    if _is_language(model):
        record = _audit_language(
            model,
            base=base,
            prompts=trusted,
            detectors=detector,
            false_alarm_rate=false_alarm_rate,
            budget=budget,
            resume=resume,
            seed=seed,
        )
        finish(record, as_json=as_json, report=report, sarif=sarif)
        raise typer.Exit(EXIT_CODES[record.verdict])
    for given, option in ((base, "--base"), (resume, "--resume")):
        if given is not None:
            raise ModelError(f"{option} is for language models, and {model} is none")
    from gifthorse.auditing.audit import audit as run_audit

    with progress_bar() as progress:
        further = None
        if power is not None:
            from gifthorse.bench.power import with_controls

            further = with_controls(power, seed=seed, progress=progress)
        record = run_audit(
            model,
            trusted=trusted,
            detectors=tuple(detector) if detector else None,
            banks=tuple(bank) if bank else None,
            false_alarm_rate=false_alarm_rate,
            samples=samples,
            budget=None if budget is None else seconds(budget),
            further=further,
            seed=seed,
            progress=progress,
        )
    finish(record, as_json=as_json, report=report, sarif=sarif)
    raise typer.Exit(EXIT_CODES[record.verdict])


def _is_language(model: str) -> bool:
    from gifthorse.models.language.loading import is_language_model

    return is_language_model(model)


def _audit_language(
    model: str,
    *,
    base: str | None,
    prompts: str | None,
    detectors: list[str] | None,
    false_alarm_rate: float,
    budget: str | None,
    resume: Path | None,
    seed: int,
) -> AuditRecord:
    from gifthorse.auditing.language import DEFAULT_LANGUAGE_DETECTORS, audit_language

    with progress_bar() as progress:
        return audit_language(
            model,
            base=base,
            prompts=prompts,
            detectors=tuple(detectors or DEFAULT_LANGUAGE_DETECTORS),
            false_alarm_rate=false_alarm_rate,
            budget=None if budget is None else seconds(budget),
            resume=resume,
            seed=seed,
            progress=progress,
        )


def _audit_files(path: str, *, as_json: bool, report: Path | None, sarif: Path | None) -> NoReturn:
    from gifthorse.provenance.files.audit import audit_files

    with progress_bar() as progress:
        record = audit_files(path, progress=progress)
    finish(record, as_json=as_json, report=report, sarif=sarif)
    raise typer.Exit(EXIT_CODES[record.verdict])
