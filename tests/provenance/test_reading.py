"""Readers of training data, and who is named as the contributor."""

import hashlib
from pathlib import Path

import pytest

from gifthorse.core.errors import DataError
from gifthorse.data.tables import load_folder
from gifthorse.provenance.comparing import differences
from gifthorse.provenance.manifest import write_manifest
from gifthorse.provenance.reading.attribution import Attribution
from gifthorse.provenance.reading.folder import folder_samples
from gifthorse.provenance.reading.sources import find_source

from .examples import folder


def test_a_folder_in_order(tmp_path: Path) -> None:
    root = folder(tmp_path / "d")
    (root / "alice" / ".hidden").write_bytes(b"x")
    found = list(folder_samples(root))
    assert [s.id for s in found][:4] == [
        "alice/go/0.png",
        "alice/go/1.png",
        "alice/go/2.png",
        "alice/stop/0.png",
    ]
    assert len(found) == 12
    assert {s.label for s in found} == {"alice", "bob"}
    assert found[0].digest == hashlib.sha256(b"alice go 0").digest()


def test_the_order_is_that_in_which_pictures_are_loaded(tmp_path: Path) -> None:
    from PIL import Image

    for name in ("b/z.png", "b/a.png", "a/sub/1.png", "a/sub-2/1.png", "a/sub.png", "B/1.PNG"):
        path = tmp_path / "d" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(path)
    loaded = load_folder(tmp_path / "d", "train", name="d", size=None)
    paths = [Path(row["image"]["path"]) for row in loaded.dataset]
    ids = [path.relative_to(tmp_path / "d").as_posix() for path in paths]
    found = list(folder_samples(tmp_path / "d"))
    assert [sample.id for sample in found] == ids
    names = [loaded.class_names[label] for label in loaded.labels]
    assert [sample.label for sample in found] == names


def test_contributors_by_name_part_and_table(tmp_path: Path) -> None:
    root = folder(tmp_path / "d")

    def people(attribution: Attribution) -> list[str]:
        found = find_source(str(root), attribution=attribution).samples()
        return [sample.contributor for sample in found]

    assert set(people(Attribution())) == {""}
    assert set(people(Attribution(name="dora"))) == {"dora"}
    assert people(Attribution(part=0)) == ["alice"] * 6 + ["bob"] * 6
    table = tmp_path / "who.csv"
    table.write_text("alice/go/1.png,eve\nalice/*,alice\n*,web\n")
    assert people(Attribution(table=table)) == ["alice", "eve"] + ["alice"] * 4 + ["web"] * 6


def test_a_contributor_that_cannot_be_named_is_an_error(tmp_path: Path) -> None:
    root = folder(tmp_path / "d")
    table = tmp_path / "who.csv"
    table.write_text("alice/*,alice\n")
    for attribution, says in (
        (Attribution(part=2), "none of number 2"),
        (Attribution(table=table), "names no contributor of 'bob/go/0.png'"),
        (Attribution(table=tmp_path / "missing.csv"), "cannot read"),
    ):
        with pytest.raises(DataError, match=says):
            list(find_source(f"folder:{root}", attribution=attribution).samples())
    table.write_text("a,b,c\n")
    with pytest.raises(DataError, match="row 1"):
        list(find_source(str(root), attribution=Attribution(table=table)).samples())
    with pytest.raises(DataError, match="in one way"):
        Attribution(name="x", part=0)
    with pytest.raises(DataError, match="is not a file or folder"):
        find_source(str(tmp_path / "missing"), attribution=Attribution())


def test_differences_are_named(tmp_path: Path) -> None:
    root = folder(tmp_path / "d")
    made = write_manifest(folder_samples(root), tmp_path / "m", name="d", content="bytes")
    assert differences(made, folder_samples(root)).total == 0
    (root / "alice" / "go" / "0.png").write_bytes(b"poison")
    (root / "bob" / "go" / "0.png").rename(root / "bob" / "go" / "9.png")
    found = differences(made, folder_samples(root))
    assert found.changed == ["alice/go/0.png"]
    assert found.added == ["bob/go/9.png"]
    assert found.missing == ["bob/go/0.png"]
    assert found.total == 3
