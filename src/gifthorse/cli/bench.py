"""`gifthorse bench`: run a study, look at its ledger."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from gifthorse.cli import zoo
from gifthorse.cli.console import err, out
from gifthorse.core.errors import SpecError

if TYPE_CHECKING:
    from gifthorse.bench.runner import Engine, Standing, Summary
    from gifthorse.bench.table import Row
    from gifthorse.bench.trial_record import TrialRecord

app = typer.Typer(
    help="What does each attack do to each defence? Studies, a ledger, a leaderboard.",
    no_args_is_help=True,
)

app.command()(zoo.zoo)
app.command()(zoo.judge)

LedgerDir = Annotated[Path, typer.Argument(help="Directory of the ledger.")]
Where = Annotated[
    list[str] | None,
    typer.Option("--where", help="column=value or column~text; may be repeated."),
]


@app.command()
def run(
    study: Annotated[Path, typer.Argument(help="Study file (TOML).")],
    ledger: Annotated[Path, typer.Option("--ledger", help="Directory to keep results in.")],
    engine: Annotated[
        str, typer.Option("--engine", help="local: in this process; ray: parallel, or a cluster.")
    ] = "local",
    address: Annotated[
        str | None, typer.Option("--address", help="Of a running Ray cluster; implies ray.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="CPUs for Ray on this machine.")
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run again what failed before.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Run the trials of a study that the ledger does not hold yet.

    Interrupt it at any time and run it again. Exit code: 0 done, 2 bad input, 3 some trials failed.

    Examples:
      gifthorse bench run studies/smoke.toml --ledger ledger

      gifthorse bench run studies/smoke.toml --ledger ledger --engine ray
    """
    from gifthorse.bench.ledger import Ledger
    from gifthorse.bench.runner import run_study
    from gifthorse.bench.study import read_study

    if engine not in ("local", "ray"):
        raise SpecError(f"no engine {engine!r}; known: local, ray")
    read = read_study(study)
    Ledger.create(ledger)  # says what is wrong with the place before anything is started
    chosen: Engine | None = None
    if engine == "ray" or address is not None:
        from gifthorse.bench.ray_engine import RayEngine

        chosen = RayEngine(read.resources, address=address, cpus=workers)
    summary = run_study(read, ledger, engine=chosen, retry_failed=retry_failed, watch=_standing)
    _print_summary(summary, as_json=as_json)
    raise typer.Exit(3 if summary.failed else 0)


@app.command()
def show(
    ledger: LedgerDir,
    metric: Annotated[
        str,
        typer.Option("--metric", help="asr, ca, ra, der, auc, statistic, seconds."),
    ] = "asr",
    where: Where = None,
    down: Annotated[
        str, typer.Option("--down", help="Column whose values become the lines.")
    ] = "attack_label",
    across: Annotated[
        str, typer.Option("--across", help="Column whose values become the columns.")
    ] = "defence_label",
    sort: Annotated[
        str | None,
        typer.Option("--sort", help="List trials instead, by this column; -COLUMN: down."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all columns as JSON.")] = False,
) -> None:
    """Show a ledger: attack × defence or any other pivot, or a sorted list of trials.

    Examples:
      gifthorse bench show ledger --metric ra

      gifthorse bench show ledger --where defence=anp --down attack --across poison_rate

      gifthorse bench show ledger --where role=repair --sort -der
    """
    from gifthorse.bench.overview import METRICS, chosen
    from gifthorse.bench.table import rows

    if metric not in METRICS:
        raise SpecError(f"no metric {metric!r}; known: {', '.join(METRICS)}")
    try:
        table = chosen(rows(_shown(ledger)), where or [])
    except ValueError as error:
        raise SpecError(str(error)) from error
    if as_json:
        typer.echo(json.dumps(table, indent=1))
    elif sort is not None:
        _print_list(table, sort)
    else:
        _print_matrix(table, metric, down, across)


@app.command()
def export(
    ledger: LedgerDir,
    parquet: Annotated[
        Path | None, typer.Option("--parquet", help="Write Parquet, for pandas or DuckDB.")
    ] = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write CSV.")] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", help="Write tables for people.")
    ] = None,
    where: Where = None,
) -> None:
    """Write the trials as one flat table, or as tables for people.

    Examples:
      gifthorse bench export ledger --parquet trials.parquet

      gifthorse bench export ledger --markdown tables.md
    """
    from gifthorse.bench.ledger import Ledger
    from gifthorse.bench.markdown import write_tables
    from gifthorse.bench.overview import chosen
    from gifthorse.bench.table import rows, write_csv, write_parquet

    if parquet is None and csv is None and markdown is None:
        raise SpecError("say what to write: --parquet FILE, --csv FILE or --markdown FILE")
    opened, records = Ledger.open(ledger), _shown(ledger)
    try:
        table = chosen(rows(records), where or [])
    except ValueError as error:
        raise SpecError(str(error)) from error
    if markdown is not None:
        kept = {row["id"] for row in table}
        write_tables(opened, [r for r in records if r.id in kept], markdown)
    if parquet is not None:
        write_parquet(table, parquet)
    if csv is not None:
        write_csv(table, csv)
    out.print(f"{len(table)} trials")


