"""`gifthorse trace`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from gifthorse.cli.console import out
from gifthorse.core.errors import DataError, RecordError
from gifthorse.core.record import AuditRecord, read_record
from gifthorse.core.types import Unit
from gifthorse.provenance.asking import about_digest, about_model, about_sample, about_scan
from gifthorse.provenance.checking import Trust, check
from gifthorse.provenance.documents import read_document
from gifthorse.provenance.keys import PublicKey, read_public_key
from gifthorse.provenance.lineage import Lineage, proofs
from gifthorse.provenance.manifest import open_manifest
from gifthorse.provenance.proofs import read_proof
from gifthorse.provenance.runs import statement_place
from gifthorse.provenance.store import SqliteStore

_SHOWN = 20


def trace(
    what: Annotated[
        str | None,
        typer.Argument(
            help="A sample (its id, its file, or sha256:DIGEST), the JSON record of a scan, or a "
            "model."
        ),
    ] = None,
    store: Annotated[
        Path | None,
        typer.Option("--store", envvar="GIFTHORSE_STORE", help="Remember what is known in a file."),
    ] = None,
    manifests: Annotated[
        list[Path] | None, typer.Option("--manifest", help="Look here; may be repeated.")
    ] = None,
    runs: Annotated[
        list[Path] | None,
        typer.Option(
            "--run", help="Model directory with provenance.json, or such a file; may be repeated."
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", help="The data that was scanned, to find its samples by content."),
    ] = None,
    proof: Annotated[
        Path | None, typer.Option("--proof", help="Write proofs that anyone can check.")
    ] = None,
    check_: Annotated[Path | None, typer.Option("--check", help="Check a file of proofs.")] = None,
    root: Annotated[
        list[str] | None, typer.Option("--root", help="With --check: a root that you trust.")
    ] = None,
    key: Annotated[
        list[str] | None,
        typer.Option(
            "--key",
            help="With --check: public key of a trainer, or NAME=FILE for that of a contributor.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say where training data came from, and which models it went into.

    A sample or a flagged scan leads to contributors, data sets and the models to recall; a model
    leads back to its data. Proofs can be checked offline, without the data.

    Exit code: 0 found, or everything is proved; 1 a proof does not hold; 2 bad input; 3 not found,
    or proved only for what nobody that you trust vouched for.

    Examples:
      gifthorse trace scan.json --manifest train.manifest --run ./model --proof proof.json

      gifthorse trace stop/0007.png --store lineage.db

      gifthorse trace ./model --store lineage.db

      gifthorse trace --check proof.json --key trainer.pub --key alice=alice.pub
    """
    if check_ is not None:
        raise typer.Exit(_check(check_, root or [], key or [], as_json=as_json))
    known = _known(store, manifests or [], runs or [])
    if what is None:
        if store is None:
            raise DataError("expected something to trace; see gifthorse trace --help")
        out.print(f"{len(known.data_sets())} data sets and {len(known.runs())} runs are known")
        return
    lineage = _ask(known, what, data)
    if lineage is None:
        out.print(f"{escape(what)}: in none of {len(known.data_sets())} known data sets")
        raise typer.Exit(3)
    if proof is not None:
        if not lineage.samples:
            raise DataError("proofs are of samples; trace a sample or a scan to get some")
        made = proofs(known, lineage, manifests=[open_manifest(one) for one in manifests or []])
        proof.write_text(made.model_dump_json(indent=1) + "\n", encoding="utf-8")
    if as_json:
        typer.echo(lineage.model_dump_json(indent=2))
        return
    _show(lineage)
    if proof is not None:
        out.print(f"proofs: {escape(str(proof))}")


def _known(store: Path | None, manifests: list[Path], runs: list[Path]) -> SqliteStore:
    if store is None and not manifests and not runs:
        raise DataError("where to look? Give --manifest, --run or --store")
    known = SqliteStore(store)
    for place in manifests:
        known.add_manifest(open_manifest(place))
    for place in runs:
        known.add_run(read_document(statement_place(place) if place.is_dir() else place))
    return known


