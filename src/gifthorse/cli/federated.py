"""`gifthorse federated`: studies of backdoors planted by clients, and the server's defences."""

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from gifthorse.cli.console import out, progress_bar
from gifthorse.core.errors import SpecError

if TYPE_CHECKING:
    from gifthorse.core.rounds_record import TrialRecord

app = typer.Typer(
    name="federated",
    help="Federated learning: hostile clients against the defences of the server.",
    no_args_is_help=True,
)
LedgerPlace = Annotated[Path, typer.Option("--ledger", help="Directory of the trial records.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Page = Annotated[Path | None, typer.Option("--report", help="Write a page (.html) for people.")]
Matrix = Annotated[
    Path | None, typer.Option("--markdown", help="Write aggregators × attacks as Markdown.")
]


@app.command()
def run(
    study: Annotated[Path, typer.Argument(help="Study file (TOML).")],
    ledger: LedgerPlace,
    workers: Annotated[
        int, typer.Option("--workers", min=1, max=1024, help="Processes; results do not change.")
    ] = 1,
    engine: Annotated[
        str, typer.Option("--engine", help="local: processes; ray: Ray here, or a cluster.")
    ] = "local",
    address: Annotated[
        str | None, typer.Option("--address", help="Of a running Ray cluster; implies ray.")
    ] = None,
    page: Page = None,
    matrix: Matrix = None,
    as_json: AsJson = False,
) -> None:
    """Run a study: every defence under every attack, for every split and seed.

    What the ledger already holds is not run again, so an interrupted study goes on where it was.

    Exit code: 0 done, 2 bad input, 3 not finished.

    Examples:
      gifthorse federated run studies/federated-smoke.toml --ledger smoke

      gifthorse federated run studies/federated-digits.toml --ledger digits --workers 2 \
        --markdown digits.md
    """
    from gifthorse.federated.ledger import Ledger
    from gifthorse.federated.runner import run_study
    from gifthorse.federated.study import read_study

    if engine not in ("local", "ray"):
        raise SpecError(f"no engine {engine!r}; known: local, ray")
    chosen = None
    if engine == "ray" or address is not None:
        from gifthorse.federated.on_ray import run_on_ray

        chosen = partial(run_on_ray, address=address, cpus=workers)
    described = read_study(study)
    described.trials()  # complain before the ledger is made
    with progress_bar() as progress:
        records = run_study(
            described,
            Ledger(ledger, create=True),
            workers=workers,
            run=chosen,
            progress=progress,
        )
    _print(records, as_json=as_json)
    _write(records, page, matrix, described.name)


@app.command()
def show(
    ledger: Annotated[Path, typer.Argument(help="Directory of the trial records.")],
    trials: Annotated[
        list[str] | None,
        typer.Option("--trial", help="Key of a trial, or its start; may be repeated."),
    ] = None,
    page: Page = None,
    matrix: Matrix = None,
    as_json: AsJson = False,
) -> None:
    """Show what a ledger holds: accuracy, attack success, and who was kept out.

    The page draws accuracy and attack success over the rounds, and who was rejected when.

    Exit code: 0 done, 2 bad input.

    Examples:
      gifthorse federated show smoke

      gifthorse federated show smoke --report smoke.html --markdown smoke.md

      gifthorse federated show smoke --trial 3f2a --json
    """
    from gifthorse.federated.afterwards import find_trial
    from gifthorse.federated.ledger import Ledger
    from gifthorse.federated.tables import in_order

    held = Ledger(ledger)
    records = tuple(find_trial(held, key) for key in trials) if trials else in_order(held)
    _print(records, as_json=as_json)
    _write(records, page, matrix, ledger.resolve().name)


@app.command()
def replay(
    ledger: Annotated[Path, typer.Argument(help="Directory of the trial records.")],
    trial: Annotated[str, typer.Argument(help="Key of a trial, or its start; see show --json.")],
    place: Annotated[Path, typer.Option("--out", help="Directory to write; must not exist yet.")],
    without: Annotated[
        list[str] | None, typer.Option("--without", help="A client to take out; may be repeated.")
    ] = None,
    heal: Annotated[
        int,
        typer.Option("--heal", min=0, max=1000, help="With --without: rounds of the others after."),
    ] = 3,
    as_json: AsJson = False,
) -> None:
    """Play a trial again and write what it left: model, updates, and who contributed to what.

    The model is an ordinary model directory. With --without every aggregation is done again
    without those clients, from the stored updates, and the others train on for some rounds.

    Exit code: 0 done, 2 bad input, or the trial comes out differently here.

    Examples:
      gifthorse federated replay smoke 3f2a --out after

      gifthorse federated replay smoke 3f2a --out after --without client-000 --without client-001

      gifthorse audit after/model --trusted digits --detector neural_cleanse

      gifthorse trace after/model --store after/lineage.db
    """
    from gifthorse.federated.afterwards import find_trial, replay_trial
    from gifthorse.federated.ledger import Ledger

    record = find_trial(Ledger(ledger), trial)
    with progress_bar() as progress:
        found = replay_trial(
            record, place, without=tuple(without or ()), heal=heal, progress=progress
        )
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=2, default=str))
        return
    out.print(f"trial {record.spec.key()}: the same digest as in the ledger")
    rated = [(str(found.model), found.before)]
    if found.mended is not None and found.after is not None and found.unhealed is not None:
        rated.append(("replayed without them", found.unhealed))
        rated.append((f"{found.mended} ({found.heal} rounds later)", found.after))
    for path, rates in rated:
        out.print(
            f"{escape(path)}: clean accuracy {100 * rates.clean_accuracy:.1f} %, "
            f"attack success rate {100 * rates.attack_success:.1f} %"
        )
    out.print(f"updates: {escape(str(found.updates))}")
    out.print(f"who contributed to what: gifthorse trace … --store {escape(str(found.store))}")