@app.command()
def site(
    ledger: LedgerDir,
    out_dir: Annotated[
        Path, typer.Argument(metavar="OUT", help="Directory to write: new, or an earlier site.")
    ],
) -> None:
    """Write the leaderboard as static pages that need no network and no server.

    Examples:
      gifthorse bench site ledger site
    """
    from gifthorse.bench.leaderboard.site import build_site

    _shown(ledger)
    made = build_site(ledger, out_dir)
    out.print(f"site: {escape(str(made.index))} ({made.pages} trials, {made.remarks} remarks)")


def _shown(ledger: Path) -> "list[TrialRecord]":
    """The records of a ledger, without those of an earlier state of a method; that is said."""
    from gifthorse.bench.ledger import Ledger
    from gifthorse.bench.superseded import current, in_words, methods_of

    kept, earlier = current(Ledger.open(ledger).records())
    if earlier:
        names = in_words(methods_of(earlier, kept))
        err.print(f"note: left out, because the method changed since: {names}", markup=False)
    return kept


def _standing(now: "Standing") -> None:
    left = "" if now.seconds_left is None else f", about {_duration(now.seconds_left)} left"
    err.print(f"[{now.done}/{now.total}{left}] {now.what}", markup=False)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _print_summary(summary: "Summary", *, as_json: bool) -> None:
    from dataclasses import asdict

    from gifthorse.bench.superseded import in_words

    if as_json:
        typer.echo(json.dumps(asdict(summary), indent=1))
        return
    out.print(
        f"{summary.total} trials: {summary.present} were there, {summary.ran} run now"
        + (f", {summary.elsewhere} by another runner" if summary.elsewhere else "")
    )
    if summary.changed:
        out.print(f"method changed since: {in_words(summary.changed)}", markup=False)
    for note in summary.notes:
        out.print(f"note: {note}", markup=False)
    for what, why in summary.failed:
        out.print(f"[red]failed[/] {escape(what)}: {escape(why)}")


def _print_matrix(table: "list[Row]", metric: str, down: str, across: str) -> None:
    from gifthorse.bench.overview import pivot

    try:
        names, columns, cells = pivot(table, metric, down=down, across=across)
    except ValueError as error:
        raise SpecError(str(error)) from error
    title = f"{metric} by {down} × {across}".replace("_label", "")
    shown = Table(title, *(escape(column) or "–" for column in columns), box=None)
    for name in names:
        line = []
        for column in columns:
            cell = cells.get((name, column))
            if cell is None:
                line.append("")
            elif cell.judged and metric in ("asr", "ca", "ra", "der"):
                line.append(f"flagged {cell.flagged}/{cell.judged}")
            elif cell.mean is None:
                line.append("–")
            else:
                line.append(f"{cell.mean:.3f}" + (f" ×{cell.seeds}" if cell.seeds > 1 else ""))
        shown.add_row(escape(name) or "–", *line)
    out.print(shown)


def _print_list(table: "list[Row]", sort: str) -> None:
    column = sort.removeprefix("-")
    if table and column not in table[0]:
        raise SpecError(f"no column {column!r}; known: {', '.join(table[0])}")
    known = [row for row in table if row[column] not in (None, "")]
    rest = [row for row in table if row[column] in (None, "")]
    known.sort(
        key=lambda row: (isinstance(row[column], str), row[column]),
        reverse=sort.startswith("-"),
    )
    columns = ["attack_label", "defence_label", "seed", "ca", "asr", "ra", "der", "verdict", "auc"]
    if column not in columns:
        columns.append(column)
    shown = Table(*columns, box=None)
    for row in (*known, *rest):
        shown.add_row(*(_cell(row[name]) for name in columns))
    out.print(shown)


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else escape(str(value))
