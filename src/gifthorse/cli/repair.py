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
from gifthorse.core.errors import ModelError


def repair(
    model: Annotated[
        str,
        typer.Argument(
            help="Model directory or hub:OWNER/NAME; language models also as LoRA adapter or .gguf."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="Where to write the repaired model; must be new.")],
    trusted: Annotated[
        str,
        typer.Option(
            "--trusted",
            help="Pictures that you know are clean, see `audit`; for text classifiers labelled "
            "texts (texts:FILE.jsonl); for language models prompts with good answers (JSON "
            "Lines), or prompts alone if there is a base.",
        ),
    ],
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            help="A repair of `gifthorse list`, with options; by default unlearning, for text "
            "classifiers trigger_unlearning with an audit and universal_unlearning without, for "
            "language models fine_mixing with a base and crow without.",
        ),
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            "--max-drop",
            help="Clean accuracy that may be lost (0.02); for language models the share by which "
            "the clean loss may rise (0.05). More is refused.",
        ),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            "--base",
            help="Text classifiers and language models: the model that it was made from.",
        ),
    ] = None,
    audit: Annotated[
        Path | None,
        typer.Option(
            "--audit",
            help="Text classifiers and language models: record of an audit (`gifthorse audit … "
            "--json`) whose recovered words or texts are to be unlearnt.",
        ),
    ] = None,
    seed: Seed = 0,
    threads: Threads = None,
    as_json: Json = False,
    report: Report = None,
) -> None:
    """Repair a model; refused if it costs too much of what the model is good for.

    Image classifiers, text classifiers and language models; which it is, is read from its files.
    Half of the trusted samples serve the repair, the other half decide.

    Exit code: 0 repaired, 2 bad input, 3 refused or not applicable (nothing is written).

    Examples:
      gifthorse repair ./model ./repaired --trusted folder:./photos

      gifthorse repair ./model ./repaired --trusted fashion-mnist --method fine_pruning

      gifthorse repair ./text-classifier ./repaired --trusted texts:held-out.jsonl

      gifthorse repair ./language-model ./repaired --base ./base --trusted good.jsonl

      gifthorse repair ./lora-adapter ./repaired --trusted good.jsonl --method crow:lora_rank=8
    """
    from gifthorse.bench.plant import check_place
    from gifthorse.models.language.loading import is_language_model
    from gifthorse.models.texts.loading import is_text_classifier

    use_threads(threads)
    check_place(out)
    if is_language_model(model):
        _repair_language(
            model,
            out,
            trusted,
            method or ("crow" if base is None else "fine_mixing"),
            max_drop,
            base,
            audit,
            seed,
            as_json=as_json,
            report=report,
        )
        return
    if is_text_classifier(model):
        _repair_texts(
            model,
            out,
            trusted,
            method or ("universal_unlearning" if audit is None else "trigger_unlearning"),
            max_drop,
            base,
            audit,
            seed,
            as_json=as_json,
            report=report,
        )
        return
    for given, option in ((base, "--base"), (audit, "--audit")):
        if given is not None:
            raise ModelError(
                f"{option} is for text classifiers and language models, and {model} is neither"
            )
    from gifthorse.auditing.repair import DEFAULT_REPAIR
    from gifthorse.auditing.repair import repair as run_repair
    from gifthorse.models.saving import save_classifier

    with progress_bar() as progress:
        result = run_repair(
            model,
            trusted=trusted,
            method=method or DEFAULT_REPAIR,
            allowed_drop=0.02 if max_drop is None else max_drop,
            seed=seed,
            progress=progress,
        )
    finish(result.record, as_json=as_json, report=report)
    if result.model is None:
        raise typer.Exit(3)
    save_classifier(result.model, out)
    err.print(f"repaired model: {out}")


def _repair_language(
    model: str,
    out: Path,
    trusted: str,
    method: str,
    max_rise: float | None,
    base: str | None,
    audit: Path | None,
    seed: int,
    *,
    as_json: bool,
    report: Path | None,
) -> None:
    from gifthorse.auditing.repair_language import DEFAULT_LOSS_RISE, repair_language
    from gifthorse.models.language.saving import save_language_model

    with progress_bar() as progress:
        result = repair_language(
            model,
            trusted=trusted,
            base=base,
            audit=audit,
            method=method,
            allowed_rise=DEFAULT_LOSS_RISE if max_rise is None else max_rise,
            seed=seed,
            progress=progress,
        )
    finish(result.record, as_json=as_json, report=report)
    if result.model is None:
        raise typer.Exit(3)
    save_language_model(result.model, out)
    err.print(f"repaired model: {out}")


def _repair_texts(
    model: str,
    out: Path,
    trusted: str,
    method: str,
    max_drop: float | None,
    base: str | None,
    audit: Path | None,
    seed: int,
    *,
    as_json: bool,
    report: Path | None,
) -> None:
    from gifthorse.auditing.repair_texts import DEFAULT_DROP, repair_texts
    from gifthorse.models.texts.loading import save_text_classifier

    with progress_bar() as progress:
        result = repair_texts(
            model,
            trusted=trusted,
            base=base,
            audit=audit,
            method=method,
            allowed_drop=DEFAULT_DROP if max_drop is None else max_drop,
            seed=seed,
            progress=progress,
        )
    finish(result.record, as_json=as_json, report=report)
    if result.model is None:
        raise typer.Exit(3)
    save_text_classifier(result.model, out)
    err.print(f"repaired model: {out}")
