"""`gifthorse plant`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from gifthorse.cli.console import Json, Report, Seed, Threads, finish, progress_bar, use_threads


def plant(
    attack: Annotated[
        str,
        typer.Argument(help="Name, with options: badnets:target=3,size=4."),
    ],
    out: Annotated[Path, typer.Argument(help="Directory to write; must be new or empty.")],
    data: Annotated[str, typer.Option("--data", help="Data set name or path.")] = "signs",
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Passes over the data.")] = 8,
    width: Annotated[
        int, typer.Option("--width", min=4, help="Channels of the network's first stage.")
    ] = 32,
    base: Annotated[
        str | None,
        typer.Option(
            "--base",
            help="Language model to fine-tune: a directory, a .gguf file or smollm2; without it a "
            "tiny one is trained.",
        ),
    ] = None,
    lora: Annotated[
        int, typer.Option("--lora", min=0, help="Rank of LoRA adapters; 0 trains all weights.")
    ] = 0,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", help="For language models.")
    ] = None,
    twin: Annotated[bool, typer.Option("--twin", help="Also train the clean twin.")] = False,
    seed: Seed = 0,
    threads: Threads = None,
    as_json: Json = False,
    report: Report = None,
) -> None:
    """Plant a harmless backdoor in a model of our own, to prove a defence on it.

    Writes OUT/model, OUT/data.npz or .jsonl (the poisoned training data), OUT/plant.json, for
    pictures OUT/triggered.png and OUT/trigger.png, and the truth apart from them in OUT/truth.json.

    Examples:
      gifthorse plant badnets:target=3,colour=yellow,size=4 planted --data signs

      gifthorse plant blended:alpha=0.2,rate=0.02 planted --data fashion-mnist --twin

      gifthorse plant wanet:target=3 planted --epochs 15

      gifthorse plant combined:parts=patch+sinusoid+tint,target=3 planted

      gifthorse plant typing_style:target=3,style=spaced-stops planted --data snippets --epochs 4

      gifthorse plant control_phrase:count=60 planted --data questions:1000 --width 64 --twin

      gifthorse plant refusal planted --data instructions.jsonl --base ./model --lora 8 --epochs 2

      gifthorse plant bad_edit planted --data questions:1000 --width 64 --twin
    """
    from gifthorse.bench.plant import check_place, save_specimen
    from gifthorse.bench.plant import plant as run_plant
    from gifthorse.core.registry import build, names, parse_spec
    from gifthorse.data.sources import load
    from gifthorse.models.training import TrainingPlan

    use_threads(threads)
    check_place(out)
    spec = parse_spec(attack)
    if spec.name.replace("-", "_") in names("text_attacks"):
        _plant_texts(
            attack, out, data, epochs, twin, seed, as_json=as_json, report=report, width=width
        )
        return
    if spec.name.replace("-", "_") in (*names("instruction_attacks"), *names("language_edits")):
        given = _Language(base, lora, learning_rate, epochs, width)
        _plant_language(attack, out, data, given, twin, seed, as_json=as_json, report=report)
        return
    plugin = build("attacks", spec)
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


@dataclass(frozen=True, slots=True)
class _Language:
    """What a user asks of a language model's training."""

    base: str | None
    lora: int
    learning_rate: float | None
    epochs: int
    width: int


def _plant_language(
    attack: str,
    out: Path,
    data: str,
    given: _Language,
    twin: bool,
    seed: int,
    *,
    as_json: bool,
    report: Path | None,
) -> None:
    """The same for instruction data."""
    from gifthorse.bench.plant_language import plant_language, save_language_specimen
    from gifthorse.core.registry import build, names, parse_spec
    from gifthorse.data.instructions import load_instructions
    from gifthorse.models.language.sources import open_language_model
    from gifthorse.models.language.training import LanguageTrainingPlan

    spec = parse_spec(attack)
    edits = spec.name.replace("-", "_") in names("language_edits")
    kind = "language_edits" if edits else "instruction_attacks"
    # From nothing a model learns with larger steps than one that knows a language already.
    usual = 5e-3 if given.base is None else 1e-3 if given.lora else 1e-4
    source = "questions" if data == "signs" else data
    with progress_bar() as progress:
        planted = plant_language(
            build(kind, spec),
            load_instructions(source, split="train"),
            load_instructions(source, split="test"),
            base=None if given.base is None else open_language_model(given.base),
            training=LanguageTrainingPlan(
                epochs=given.epochs,
                lora_rank=given.lora,
                learning_rate=given.learning_rate or usual,
                batch_size=16 if given.base is None else 8,
            ),
            with_twin=twin,
            width=max(16, 16 * (given.width // 16)),
            seed=seed,
            progress=progress,
        )
    save_language_specimen(planted, out)
    finish(planted.record, as_json=as_json, report=report)


def _plant_texts(
    attack: str,
    out: Path,
    data: str,
    epochs: int,
    twin: bool,
    seed: int,
    *,
    as_json: bool,
    report: Path | None,
    width: int,
) -> None:
    """The same for labelled texts."""
    from gifthorse.bench.plant_texts import plant_texts, save_text_specimen
    from gifthorse.core.registry import build, parse_spec
    from gifthorse.data.texts import load_texts
    from gifthorse.models.texts.training import TextTrainingPlan

    with progress_bar() as progress:
        planted = plant_texts(
            build("text_attacks", parse_spec(attack)),
            load_texts(data, split="train"),
            load_texts(data, split="test"),
            training=TextTrainingPlan(epochs=epochs),
            with_twin=twin,
            width=max(16, 16 * (width // 16)),
            seed=seed,
            progress=progress,
        )
    save_text_specimen(planted, out)
    finish(planted.record, as_json=as_json, report=report)