def _ask(known: SqliteStore, what: str, data: str | None) -> Lineage | None:
    path = Path(what)
    if path.suffix == ".json" and path.is_file():
        record = _record(path)
        if record is not None and any(
            finding.evidence is not None and finding.evidence.unit is Unit.SAMPLE
            for finding in record.findings
        ):
            return about_scan(known, record, _contents(data))
        if record is not None:
            return about_digest(known, record.subject.digest, question=record.subject.name)
    if what.startswith("sha256:") or not path.exists():
        return about_sample(known, what)
    found = about_sample(known, what)
    return found if found is not None else about_model(known, path)


def _record(path: Path) -> AuditRecord | None:
    """The record of a scan or an audit; None if the file is something else, such as a sample."""
    try:
        found = read_record(path)
    except RecordError:
        return None
    return found if isinstance(found, AuditRecord) else None


def _contents(data: str | None) -> list[bytes] | None:
    if data is None:
        return None
    from gifthorse.cli.sources import Reading, open_samples

    return [sample.digest for sample in open_samples(data, Reading()).samples]


def _check(path: Path, roots: list[str], keys: list[str], *, as_json: bool) -> int:
    import json

    trainers: dict[str, PublicKey] = {}
    contributors: dict[str, PublicKey] = {}
    for text in keys:
        name, equals, file = text.rpartition("=")
        if equals:
            contributors[name] = read_public_key(Path(file))
        else:
            trainers[Path(file).name.removesuffix(".pub")] = read_public_key(Path(file))
    done = check(
        read_proof(path),
        Trust(
            roots=frozenset(root.lower() for root in roots),
            trainers=trainers,
            contributors=contributors,
        ),
    )
    if as_json:
        page = {"faults": done.faults, "facts": done.facts, "open": done.open}
        typer.echo(json.dumps({"proved": not done.faults and not done.open} | page, indent=2))
    else:
        for word, colour, lines in (
            ("does not hold", "red", done.faults),
            ("holds", "green", done.facts),
            ("open", "yellow", done.open),
        ):
            for line in lines:
                out.print(f"[{colour}]{word}[/]: {escape(line)}", soft_wrap=True)
    return 1 if done.faults else 3 if done.open else 0


def _show(lineage: Lineage) -> None:
    if lineage.samples:
        _show_samples(lineage)
    names = {one.root: one.name for one in lineage.data_sets}
    table = Table("contributor", "data set", "in question", "of", box=None)
    for person in lineage.contributors[:_SHOWN]:
        table.add_row(
            escape(person.name) or "(nobody)",
            escape(names[person.data_set]),
            str(person.traced),
            str(person.size),
        )
    out.print(table)
    for data_set in lineage.data_sets:
        out.print(f"data set {escape(data_set.name)}: root {data_set.root}", soft_wrap=True)
    if not lineage.models:
        out.print("no model that is known was trained on it")
    for model in lineage.models:
        line = (
            f"{model.consumed} samples consumed"
            if model.consumed
            else f"descends from run {', '.join(model.parents)}"
        )
        word = "recall" if lineage.samples else "run"
        out.print(f"[bold]{word}[/] {escape(model.name)}: {line}, finished {model.finished}")
    for note in lineage.notes:
        out.print(f"[dim]· {escape(note)}[/]")


def _show_samples(lineage: Lineage) -> None:
    table = Table("sample", "label", "contributor", "digest", box=None)
    for sample in lineage.samples[:_SHOWN]:
        table.add_row(
            escape(sample.id),
            escape(sample.label),
            escape(sample.contributor) or "(nobody)",
            sample.digest[:16],
        )
    if len(lineage.samples) > _SHOWN:
        table.add_row(f"… {len(lineage.samples) - _SHOWN} more", "", "", "")
    out.print(table)
