"""Rows and archives: the same samples from each, quarantined, and hostile ones refused."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gifthorse.core.errors import DataError, GifthorseError
from gifthorse.provenance.comparing import differences
from gifthorse.provenance.manifest import Manifest, write_manifest
from gifthorse.provenance.quarantine import quarantine, selected
from gifthorse.provenance.reading.attribution import Attribution
from gifthorse.provenance.reading.fields import Fields
from gifthorse.provenance.reading.sources import Source, find_source
from gifthorse.provenance.samples import content_digest

from .examples import folder

CONTENT = [(f"text {i}", ("go", "stop")[i % 2], ("alice", "bob", "eve")[i % 3]) for i in range(12)]
WHO = Attribution(field="who")


def as_jsonl(root: Path) -> Path:
    path = root / "data.jsonl"
    rows = [{"text": text, "label": label, "who": who} for text, label, who in CONTENT]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    return path


def as_parquet(root: Path) -> Path:
    path = root / "data.parquet"
    text, label, who = zip(*CONTENT, strict=True)
    pq.write_table(pa.table({"text": text, "label": label, "who": who}), path, row_group_size=5)
    return path


def as_parquet_folder(root: Path) -> Path:
    place = root / "shards"
    place.mkdir()
    for shard in range(2):
        text, label, who = zip(*CONTENT[shard::2], strict=True)
        pq.write_table(
            pa.table({"text": text, "label": label, "who": who}), place / f"{shard}.parquet"
        )
    return place


def as_tar(root: Path) -> Path:
    path = root / "data.tar"
    with tarfile.open(path, "w") as archive:
        for i, (text, label, who) in enumerate(CONTENT):
            for ending, content in (
                ("cls", label),
                ("json", json.dumps({"who": who})),
                ("txt", text),
            ):
                info = tarfile.TarInfo(f"./part/{i:04}.{ending}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content.encode()))
    return path


def as_zipped_tar(root: Path) -> Path:
    path = root / "data.tar.gz"
    path.write_bytes(gzip.compress(as_tar(root).read_bytes()))
    return path


FORMS = (as_jsonl, as_parquet, as_parquet_folder, as_tar, as_zipped_tar)
Form = Callable[[Path], Path]


def listed(source: Source, place: Path) -> Manifest:
    return write_manifest(source.samples(), place, name=source.name, content="bytes")


@pytest.mark.parametrize("form", FORMS)
def test_labels_and_contributors_are_found(tmp_path: Path, form: Form) -> None:
    found = list(find_source(str(form(tmp_path)), attribution=WHO).samples())
    assert sorted((s.label, s.contributor) for s in found) == sorted(
        (label, who) for _, label, who in CONTENT
    )
    assert len({s.digest for s in found}) == len({s.id for s in found}) == 12


def test_digests_by_hand(tmp_path: Path) -> None:
    row = next(find_source(str(as_parquet(tmp_path)), attribution=WHO).samples())
    assert row.digest == hashlib.sha256(b"text 0").digest()
    line = next(find_source(str(as_jsonl(tmp_path))).samples())
    assert (
        line.digest
        == hashlib.sha256((tmp_path / "data.jsonl").read_bytes().split(b"\n")[0]).digest()
    )
    member = next(find_source(str(as_tar(tmp_path))).samples())
    parts = [("json", b'{"who": "alice"}'), ("txt", b"text 0")]
    assert member.digest == content_digest(
        [(name, hashlib.sha256(content).digest()) for name, content in parts]
    )
    assert member.id == "./part/0000"


def test_pictures_have_one_digest_in_all_formats(tmp_path: Path) -> None:
    picture = b"\x89PNG not really"
    (tmp_path / "d" / "cat").mkdir(parents=True)
    (tmp_path / "d" / "cat" / "1.png").write_bytes(picture)
    feature = {"info": {"features": {"label": {"names": ["cat"], "_type": "ClassLabel"}}}}
    table = pa.table({"image": [{"bytes": picture, "path": "x.png"}], "label": [0]})
    pq.write_table(
        table.replace_schema_metadata({b"huggingface": json.dumps(feature).encode()}),
        tmp_path / "d.parquet",
    )
    with tarfile.open(tmp_path / "d.tar", "w") as archive:
        for name, content in (("1.cls", b"cat"), ("1.png", picture)):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    found = {
        (sample.label, sample.digest)
        for name in ("d", "d.parquet", "d.tar")
        for sample in find_source(str(tmp_path / name)).samples()
    }
    assert found == {("cat", hashlib.sha256(picture).digest())}


@pytest.mark.parametrize("form", FORMS)
def test_quarantine_takes_out_one_contributor(tmp_path: Path, form: Form) -> None:
    source = find_source(str(form(tmp_path)), attribution=WHO)
    old = listed(source, tmp_path / "m")
    dropped = selected(old, contributors=frozenset({"eve"}))
    clean = tmp_path / "out" / source.place.name
    new = quarantine(source, old, dropped, clean, tmp_path / "n")
    assert (new.head.size, new.head.removed, new.head.derived_from) == (8, 4, old.head.root)
    assert new.head.part("alice")[1] == old.head.part("alice")[1]
    again = list(find_source(str(clean), attribution=WHO).samples())
    assert {sample.contributor for sample in again} == {"alice", "bob"}
    assert differences(new, again, in_order=True).total == 0
    assert differences(old, source.samples(), in_order=True).total == 0


def test_quarantine_of_a_folder_by_sample(tmp_path: Path) -> None:
    source = find_source(str(folder(tmp_path / "d")), attribution=Attribution(part=0))
    old = listed(source, tmp_path / "m")
    dropped = selected(old, ids=frozenset({"bob/go/1.png"}), positions=frozenset({0}))
    quarantine(source, old, dropped, tmp_path / "clean", tmp_path / "n")
    left = {
        p.relative_to(tmp_path / "clean").as_posix() for p in (tmp_path / "clean").rglob("*.png")
    }
    assert len(left) == 10
    assert not left & {"bob/go/1.png", "alice/go/0.png"}


def test_quarantine_refuses_changed_data(tmp_path: Path) -> None:
    source = find_source(str(as_jsonl(tmp_path)), attribution=WHO)
    old = listed(source, tmp_path / "m")
    dropped = selected(old, contributors=frozenset({"eve"}))
    source.place.write_text(source.place.read_text().replace("text 3", "text X"))
    with pytest.raises(DataError, match="not what its manifest lists, first at sample '0000003'"):
        quarantine(source, old, dropped, tmp_path / "clean.jsonl", tmp_path / "n")
    assert not (tmp_path / "clean.jsonl").exists()
    assert not (tmp_path / "n").exists()


def test_a_senseless_selection_is_refused(tmp_path: Path) -> None:
    old = listed(find_source(str(as_jsonl(tmp_path)), attribution=WHO), tmp_path / "m")
    for choice, says in (
        (selected_by(contributors={"mallory"}), "no contributor 'mallory'"),
        (selected_by(ids={"x"}), "lists no sample 'x'"),
        (selected_by(positions={12}), "lists no sample 12"),
        (selected_by(), "takes no samples"),
        (selected_by(contributors={"alice", "bob", "eve"}), "takes all samples"),
    ):
        with pytest.raises(DataError, match=says):
            choice(old)


def selected_by(
    contributors: set[str] | None = None,
    ids: set[str] | None = None,
    positions: set[int] | None = None,
) -> Callable[[Manifest], object]:
    return lambda manifest: selected(
        manifest,
        contributors=frozenset(contributors or ()),
        ids=frozenset(ids or ()),
        positions=frozenset(positions or ()),
    )


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", b'{"a": 1}\n[1]\n'),
        ("a.jsonl", b'{"a": 1},{"b": 2}\n'),
        ("a.jsonl", b"\xff\xfe"),
        ("a.jsonl", b"[" * 100_000),
        ("a.parquet", b""),
        ("a.parquet", b"PAR1 no more"),
        ("a.tar", b"not a tar archive" * 100),
        ("a.tar.gz", b"\x1f\x8b\x08\x00broken"),
    ],
)
def test_broken_files_are_errors(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError):
        list(find_source(str(tmp_path / name)).samples())


def test_a_tar_archive_with_a_link_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        info = tarfile.TarInfo("1.png")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(DataError, match="neither a file nor a folder"):
        list(find_source(str(tmp_path / "a.tar")).samples())


def test_missing_fields_are_named(tmp_path: Path) -> None:
    path = str(as_jsonl(tmp_path))
    with pytest.raises(DataError, match=r"line 1: expected text or a number in 'owner'"):
        list(find_source(path, attribution=Attribution(field="owner")).samples())
    with pytest.raises(DataError, match="'class'"):
        list(find_source(path, fields=Fields(label="class")).samples())
    with pytest.raises(DataError, match="a folder has no fields"):
        list(find_source(str(folder(tmp_path / "d")), attribution=WHO).samples())


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_mutated_file_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    form = data.draw(st.sampled_from([as_jsonl, as_tar, as_zipped_tar]))
    original = form(tmp_path).read_bytes()
    start = data.draw(st.integers(0, len(original)))
    end = data.draw(st.integers(start, min(len(original), start + 600)))
    place = form(tmp_path)
    place.write_bytes(original[:start] + data.draw(st.binary(max_size=600)) + original[end:])
    try:
        for sample in find_source(str(place), attribution=WHO).samples():
            assert len(sample.digest) == 32
    except GifthorseError:
        pass
