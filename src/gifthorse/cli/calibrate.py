"""`gifthorse calibrate`."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gifthorse.cli.console import Seed, Threads, err, out, progress_bar, use_threads
from gifthorse.core.errors import DataError

if TYPE_CHECKING:
    from gifthorse.auditing.subjects import Held


def calibrate(
    models: Annotated[
        list[Path],
        typer.Argument(
            help="Directories of clean models, or of a zoo (gifthorse bench zoo), whose clean "
            "models then count. At least 20 in all."
        ),
    ],
    to: Annotated[Path, typer.Option("--out", help="The bank: a new JSON file.")],
    trusted: Annotated[
        str | None,
        typer.Option("--trusted", help="Clean pictures, as for audit. A zoo has its own."),
    ] = None,
    detector: Annotated[
        list[str] | None,
        typer.Option("--detector", help="name or name:option=value,…; may be repeated."),
    ] = None,
    title: Annotated[str, typer.Option("--title", help="What the bank holds, for people.")] = "",
    samples: Annotated[
        int, typer.Option("--samples", min=2, help="Use at most so many pictures a model.")
    ] = 100,
    seed: Seed = 0,
    threads: Threads = None,
) -> None:
    """Make a reference bank: what detectors say of clean models of your own kind.

    gifthorse audit --bank then judges a model of the same kind by it. The false-alarm rate holds
    for models that were made as these were.

    Exit code: 0 done, 2 bad input.

    Examples:
      gifthorse calibrate ./clean-models/* --trusted folder:./photos --out bank.json

      gifthorse calibrate zoo/calibration --out bank.json
    """
    from gifthorse.auditing.audit import COMBINED_DETECTORS
    from gifthorse.auditing.banks import build_bank
    from gifthorse.auditing.examine import plugins

    if to.exists():
        raise DataError(f"{to} exists; a bank is never overwritten")
    use_threads(threads)
    plan = plugins("detectors", tuple(detector or COMBINED_DETECTORS))
    with progress_bar() as progress:
        bank = build_bank(
            _held(models, trusted, samples, seed),
            plan,
            title=title or to.stem,
            samples=samples,
            seed=seed,
            told=lambda name: err.print(name, markup=False),
            progress=progress,
        )
    try:
        to.write_text(bank.model_dump_json(indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot write {to}: {error.strerror}") from error
    out.print(f"{to}: {len(bank.references)} clean models, {bank.digest}", markup=False)


def _held(models: list[Path], trusted: str | None, samples: int, seed: int) -> Iterator["Held"]:
    """Every model with its pictures, one at a time."""
    from gifthorse.auditing.subjects import hold, open_pictures
    from gifthorse.bench.zoo.growing import clean_models, is_zoo

    pictures = None
    for place in models:
        if is_zoo(place):
            for model, own in clean_models(place):
                yield hold(model, own, samples=samples, seed=seed)
            continue
        if trusted is None:
            raise DataError(f"{place} is no zoo; --trusted says which pictures are clean")
        if pictures is None:
            pictures = open_pictures(trusted)
        yield hold(place, pictures, samples=samples, seed=seed)