@app.command()
def lineage(
    server: Annotated[Path, typer.Argument(help="Directory that a server keeps, with updates.")],
    place: Annotated[Path, typer.Option("--out", help="Directory to write.")],
) -> None:
    """Write who contributed to which global model of a real server, for `gifthorse trace`.

    Exit code: 0 done, 2 bad input.

    Examples:
      gifthorse federated lineage server --out lineage
    """
    from gifthorse.federated.server_after import server_lineage

    store = server_lineage(server, place)
    out.print(f"who contributed to what: gifthorse trace … --store {escape(str(store))}")


@app.command()
def remove(
    server: Annotated[Path, typer.Argument(help="Directory that a server keeps, with updates.")],
    without: Annotated[
        list[str], typer.Option("--without", help="A node to take out; may be repeated.")
    ],
    defence: Annotated[str, typer.Option("--defence", help="The aggregator that it used.")],
    place: Annotated[Path, typer.Option("--out", help="File to write (.safetensors).")],
    seed: Annotated[int, typer.Option("--seed", help="Of the strategy.")] = 0,
) -> None:
    """Write the model of a real server without some nodes, from the updates that it kept.

    Let the others train it further: what they sent was meant for another model.

    Exit code: 0 done, 2 bad input.

    Examples:
      gifthorse federated remove server --without 1234 --defence multikrum --out mended.safetensors
    """
    from gifthorse.core.registry import build, parse_spec
    from gifthorse.federated.server_after import without_nodes

    aggregator = build("aggregators", parse_spec(defence))
    written = without_nodes(server, aggregator, tuple(without), place, seed=seed)
    out.print(f"{escape(str(written))}: the model without {escape(', '.join(without))}")


def _write(
    records: "tuple[TrialRecord, ...]", page: Path | None, matrix: Path | None, name: str
) -> None:
    if page is not None:
        from gifthorse.report.rounds import render_rounds
        from gifthorse.report.write import write_page

        write_page(render_rounds(records, name=name), page)
    if matrix is not None:
        from gifthorse.federated.markdown import write_matrices

        write_matrices(records, matrix)


def _print(records: "tuple[TrialRecord, ...]", *, as_json: bool) -> None:
    """One row a cell, means over seeds."""
    from gifthorse.federated.tables import rows

    found = rows(records)
    if as_json:
        trials = [
            {
                "trial": record.spec.key(),
                "spec": record.spec.model_dump(mode="json"),
                "digest": record.digest,
                "model": record.rounds[-1].model,
                "quarantined": _reasons(record),
            }
            for record in records
        ]
        typer.echo(json.dumps({"rows": [asdict(row) for row in found], "trials": trials}, indent=2))
        return
    table = Table(
        "α", "attack", "defence", "CA", "peak", "end", "after", "TPR", "FPR", "ms", "kept out",
        box=None,
    )  # fmt: skip
    for row in found:
        table.add_row(
            f"{row.alpha:g}" if row.alpha else "IID",
            escape(row.attack),
            escape(row.defence),
            *(f"{100 * value:.1f}" for value in (row.clean_accuracy, row.peak, row.end, row.after)),
            *("–" if value is None else f"{100 * value:.0f}" for value in (row.found, row.wronged)),
            f"{1000 * row.aggregation:.1f}",
            f"{row.quarantined:.0f}",
        )
    out.print(table)
    for text, count in sorted(_all_reasons(records).items()):
        out.print(f"kept out {count} ×: {escape(text)}")
    out.print(
        "[dim]CA: clean accuracy; peak, end, after: attack success rate at its highest, at the end "
        "of the attack, 15 rounds later (all %); TPR, FPR: malicious and honest replies rejected; "
        "ms: in the aggregator, a round[/]"
    )


def _reasons(record: "TrialRecord") -> dict[str, int]:
    counts: dict[str, int] = {}
    for entry in record.rounds:
        for one in entry.quarantined:
            text = f"{one.client}: {one.reason}"
            counts[text] = counts.get(text, 0) + 1
        for name in entry.missing:
            counts[f"{name}: no reply"] = counts.get(f"{name}: no reply", 0) + 1
    return counts


def _all_reasons(records: "tuple[TrialRecord, ...]") -> dict[str, int]:
    total: dict[str, int] = {}
    for record in records:
        for text, count in _reasons(record).items():
            total[text] = total.get(text, 0) + count
    return total
