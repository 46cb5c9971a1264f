"""`gifthorse quarantine`."""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import typer
from rich.markup import escape

from gifthorse.cli.console import out
from gifthorse.cli.sources import Reading, open_samples
from gifthorse.core.errors import DataError
from gifthorse.core.record import AuditRecord, read_record
from gifthorse.core.types import BoolArray
from gifthorse.provenance.lineage import flagged, scanned
from gifthorse.provenance.manifest import Manifest, open_manifest
from gifthorse.provenance.quarantine import discard, kept, list_remaining, selected
from gifthorse.provenance.quarantine import quarantine as copy_without
from gifthorse.provenance.reading.attribution import Attribution
from gifthorse.provenance.reading.fields import Fields
from gifthorse.provenance.reading.sources import find_source
from gifthorse.provenance.store import DataSet


def quarantine(
    data: Annotated[str, typer.Argument(help="The data set, as it was named for its manifest.")],
    manifest: Annotated[Path, typer.Option("--manifest", help="Of this data set.")],
    place: Annotated[
        Path, typer.Option("--out", help="Where the copy goes; pictures by pixels become .npz.")
    ],
    contributor: Annotated[
        list[str] | None,
        typer.Option("--contributor", help="Take out all that they supplied; may be repeated."),
    ] = None,
    sample: Annotated[
        list[str] | None,
        typer.Option("--sample", help="Take out the sample with this id; may be repeated."),
    ] = None,
    scan: Annotated[
        Path | None,
        typer.Option("--scan", help="Take out what this record of a scan flagged."),
    ] = None,
    new_manifest: Annotated[
        Path | None,
        typer.Option("--new-manifest", help="Where its manifest goes (default: OUT.manifest)."),
    ] = None,
    label: Annotated[str | None, typer.Option("--label", help="As for gifthorse manifest.")] = None,
    contributor_field: Annotated[
        str | None, typer.Option("--contributor-field", help="As for gifthorse manifest.")
    ] = None,
    split: Annotated[
        Literal["train", "test"], typer.Option("--split", help="Which part of data with two.")
    ] = "train",
) -> None:
    """Write a data set without a contributor or some samples, with a new manifest.

    What is written is compared with the manifest; contributors who lost nothing keep their signed
    root. The original is not changed.

    Examples:
      gifthorse quarantine ./train --manifest train.manifest --contributor mallory --out ./clean

      gifthorse quarantine npz:all.npz --manifest all.manifest --scan scan.json --out clean.npz
    """
    listed = open_manifest(manifest)
    dropped = selected(
        listed,
        contributors=frozenset(contributor or ()),
        ids=frozenset(sample or ()),
        positions=frozenset() if scan is None else _flagged(scan, listed),
    )
    target = new_manifest or place.with_name(f"{place.name}.manifest")
    if listed.head.content == "pixels":
        made = _pictures(data, listed, dropped, place, target, Reading(split=split))
    else:
        source = find_source(
            data, attribution=Attribution(field=contributor_field), fields=Fields(label=label)
        )
        made = copy_without(source, listed, dropped, place, target)
    out.print(
        f"{made.head.removed} of {listed.head.size} samples taken out, {made.head.size} stay: "
        f"{escape(str(place))}",
        soft_wrap=True,
    )
    out.print(f"manifest: {escape(str(target))}, root {made.head.root}", soft_wrap=True)


def _flagged(path: Path, listed: Manifest) -> frozenset[int]:
    record = read_record(path)
    if not isinstance(record, AuditRecord):
        raise DataError(f"{path} is not the record of a scan")
    scanned(record, [DataSet(listed.head, listed.place)])
    return frozenset(flagged(record))


def _pictures(
    data: str, listed: Manifest, dropped: BoolArray, place: Path, target: Path, reading: Reading
) -> Manifest:
    from gifthorse.data.images import digest, subset
    from gifthorse.data.npz import save_npz
    from gifthorse.data.provenance import picture_samples
    from gifthorse.data.sources import load

    if place.exists():
        raise DataError(f"{place} exists; choose another place")
    pictures = open_samples(data, reading, pixels=True).pictures
    if pictures is None or len(pictures) != listed.head.size:
        raise DataError(f"{data} is not the data set that {listed.place} lists")
    rest = subset(pictures, np.flatnonzero(~dropped).astype(np.int64))
    people = [sample.contributor for sample in kept(listed, dropped)]
    save_npz(rest, place, contributors=people)
    again = load(f"npz:{place}")
    try:
        return list_remaining(
            listed, picture_samples(again), target, dropped=dropped, data_digest=digest(again)
        )
    except DataError:
        discard(place)
        raise
