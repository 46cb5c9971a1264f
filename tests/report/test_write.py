"""Files appear whole, in the right format, or not at all."""

import json
from pathlib import Path

import pytest

from gifthorse.core.errors import RecordError
from gifthorse.core.record import read_record
from gifthorse.report.write import write_report

from . import examples


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("a.html", "<!DOCTYPE html>"),
        ("A.HTML", "<!DOCTYPE html>"),
        ("a.md", "## "),
        ("a.sarif", '{\n  "$schema"'),
        ("a.sarif.json", '{\n  "$schema"'),
        ("a.json", '{\n  "schema_version"'),
    ],
)
def test_suffix_chooses_the_format(tmp_path: Path, name: str, start: str) -> None:
    write_report(examples.audit_flagged(), tmp_path / name)
    assert (tmp_path / name).read_text(encoding="utf-8").startswith(start)
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_json_is_the_record(tmp_path: Path) -> None:
    path = tmp_path / "story.json"
    write_report(examples.story(), path)
    assert json.loads(path.read_text(encoding="utf-8"))["kind"] == "story"
    assert read_record(path) == examples.story()


@pytest.mark.parametrize("name", ["a.pdf", "a", ".htm", "html"])
def test_unknown_suffix_lists_the_known(tmp_path: Path, name: str) -> None:
    with pytest.raises(RecordError, match=r"\.html, \.md, \.sarif, \.sarif\.json, \.json"):
        write_report(examples.audit_clear(), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_missing_folder_is_an_error_in_words(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="cannot write the report"):
        write_report(examples.audit_clear(), tmp_path / "missing" / "a.html")


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.html"
    path.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(28, f"No space left for {descriptor}")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(RecordError, match="No space left"):
        write_report(examples.audit_clear(), path)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.html"]


def test_an_old_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    path.write_text("old")
    write_report(examples.repair(), path)
    assert "Accepted" in path.read_text(encoding="utf-8")
