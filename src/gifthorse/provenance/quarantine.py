"""Writes a data set without some of its samples, with a new manifest of what was written.

What is written is read again and compared with the old manifest, so the new one never lists a
sample that is not what its contributor supplied. Contributors who lost nothing keep their root, and
with it their signature.
"""

import shutil
import tarfile
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from pathlib import Path

import numpy as np

from gifthorse.core.errors import DataError
from gifthorse.core.types import BoolArray
from gifthorse.provenance.contributions import copy_envelopes
from gifthorse.provenance.lines import line_blocks
from gifthorse.provenance.manifest import Manifest, new_directory, write_manifest
from gifthorse.provenance.reading.attribution import Attribution
from gifthorse.provenance.reading.folder import folder_files
from gifthorse.provenance.reading.rows import parquet_files
from gifthorse.provenance.reading.sources import Source, find_source
from gifthorse.provenance.reading.tars import split_name, tar_files
from gifthorse.provenance.samples import Sample

_ROWS = 2048
_LONGEST = 64 * 2**20


def selected(
    manifest: Manifest,
    *,
    contributors: frozenset[str] = frozenset(),
    ids: frozenset[str] = frozenset(),
    positions: frozenset[int] = frozenset(),
) -> BoolArray:
    """Which samples are to be taken out, shape (n,), in the order of the manifest.

    Raises:
        DataError: A contributor, id or position that is not there; nothing or everything taken out.
    """
    for name in contributors:
        manifest.head.part(name)
    chosen = np.zeros(manifest.head.size, dtype=np.bool_)
    strangers = set(ids)
    for position, sample in enumerate(manifest.samples()):
        chosen[position] = (
            sample.contributor in contributors or sample.id in ids or position in positions
        )
        strangers.discard(sample.id)
    outside = [position for position in positions if position >= len(chosen)]
    if strangers or outside:
        first = next(iter(strangers)) if strangers else outside[0]
        raise DataError(f"the manifest of {manifest.head.name} lists no sample {first!r}")
    if chosen.all() or not chosen.any():
        count = "all" if chosen.all() else "no"
        raise DataError(f"this takes {count} samples out of {manifest.head.name}")
    return chosen


def quarantine(
    source: Source, manifest: Manifest, dropped: BoolArray, data: Path, place: Path
) -> Manifest:
    """Write a copy of files without the dropped samples, and its manifest.

    Args:
        source: The files that the manifest lists.
        manifest: Of them.
        dropped: Shape (n,), see ``selected``.
        data: Where the copy goes; of the same form as the source.
        place: Where its manifest goes.

    Raises:
        DataError: The files are not what the manifest lists, or a place is taken.
    """
    if data.exists():
        raise DataError(f"{data} exists; choose another place")
    try:
        if source.form == "folder":
            _copy_folder(source.place, data, kept(manifest, dropped))
        elif source.place.is_dir():
            rest = dropped
            with new_directory(data) as scratch:
                for path in _shards(source):
                    target = scratch / path.relative_to(source.place)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    rest = rest[_copy_file(source.form, path, target, rest) :]
        else:
            data.parent.mkdir(parents=True, exist_ok=True)
            _copy_file(source.form, source.place, data, dropped)
    except OSError as error:
        raise DataError(f"cannot write {data}: {error.strerror or error}") from error
    written = find_source(
        f"{source.form}:{data}",
        attribution=Attribution(field=source.attribution.field),
        fields=source.fields,
    )
    try:
        return list_remaining(manifest, written.samples(), place, dropped=dropped)
    except DataError:
        discard(data)  # nobody should train on what is not listed
        raise


def discard(data: Path) -> None:
    """Remove a file or folder that was written."""
    if data.is_dir():
        shutil.rmtree(data, ignore_errors=True)
    else:
        data.unlink(missing_ok=True)


def kept(manifest: Manifest, dropped: BoolArray) -> Iterator[Sample]:
    """The samples that stay, in order."""
    return (
        sample for sample, out in zip(manifest.samples(), dropped.tolist(), strict=True) if not out
    )


