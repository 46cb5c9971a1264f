"""`gifthorse demo`."""

import shutil
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from gifthorse.cli.console import Seed, Threads, out, progress_bar, use_threads
from gifthorse.core.errors import DataError
from gifthorse.report.write import write_report

_MARK = ".gifthorse-demo"


def demo(
    data: Annotated[str, typer.Option("--data", help="signs or fashion-mnist.")] = "signs",
    directory: Annotated[
        Path, typer.Option("--out", help="Where models and report go; a former demo is replaced.")
    ] = Path("demo"),
    seed: Seed = 0,
    threads: Threads = None,
) -> None:
    """Replay the story: plant a backdoor, find it, picture it, repair it, look again.

    Exit code: 0 if all went as told, 3 if not.

    Examples:
      gifthorse demo

      gifthorse demo --data fashion-mnist --out demo-fashion
    """
    from gifthorse.bench.story import SCENARIOS, run_story

    if data not in SCENARIOS:
        raise DataError(f"no demonstration on {data!r}; known: {', '.join(SCENARIOS)}")
    use_threads(threads)
    _clear(directory)
    start = time.perf_counter()
    with progress_bar() as progress:
        outcome = run_story(
            SCENARIOS[data],
            directory,
            seed=seed,
            tell=lambda text: out.print(escape(text), style="bold" if text[0] == "[" else ""),
            progress=progress,
        )
    write_report(outcome.story, directory / "report.html")
    write_report(outcome.story, directory / "report.json")
    out.print(f"\n{escape(outcome.story.summary)}")
    out.print(f"Report: {escape(str(directory / 'report.html'))}")
    out.print(f"[dim]{time.perf_counter() - start:.0f} seconds[/]")
    if not outcome.expected:
        out.print("[bold red]This run did not go as the story says; see the report.[/]")
        raise typer.Exit(3)


def _clear(directory: Path) -> None:
    """Replace a former demonstration, and never anything else."""
    if directory.exists() and any(directory.iterdir()):
        if not (directory / _MARK).exists():
            raise DataError(f"{directory} exists and is no former demo; choose another --out")
        shutil.rmtree(directory)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / _MARK).touch()
