"""`gifthorse bench zoo` and `gifthorse bench judge`: is the audit any good?"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from gifthorse.cli.console import Threads, err, out, use_threads

if TYPE_CHECKING:
    from gifthorse.bench.zoo.growing import Truth
    from gifthorse.bench.zoo.judging import Judged, Quality
    from gifthorse.core.record import Rate


def zoo(
    population: Annotated[Path, typer.Argument(help="Population file (TOML).")],
    out_dir: Annotated[Path, typer.Argument(metavar="OUT", help="New directory, or a zoo.")],
    pairs: Annotated[
        int | None, typer.Option("--pairs", min=1, help="So many clean and planted models.")
    ] = None,
    threads: Threads = None,
) -> None:
    """Train seeded clean and planted models to judge audits on.

    Interrupt it at any time and run it again. Exit code: 0 done, 2 bad input, 3 some models
    could not be made.

    Examples:
      gifthorse bench zoo studies/zoo/development.toml zoo/development --pairs 8
    """
    from gifthorse.bench.zoo.growing import grow
    from gifthorse.bench.zoo.population import read_population

    use_threads(threads)
    truths = grow(read_population(population), out_dir, pairs=pairs, watch=_grown)
    failed = [truth for truth in truths if truth.failure]
    for truth in failed:
        out.print(f"[red]failed[/] {truth.draw.name}: {escape(truth.failure)}")
    raise typer.Exit(3 if failed else 0)


def judge(
    zoo_dir: Annotated[Path, typer.Argument(metavar="ZOO", help="From gifthorse bench zoo.")],
    plans: Annotated[
        list[str] | None,
        typer.Option(
            "--detectors", help="Detectors joined by +, judged as one audit; may be repeated."
        ),
    ] = None,
    samples: Annotated[int, typer.Option("--samples", min=8, help="Trusted pictures.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
    threads: Threads = None,
) -> None:
    """Audit a zoo: ROC-AUC, false alarms, what was found of each family, seconds a model.

    Resumable. Without --detectors, the audit as it is shipped.

    Examples:
      gifthorse bench judge zoo/test --detectors universality --detectors mm_bd
    """
    from gifthorse.bench.zoo.judging import SHIPPED, quality
    from gifthorse.bench.zoo.judging import judge as judge_zoo

    use_threads(threads)
    wanted = plans or [SHIPPED]
    rows = judge_zoo(zoo_dir, wanted, samples=samples, watch=_judged)
    found = [quality(zoo_dir, rows, plan) for plan in wanted]
    if as_json:
        typer.echo(json.dumps([one.model_dump(mode="json") for one in found], indent=1))
        return
    _print(found)


def _grown(truth: "Truth", done: int, total: int) -> None:
    what = truth.draw.family or truth.draw.clean
    figures = truth.failure or f"CA {truth.clean_accuracy:.3f}"
    if truth.attack_success_rate is not None:
        figures += f", ASR {truth.attack_success_rate:.3f}"
    err.print(f"[{done}/{total}] {truth.draw.name} {what}: {figures}", markup=False)


def _judged(row: "Judged", truth: "Truth") -> None:
    what = truth.draw.family or truth.draw.clean
    score = "–" if row.score is None else f"{row.score:.2f}"
    err.print(
        f"{row.specimen} {what}: {row.plan} {row.verdict}, score {score}, {row.seconds:.1f} s",
        markup=False,
    )


def _print(found: "list[Quality]") -> None:
    table = Table("figure", *(escape(one.plan) for one in found), box=None)
    table.add_row("clean, planted", *(f"{one.clean}, {one.planted}" for one in found))
    table.add_row("never took, mute", *(f"{one.never_took}, {one.mute}" for one in found))
    area = [
        f"{one.auc:.3f} [{one.auc_interval[0]:.3f}, {one.auc_interval[1]:.3f}]" for one in found
    ]
    table.add_row("ROC-AUC", *area)
    table.add_row("false alarms", *(_share(one.false_alarms) for one in found))
    table.add_row("found", *(_share(one.found) for one in found))
    table.add_row("found at 5 % FPR", *(_share(one.at_five) for one in found))
    table.add_row("found at 1 % FPR", *(_share(one.at_one) for one in found))
    right = ["–" if one.right_class is None else _share(one.right_class) for one in found]
    table.add_row("right class", *right)
    table.add_row("seconds a model", *(f"{one.seconds:.1f}" for one in found))
    for family in found[0].families:
        cells = [one.families[family] for one in found]
        table.add_row(escape(family), *(f"AUC {a:.3f}, {hit}/{n}" for a, hit, n in cells))
    for kind in found[0].alarms:
        cells2 = [one.alarms[kind] for one in found]
        table.add_row(f"clean: {kind}", *(f"flagged {hit}/{n}" for hit, n in cells2))
    out.print(table)


def _share(value: "Rate") -> str:
    return f"{value.count}/{value.total} [{value.low:.2f}, {value.high:.2f}]"
