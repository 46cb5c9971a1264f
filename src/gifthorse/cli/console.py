"""What all commands share: options, progress bars, exit codes, printing a record."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from gifthorse.core.record import (
    AuditRecord,
    FilesRecord,
    MeasureRecord,
    PlantRecord,
    Rate,
    RepairRecord,
    StoryRecord,
)
from gifthorse.core.types import Progress as ProgressCallback
from gifthorse.core.types import Verdict
from gifthorse.report import words
from gifthorse.report.write import write_report

AnyRecord = AuditRecord | RepairRecord | PlantRecord | StoryRecord

EXIT_CODES = {
    Verdict.CLEAR: 0,
    Verdict.FLAGGED: 1,
    Verdict.INCONCLUSIVE: 3,
    Verdict.NOT_APPLICABLE: 3,
    Verdict.FAILED: 3,
}
_MOST_FILES = 50
_MOST_ISSUES = 8
_COLOURS = {Verdict.CLEAR: "green", Verdict.FLAGGED: "red"}

Json = Annotated[bool, typer.Option("--json", help="Print the record as JSON on standard output.")]
Report = Annotated[
    Path | None,
    typer.Option("--report", help="Write a report: .html for people, .md, .sarif, or .json."),
]
Sarif = Annotated[Path | None, typer.Option("--sarif", help="Also write SARIF for code scanning.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of all randomness.", min=0)]
Rate_ = Annotated[
    float,
    typer.Option("--false-alarm-rate", help="How often a clean subject may be flagged, in (0, 1)."),
]
Threads = Annotated[
    int | None, typer.Option("--threads", min=1, help="Processor threads (default: all cores).")
]

out = Console(highlight=False, emoji=False)
err = Console(stderr=True, highlight=False, emoji=False)


def use_threads(count: int | None) -> None:
    """Set the number of torch threads, if the user asked for one."""
    if count is not None:
        import torch

        torch.set_num_threads(count)


@contextmanager
def progress_bar() -> Iterator[ProgressCallback]:
    """A progress bar on standard error, one line a kind of work; silent when not a terminal."""
    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        tasks: dict[str, TaskID] = {}

        def show(done: int, total: int, what: str) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)

        yield show


def finish(
    record: AnyRecord, *, as_json: bool, report: Path | None, sarif: Path | None = None
) -> None:
    """Print a record, and write the reports that the user asked for."""
    for path in (report, sarif):
        if path is not None:
            write_report(record, path)
    if as_json:
        typer.echo(record.model_dump_json(indent=2))
        return
    if isinstance(record, AuditRecord):
        print_audit(record)
    elif isinstance(record, RepairRecord):
        print_repair(record)
    elif isinstance(record, PlantRecord):
        print_plant(record)
    for path in (report, sarif):
        if path is not None:
            out.print(f"report: {escape(str(path))}")


def print_audit(record: AuditRecord) -> None:
    """The verdict first, then one row a finding."""
    colour = _COLOURS.get(record.verdict, "yellow")
    score = "" if record.score is None else f"  score {record.score:.2f}"
    out.print(
        Panel(
            f"[bold {colour}]{record.verdict}[/]{score}\n{escape(record.reason)}",
            title=Text(f"{record.kind}: {record.subject.name}"),
            title_align="left",
            border_style=colour,
        )
    )
    if record.files is not None:
        print_files(record.files)
    if record.findings:
        _print_findings(record)
    for note in record.notes:
        out.print(f"[dim]· {escape(note)}[/]")
    rate = f"false-alarm rate of the whole: {record.plan.false_alarm_rate:.1%}; "
    out.print(f"[dim]· {rate if record.findings else ''}{record.cost.seconds:.1f} s[/]")


def _print_findings(record: AuditRecord) -> None:
    table = Table("detector", "verdict", "statistic", "threshold", "p", "seconds", box=None)
    for finding in record.findings:
        seen, limit = finding.evidence, finding.threshold
        table.add_row(
            finding.detector.name,
            f"[{_COLOURS.get(finding.verdict, 'yellow')}]{finding.verdict}[/]",
            f"{seen.statistic:.2f}" if seen else "–",
            f"{limit.value:.2f}" if limit else "–",
            f"{seen.p_value:.2g}" if seen else "–",
            f"{finding.cost.seconds:.1f}",
        )
    out.print(table)
    for finding in record.findings:
        if finding.evidence is None:
            out.print(f"not checked: {finding.detector.name}: {escape(finding.reason)}")


def print_files(files: FilesRecord) -> None:
    """Files that are not clear, each with what is wrong; the others as a count."""
    heavy = [file for file in files.files if file.verdict is not Verdict.CLEAR]
    for file in heavy[:_MOST_FILES]:
        colour = _COLOURS.get(file.verdict, "yellow")
        formats = escape(", ".join(file.formats))
        out.print(f"[{colour}]{file.verdict}[/] {escape(words.harmless(file.path))} ({formats})")
        for issue in file.issues[:_MOST_ISSUES]:
            place = f"{issue.member}: " if issue.member else ""
            out.print(f"    {escape(words.harmless(place + issue.text))} [dim]{issue.rule}[/]")
        if len(file.issues) > _MOST_ISSUES:
            out.print(f"    and {len(file.issues) - _MOST_ISSUES} more issues")
    if len(heavy) > _MOST_FILES:
        out.print(f"and {len(heavy) - _MOST_FILES} more files")
    clear = files.examined - len(heavy)
    out.print(f"files: {files.examined:,} examined, {clear:,} clear, {files.seconds:.2f} s")
    for note in files.notes:
        out.print(f"[dim]· {escape(words.harmless(note))}[/]")


def print_repair(record: RepairRecord) -> None:
    """Accepted or refused, and what it cost."""
    colour = "green" if record.accepted else "red"
    word = "ACCEPTED" if record.accepted else "REFUSED"
    out.print(
        Panel(
            f"[bold {colour}]{word}[/]\n{escape(record.reason)}\naccuracy on held-back trusted "
            f"samples: {percent(record.accuracy_before)} → {percent(record.accuracy_after)}",
            title=Text(f"repair: {record.repair.name} on {record.subject.name}"),
            title_align="left",
            border_style=colour,
        )
    )
    if record.measures:
        out.print(_measures(record.measures))
    for note in record.notes:
        out.print(f"[dim]· {escape(note)}[/]")


def _measures(measures: tuple[MeasureRecord, ...]) -> Table:
    """One row a number, with what it is compared with."""
    table = Table("measured", "", "beside", box=None)
    for one in measures:
        other = "" if one.other is None else f"{one.beside}: {_measure(one.other, one.other_rate)}"
        table.add_row(escape(one.name), _measure(one.value, one.rate), escape(other))
    return table


def _measure(value: float, rate: Rate | None) -> str:
    return f"{value:.3f} nats" if rate is None else percent(rate)


def print_plant(record: PlantRecord) -> None:
    """What was planted and how well it works."""
    table = Table("measured on test data", "", box=None, show_header=False)
    table.add_row("clean accuracy (CA)", percent(record.clean_accuracy))
    if record.twin_clean_accuracy is not None:
        table.add_row("CA of the clean twin", percent(record.twin_clean_accuracy))
    if record.twin_attack_success_rate is not None:
        table.add_row("ASR of the clean twin", percent(record.twin_attack_success_rate))
    table.add_row("attack success rate (ASR)", percent(record.attack_success_rate))
    table.add_row("robust accuracy (RA)", percent(record.robust_accuracy))
    aim = f"{record.mode} → {record.target}" if record.target else record.mode
    out.print(
        Panel(
            table,
            title=Text(
                f"planted: {record.attack.name} ({aim}), {record.poisoned_samples} of "
                f"{record.training_samples} samples"
            ),
            title_align="left",
        )
    )
    if record.measures:
        out.print(_measures(record.measures))


def percent(rate: Rate) -> str:
    """A rate with its interval, for people."""
    return f"{rate.value:.1%} [{rate.low:.1%}, {rate.high:.1%}]"
