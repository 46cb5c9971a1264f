"""`gifthorse manifest`."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.markup import escape
from rich.table import Table

from gifthorse.cli.console import out
from gifthorse.cli.keygen import PASSPHRASE_VARIABLE, ask_passphrase
from gifthorse.cli.sources import Reading, Samples, open_samples
from gifthorse.core.errors import DataError
from gifthorse.provenance.contributions import sign_part
from gifthorse.provenance.growing import append as grow
from gifthorse.provenance.growing import join as join_all
from gifthorse.provenance.manifest import Head, Manifest, open_manifest, write_manifest
from gifthorse.provenance.reading.attribution import Attribution
from gifthorse.provenance.reading.fields import Fields


def manifest(
    data: Annotated[
        str | None,
        typer.Argument(
            help="Training data: folder:DIR, jsonl:FILE, parquet:FILE, tar:FILE, npz:FILE, "
            "idx:DIR, or a path."
        ),
    ] = None,
    place: Annotated[
        Path | None, typer.Option("--out", help="Directory to write the manifest to.")
    ] = None,
    contributor: Annotated[
        str | None, typer.Option("--contributor", help="One contributor supplied everything.")
    ] = None,
    contributor_part: Annotated[
        int | None,
        typer.Option(
            "--contributor-part", help="Which folder of a sample's path names its contributor."
        ),
    ] = None,
    contributor_field: Annotated[
        str | None,
        typer.Option(
            "--contributor-field", help="Column, JSON field or array that names the contributor."
        ),
    ] = None,
    contributors: Annotated[
        Path | None,
        typer.Option("--contributors", help="CSV of sample ids (or patterns) and contributors."),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(
            "--label",
            help="Field that holds the label, or for a folder the number of the part of the path.",
        ),
    ] = None,
    identity: Annotated[
        str | None, typer.Option("--id", help="Field that holds the id of a sample.")
    ] = None,
    pixels: Annotated[
        bool,
        typer.Option("--pixels", help="Digest decoded pictures, as scan does, instead of files."),
    ] = False,
    split: Annotated[
        Literal["train", "test"], typer.Option("--split", help="Which part of data with two.")
    ] = "train",
    append: Annotated[
        Path | None,
        typer.Option(
            "--append", help="A manifest whose samples come first; ids in it are skipped."
        ),
    ] = None,
    join: Annotated[
        list[Path] | None,
        typer.Option("--join", help="Join manifests; with DATA, check that it is what they list."),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option("--key", help="Private key of --contributor, to sign their part with."),
    ] = None,
    passphrase: Annotated[
        bool,
        typer.Option(
            "--passphrase", help=f"The key is encrypted; asks, or reads ${PASSPHRASE_VARIABLE}."
        ),
    ] = False,
    check: Annotated[
        Path | None,
        typer.Option("--check", help="Check a manifest, and that DATA is what it lists."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print manifest.json.")] = False,
) -> None:
    """List every training sample with its contributor, under one root that can be signed.

    Exit code: 0 done or it holds, 1 the data is not what the manifest lists, 2 bad input.

    Examples:
      gifthorse manifest ./train --contributor-part 0 --out train.manifest

      gifthorse manifest npz:alice.npz --contributor alice --key alice --out alice.manifest

      gifthorse manifest npz:all.npz --join alice.manifest --join bob.manifest --out all.manifest

      gifthorse manifest ./train --append train.manifest --contributor carol --out grown.manifest

      gifthorse manifest --check train.manifest ./train
    """
    reading = Reading(
        attribution=Attribution(
            name=contributor,
            part=contributor_part,
            field=contributor_field,
            table=contributors,
        ),
        fields=Fields(label=label, identity=identity),
        pixels=pixels,
        split=split,
    )
    if check is not None:
        raise typer.Exit(_check(check, data, reading))
    if place is None or (data is None and not join):
        raise DataError("expected the data and where to write: gifthorse manifest DATA --out DIR")
    if key is not None and contributor is None:
        raise DataError("--key signs the part of one --contributor; name them")
    secret = None
    if key is not None:
        from gifthorse.provenance.keys import read_private_key

        secret = read_private_key(key, passphrase=ask_passphrase() if passphrase else None)
    made = _made(data, place, reading, append=append, joined=join or [])
    if secret is not None and contributor is not None:
        sign_part(made, contributor, secret)
    if as_json:
        typer.echo(made.head.model_dump_json(indent=2))
        return
    _show(made.head)
    out.print(f"manifest: {escape(str(place))}")


def _made(
    data: str | None, place: Path, reading: Reading, *, append: Path | None, joined: list[Path]
) -> Manifest:
    source = None if data is None else open_samples(data, reading)
    if joined:
        parts = [open_manifest(one) for one in joined]
        name = place.name.removesuffix(".manifest") if source is None else source.name
        return join_all(
            parts,
            place,
            name=name,
            data=None if source is None else source.samples,
            data_digest=None if source is None else _digest(source),
        )
    assert source is not None  # noqa: S101 - held by the caller
    if append is not None:
        return grow(open_manifest(append), source.samples, place)
    return write_manifest(
        source.samples,
        place,
        name=source.name,
        content=source.content,
        data_digest=_digest(source),
    )


def _digest(source: Samples) -> str | None:
    if source.pictures is None:
        return None
    from gifthorse.data.images import digest

    return digest(source.pictures)


def _check(place: Path, data: str | None, reading: Reading) -> int:
    from gifthorse.provenance.comparing import differences

    listed = open_manifest(place)
    head = listed.head
    if data is None:
        listed.verify()
        out.print(f"{escape(str(place))} holds: {head.size} samples, root {head.root}")
        return 0
    source = open_samples(data, reading, pixels=head.content == "pixels")
    found = differences(listed, source.samples, in_order=not source.named)
    for line in found.lines():
        out.print(escape(line))
    if not found.total:
        out.print(f"{escape(data)} is what {escape(str(place))} lists: {head.size} samples")
    return 1 if found.total else 0


def _show(head: Head) -> None:
    table = Table("contributor", "samples", "root", box=None)
    for part in head.contributors[:50]:
        table.add_row(escape(part.name) or "(nobody)", str(part.size), part.root[:16] + "…")
    if len(head.contributors) > 50:
        table.add_row(f"… {len(head.contributors) - 50} more", "", "")
    out.print(table)
    out.print(
        f"[bold]{escape(head.name)}[/]: {head.size} samples, root {head.root}", soft_wrap=True
    )
