"""Samples that are rows: JSON Lines and Parquet, streamed."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gifthorse.core.errors import DataError
from gifthorse.provenance.lines import line_blocks
from gifthorse.provenance.reading.fields import Fields
from gifthorse.provenance.samples import Sample, content_digest

_LONGEST = 64 * 2**20
_ROWS = 2048


def json_samples(path: Path, fields: Fields) -> Iterator[Sample]:
    """One sample a line; its content is the line, byte for byte, without the line end.

    Blank lines are passed over. The id is the number of the line from 0 unless a field holds it.

    Raises:
        DataError: Unreadable, or a line that is no JSON object.
    """
    number = 0
    try:
        with path.open("rb") as file:
            for lines in line_blocks(file, longest=_LONGEST):
                kept = [(i, line.strip()) for i, line in enumerate(lines, number)]
                kept = [(i, line) for i, line in kept if line]
                rows = _objects(kept, path)
                for (i, line), row in zip(kept, rows, strict=True):
                    one = fields.of(row, f"{i:07}", f"{path}, line {i + 1}")
                    yield Sample(*one, hashlib.sha256(line).digest())
                number += len(lines)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise DataError(f"{path}, after line {number}: {error}") from error


def _objects(lines: Sequence[tuple[int, bytes]], path: Path) -> list[dict[str, Any]]:
    rows = _parsed(b"[" + b",".join(line for _, line in lines) + b"]")
    if rows is not None and len(rows) == len(lines) and all(type(row) is dict for row in rows):
        return rows
    for number, line in lines:
        alone = _parsed(b"[" + line + b"]")
        if alone is None or len(alone) != 1 or type(alone[0]) is not dict:
            raise DataError(
                f"{path}, line {number + 1}: expected one JSON object, got {line[:80]!r}"
            )
    raise DataError(f"{path}: lines that are JSON objects alone but not together")


def _parsed(array: bytes) -> list[Any] | None:
    try:
        found = json.loads(array)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list) else None


def parquet_files(place: Path) -> list[Path]:
    """A Parquet file, or all of a folder in order.

    Raises:
        DataError: There is none.
    """
    files = sorted(place.rglob("*.parquet")) if place.is_dir() else [place]
    if not files or not files[0].is_file():
        raise DataError(f"{place}: there is no Parquet file")
    return files


def parquet_samples(place: Path, fields: Fields) -> Iterator[Sample]:
    """One sample a row; its content is what the other columns hold.

    A picture column (``{"bytes": …, "path": …}``) counts with its bytes. One column is digested as
    it is, several by their names and digests. Labels that are class numbers of a ``datasets``
    feature become names. The id is the number of the row, behind the file's name in a folder.

    Raises:
        DataError: Not Parquet, or no such columns.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    for path in parquet_files(place):
        prefix = f"{path.relative_to(place).as_posix()}/" if place.is_dir() else ""
        number = 0
        try:
            with pq.ParquetFile(path) as file:
                names = class_names(file.schema_arrow.metadata, fields.label or "label")
                for batch in file.iter_batches(batch_size=_ROWS):
                    for row in batch.to_pylist():
                        where = f"{path}, row {number}"
                        identity, who, label = fields.of(row, f"{prefix}{number:07}", where)
                        if names and label.isdigit() and int(label) < len(names):
                            label = names[int(label)]
                        yield Sample(identity, who, label, row_digest(row, fields))
                        number += 1
        except (OSError, pa.ArrowException, ValueError) as error:
            raise DataError(f"cannot read {path} as Parquet ({error})") from error


def row_digest(row: Mapping[str, Any], fields: Fields) -> bytes:
    """The digest of what a row holds beside its id, label and contributor."""
    used = fields.used
    return content_digest(
        [
            (name, hashlib.sha256(_content(value)).digest())
            for name, value in row.items()
            if name not in used
        ]
    )


def class_names(metadata: Mapping[bytes, bytes] | None, column: str) -> tuple[str, ...]:
    """The names of the classes that ``datasets`` keeps in a Parquet file; none if it does not."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        names = features[column]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return ()
    return tuple(map(str, names)) if isinstance(names, list) else ()


def _content(value: Any) -> bytes:
    if isinstance(value, dict) and set(value) <= {"bytes", "path"} and value.get("bytes"):
        value = value["bytes"]  # a picture; its path says where it once lay
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    plain = json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain)
    return b"json:" + plain.encode()


def _plain(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