def list_remaining(
    manifest: Manifest,
    written: Iterable[Sample],
    place: Path,
    *,
    dropped: BoolArray,
    data_digest: str | None = None,
) -> Manifest:
    """The manifest of what remains, after comparing it with what was written.

    Args:
        manifest: The old one.
        written: What is in the new data, in its order.
        place: Where the new manifest goes.
        dropped: Shape (n,).
        data_digest: What ``gifthorse scan`` calls the new data.

    Raises:
        DataError: The new data is not what the old manifest lists.
    """
    made = write_manifest(
        _compared(kept(manifest, dropped), written, manifest.head.name),
        place,
        name=manifest.head.name,
        content=manifest.head.content,
        data_digest=data_digest,
        derived_from=manifest.head.root,
        removed=int(dropped.sum()),
    )
    copy_envelopes(manifest, made)
    return made


def _compared(listed: Iterable[Sample], written: Iterable[Sample], name: str) -> Iterator[Sample]:
    for one, other in zip_longest(listed, written):
        if one is None or other is None or (one.label, one.digest) != (other.label, other.digest):
            what = one.id if one is not None else other.id if other is not None else ""
            raise DataError(
                f"{name} is not what its manifest lists, first at sample {what!r}; see "
                "gifthorse manifest --check"
            )
        yield one


def _copy_folder(root: Path, target: Path, samples: Iterable[Sample]) -> None:
    stay = {sample.id for sample in samples}
    with new_directory(target) as scratch:
        for path, _ in folder_files(root):
            identity = path.relative_to(root)
            if identity.as_posix() in stay:
                place = scratch / identity
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, place)


def _shards(source: Source) -> list[Path]:
    return parquet_files(source.place) if source.form == "parquet" else tar_files(source.place)


def _copy_file(form: str, path: Path, target: Path, dropped: BoolArray) -> int:
    """Copy the rows that stay; how many there were in all."""
    if form == "jsonl":
        return _copy_lines(path, target, dropped)
    if form == "parquet":
        return _copy_parquet(path, target, dropped)
    return _copy_tar(path, target, dropped)


def _copy_lines(path: Path, target: Path, dropped: BoolArray) -> int:
    row = 0
    with path.open("rb") as file, target.open("xb") as out:
        for lines in line_blocks(file, longest=_LONGEST):
            for line in lines:
                if line.strip():
                    if not _is_out(dropped, row):
                        out.write(line + b"\n")
                    row += 1
    return row


def _copy_parquet(path: Path, target: Path, dropped: BoolArray) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    row = 0
    try:
        with pq.ParquetFile(path) as file, pq.ParquetWriter(target, file.schema_arrow) as out:
            for batch in file.iter_batches(batch_size=_ROWS):
                mask = [not _is_out(dropped, row + i) for i in range(batch.num_rows)]
                out.write_batch(batch.filter(pa.array(mask)))
                row += batch.num_rows
    except pa.ArrowException as error:
        raise DataError(f"cannot read {path} as Parquet ({error})") from error
    return row


def _copy_tar(path: Path, target: Path, dropped: BoolArray) -> int:
    row, last = -1, None
    mode = "gz" if path.suffix in (".gz", ".tgz") else ""
    try:
        with (
            tarfile.open(path, "r|*") as archive,
            tarfile.open(target, f"x:{mode}") as out,  # type: ignore[call-overload]
        ):
            for member in archive:
                archive.members.clear()  # type: ignore[attr-defined]
                if not member.isreg():
                    continue
                key, _ = split_name(member.name)
                if key != last:
                    row, last = row + 1, key
                if not _is_out(dropped, row):
                    out.addfile(member, archive.extractfile(member))
                    out.members.clear()
    except tarfile.TarError as error:
        raise DataError(f"cannot read {path} as a tar archive ({error})") from error
    return row + 1


def _is_out(dropped: BoolArray, row: int) -> bool:
    """Rows that the manifest does not list go too; the comparison afterwards finds fault."""
    return row >= len(dropped) or bool(dropped[row])
