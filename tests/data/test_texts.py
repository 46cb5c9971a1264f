"""Labelled texts by name or path, and bad input."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gifthorse.core.errors import DataError
from gifthorse.core.texts import TextData
from gifthorse.data.texts import MAX_LINE, digest_texts, is_text_source, load_texts, save_texts

ROWS = [{"text": "Good.", "label": "up"}, {"text": "Bad ünd ugly", "label": "down"}]


def write(path: Path, *lines: str) -> str:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(path)


def test_json_lines_with_names(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", *(json.dumps(row) for row in ROWS), "")
    data = load_texts(f"texts:{source}")
    assert data.texts == ("Good.", "Bad ünd ugly")
    assert data.class_names == ("down", "up")
    assert data.labels.tolist() == [1, 0]
    assert is_text_source(source)
    assert load_texts(source).texts == data.texts


def test_numbers_as_labels_and_other_columns(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", '{"sentence": "x y", "class": 2, "other": [1]}')
    data = load_texts(f"texts:{source}")
    assert data.class_names == ("0", "1", "2")
    assert data.labels.tolist() == [2]


def test_parquet_and_folder_with_splits(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "train.parquet")
    write(tmp_path / "test.jsonl", json.dumps(ROWS[0]))
    assert len(load_texts(f"texts:{tmp_path}", split="train")) == 2
    assert len(load_texts(f"texts:{tmp_path}", split="test")) == 1


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    data = TextData(
        name="x", texts=("a\nb", "«c»"), labels=np.array([1, 0]), class_names=("no", "yes")
    )
    save_texts(data, tmp_path / "out.jsonl")
    back = load_texts(f"texts:{tmp_path / 'out.jsonl'}")
    assert digest_texts(back) == digest_texts(data)
    other = TextData(name="x", texts=("a\nb", "c"), labels=data.labels, class_names=("no", "yes"))
    assert digest_texts(other) != digest_texts(data)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "0 texts"),
        (["{"], "no JSON"),
        (["[1]"], "holds a list"),
        (['{"label": 1}'], "expected a text"),
        (['{"text": "x"}'], "and a label"),
        (['{"text": "x", "label": true}'], "and a label"),
        (['{"text": "x", "label": null}'], "and a label"),
        (['{"text": " ", "label": 1}'], "text 0 is empty"),
        (['{"text": "x", "label": -1}'], "labels lie in"),
        (['{"text": "x", "label": 99999999}'], "labels lie in"),
        (["[" * 100_000], "no JSON"),
    ],
)
def test_bad_lines_are_errors_that_say_why(tmp_path: Path, lines: list[str], message: str) -> None:
    source = write(tmp_path / "a.jsonl", *lines)
    with pytest.raises(DataError, match=message):
        load_texts(f"texts:{source}")


def test_a_huge_line_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", '{"text": "' + "x" * (MAX_LINE + 10) + '", "label": 1}')
    with pytest.raises(DataError, match="a line of more than"):
        load_texts(f"texts:{source}")


def test_truncated_parquet(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        load_texts(f"texts:{tmp_path / 'a.parquet'}")


def test_missing_files_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="no such file"):
        load_texts(f"texts:{tmp_path / 'none.jsonl'}")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.delenv("GIFTHORSE_DATA", raising=False)
    with pytest.raises(DataError, match="make data"):
        load_texts("snippets")
