"""Labelled texts by name or path: JSON Lines, Parquet, and `snippets`."""

import hashlib
import json
import os
import struct
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from gifthorse.core.errors import DataError
from gifthorse.core.texts import TextData

TEXT_COLUMNS = ("text", "sentence", "content", "review")
LABEL_COLUMNS = ("label", "labels", "class", "category")
FORMS = ("snippets", "texts:FILE.jsonl", "texts:FILE.parquet", "texts:DIR")
"""What ``load_texts`` understands; a folder holds ``train.jsonl`` and ``test.jsonl``."""

MAX_LINE = 1_000_000
"""Bytes: a longer line is no text sample, and is refused before it is parsed."""

MAX_CLASSES = 1000


def is_text_source(source: str) -> bool:
    """Whether a user's name or path means labelled texts rather than pictures."""
    if source == "snippets" or source.startswith("texts:"):
        return True
    return source.endswith(".jsonl") and Path(source).is_file()


def load_texts(source: str, *, split: Literal["train", "test"] = "train") -> TextData:
    """Labelled texts.

    Args:
        source: ``snippets`` (which of four kinds of writing a sentence is; `make data` fetches it),
            ``texts:FILE`` with one JSON object a line or Parquet, ``texts:DIR`` with one such file
            a split. Columns are called text (sentence, content, review) and label (class,
            category); labels are names or numbers.
        split: Which part, where there are two.

    Raises:
        DataError: Unknown form, missing or broken files, no texts, or one class only.
    """
    rest = source.removeprefix("texts:")
    path = _snippets() if source == "snippets" else Path(rest)
    if not rest or "\0" in rest:
        raise DataError(f"{source!r}: expected one of {', '.join(FORMS)}")
    if path.is_dir():
        found = [path / f"{split}{end}" for end in (".jsonl", ".parquet")]
        path = next((p for p in found if p.is_file()), found[0])
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; expected one of {', '.join(FORMS)}")
    rows = _parquet(path) if path.suffix == ".parquet" else _lines(path)
    return _collected(source, rows)


def digest_texts(data: TextData) -> str:
    """``sha256:…`` over class names, labels and texts, in order; the name is left out."""
    total = hashlib.sha256(b"gifthorse text data 1\0")
    for text in (*data.class_names, *data.texts):
        encoded = text.encode("utf-8", errors="surrogatepass")
        total.update(struct.pack("<q", len(encoded)) + encoded)
    total.update(np.ascontiguousarray(data.labels, dtype="<i8").data)
    return f"sha256:{total.hexdigest()}"


def save_texts(data: TextData, path: Path) -> None:
    """Write JSON Lines that ``load_texts`` reads back."""
    lines = (
        json.dumps({"text": text, "label": data.class_names[int(label)]}, ensure_ascii=False)
        for text, label in zip(data.texts, data.labels, strict=True)
    )
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _lines(path: Path) -> Iterator[tuple[Any, Any]]:
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE + 1):
            number += 1
            if len(line) > MAX_LINE:
                raise DataError(
                    f"{path}:{number}: a line of more than {MAX_LINE:,} bytes; expected one JSON "
                    "object with a text and a label"
                )
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{path}:{number} is no JSON: {error}") from error
            if not isinstance(row, dict):
                raise DataError(f"{path}:{number} holds a {type(row).__name__}; expected an object")
            yield _cells(row, f"{path}:{number}")


def _cells(row: dict[str, Any], where: str) -> tuple[Any, Any]:
    text = next((row[key] for key in TEXT_COLUMNS if key in row), None)
    label = next((row[key] for key in LABEL_COLUMNS if key in row), None)
    if not isinstance(text, str) or not isinstance(label, str | int) or isinstance(label, bool):
        raise DataError(
            f"{where}: expected a text ({', '.join(TEXT_COLUMNS)}) and a label "
            f"({', '.join(LABEL_COLUMNS)}; a name or a number), got keys {sorted(row)[:8]}"
        )
    return text, label


def _parquet(path: Path) -> Iterator[tuple[Any, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        for batch in pq.ParquetFile(path).iter_batches(batch_size=4096):
            for row in batch.to_pylist():
                yield _cells(row, str(path))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}") from error


def _collected(source: str, rows: Iterator[tuple[str, str | int]]) -> TextData:
    texts, labels = [], []
    for text, label in rows:
        texts.append(text)
        labels.append(label)
    if not texts:
        raise DataError(f"{source}: got 0 texts; a data set needs at least one")
    names, numbers = _numbered(source, labels)
    return TextData(
        name=source, texts=tuple(texts), labels=np.array(numbers, dtype=np.int64), class_names=names
    )


def _numbered(source: str, labels: Sequence[str | int]) -> tuple[tuple[str, ...], list[int]]:
    """Class names in order, and every sample's place among them."""
    if all(isinstance(label, int) for label in labels):
        numbers = [int(label) for label in labels]
        if min(numbers) < 0 or max(numbers) >= MAX_CLASSES:
            raise DataError(
                f"{source}: labels lie in {min(numbers)} … {max(numbers)}; expected 0 … "
                f"{MAX_CLASSES - 1}"
            )
        return tuple(str(i) for i in range(max(numbers) + 1)), numbers
    names = sorted({str(label) for label in labels})
    if len(names) > MAX_CLASSES:
        raise DataError(f"{source}: {len(names)} different labels; expected at most {MAX_CLASSES}")
    place = {name: i for i, name in enumerate(names)}
    return tuple(names), [place[str(label)] for label in labels]


def _snippets() -> Path:
    roots = [os.environ.get("GIFTHORSE_DATA"), *_shares()]
    for root in roots:
        if root and (Path(root) / "snippets" / "train.jsonl").is_file():
            return Path(root) / "snippets"
    raise DataError(
        "snippets is not installed; run `make data`, or set GIFTHORSE_DATA to a folder that holds "
        "snippets/train.jsonl and snippets/test.jsonl"
    )


def _shares() -> list[str]:
    home = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return [str(Path(share) / "datasets") for share in (home, f"{sys.prefix}/share", "/usr/share")]
