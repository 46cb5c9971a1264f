"""Safetensors, archives, texts and names: every rule, and its clean twin."""

import io
import json
import os
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest

from gifthorse.core.errors import DataError
from gifthorse.core.types import Verdict
from gifthorse.provenance.files.limits import Limits
from gifthorse.provenance.files.scan import content_digest, scan_files

from .made import (
    benign,
    flagged,
    gzipped,
    hostile,
    rules,
    safetensors,
    scan_bytes,
    tarred,
    zipped,
)

_WHOLE = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}


def _tensors(header: object, size: int = 8) -> bytes:
    return safetensors(json.dumps(header).encode(), bytes(size))


def test_a_whole_safetensors_file_is_clear(tmp_path: Path) -> None:
    header = {"__metadata__": {"format": "pt"}, **_WHOLE}
    found = scan_bytes(_tensors(header), tmp_path, "m.safetensors")
    assert (found.verdict, found.formats) == (Verdict.CLEAR, ("safetensors",))


def _changed(**values: object) -> bytes:
    return _tensors({"a": {**_WHOLE["a"], **values}})


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"\0\0\0", "safetensors-header"),
        (_tensors(_WHOLE)[:-1], "safetensors-header"),
        (_tensors(_WHOLE)[:20], "safetensors-header"),
        (struct.pack("<Q", 1 << 50) + b'{"', "safetensors-header"),
        (struct.pack("<Q", 90 << 20) + b'{"' + bytes(100), "safetensors-header"),
        (safetensors(b"{}x"), "safetensors-header"),
        (safetensors(b'{"a": 1}'), "safetensors-header"),
        (safetensors(b"{" + b'"a":{' * 100_000), "safetensors-header"),
        (_tensors({"__metadata__": {"a": 1}}, 0), "safetensors-header"),
        (_changed(dtype="O"), "safetensors-header"),
        (_changed(shape=[3]), "safetensors-header"),
        (_changed(shape=[-2]), "safetensors-header"),
        (_changed(shape=[1 << 40, 1 << 40]), "safetensors-header"),
        (_changed(data_offsets=[8, 0]), "safetensors-header"),
        (_changed(data_offsets=[True, 8]), "safetensors-header"),
        (_tensors(_WHOLE, 9), "safetensors-trailing"),
        (
            _tensors({"a": {"dtype": "U8", "shape": [2], "data_offsets": [6, 8]}}),
            "safetensors-hole",
        ),
        (_tensors(_WHOLE | {"b": _WHOLE["a"]}), "safetensors-overlap"),
        (
            safetensors(b'{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{}}'),
            "safetensors-duplicate",
        ),
        (hostile(), "disguised"),
        (zipped({"a": benign()}), "disguised"),
    ],
)
def test_safetensors_that_break_a_rule(content: bytes, rule: str, tmp_path: Path) -> None:
    found = scan_bytes(content, tmp_path, "m.safetensors")
    assert rule in rules(found), found.issues
    assert found.verdict is not Verdict.CLEAR


def _with_flag(content: bytes, flag: int) -> bytes:
    """The same zip, whose first entry claims to be encrypted."""
    at = content.index(b"PK\x01\x02") + 8
    return content[:at] + bytes([flag]) + content[at + 1 :]


def test_zips_that_other_readers_stop_at(tmp_path: Path) -> None:
    whole = zipped({"m/data.pkl": hostile()})
    renamed = whole.replace(b"m/data.pkl", b"m/data.txt", 1)
    wrong_sum = whole.replace(struct.pack("<I", zlib.crc32(hostile())), bytes(4))
    for content in (whole, _with_flag(whole, 1), renamed, wrong_sum, b"#!/bin/sh\n" + whole):
        assert scan_bytes(content, tmp_path).verdict is Verdict.FLAGGED


@pytest.mark.parametrize("cut", [1, 10, 30, 60])
def test_a_truncated_zip_is_not_clear(cut: int, tmp_path: Path) -> None:
    whole = zipped({"m/data.pkl": benign()})
    assert scan_bytes(whole, tmp_path).verdict is Verdict.CLEAR
    assert scan_bytes(whole[:-cut], tmp_path).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("name", ["../a", "/etc/a", "a/../../b", "..\\a", "C:/a"])
def test_names_that_lead_out(name: str, tmp_path: Path) -> None:
    for content in (zipped({name: b"x"}), tarred({name: b"x"})):
        assert "path-traversal" in rules(scan_bytes(content, tmp_path), Verdict.FLAGGED)


def test_names_that_stay_inside(tmp_path: Path) -> None:
    for content in (zipped({"a/b..c": b"x y"}), tarred({"a/..b": b"x y"})):
        assert scan_bytes(content, tmp_path).verdict is Verdict.CLEAR


@pytest.mark.parametrize(
    ("kind", "target", "verdict"),
    [
        (tarfile.SYMTYPE, "/etc/passwd", Verdict.FLAGGED),
        (tarfile.SYMTYPE, "../../x", Verdict.FLAGGED),
        (tarfile.SYMTYPE, "b", Verdict.INCONCLUSIVE),
        (tarfile.LNKTYPE, "../x", Verdict.FLAGGED),
        (tarfile.CHRTYPE, "", Verdict.FLAGGED),
        (tarfile.FIFOTYPE, "", Verdict.FLAGGED),
        (tarfile.DIRTYPE, "", Verdict.CLEAR),
    ],
)
def test_links_and_devices_in_a_tar(
    kind: bytes, target: str, verdict: Verdict, tmp_path: Path
) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("a")
        entry.type, entry.linkname = kind, target
        archive.addfile(entry)
    assert scan_bytes(buffer.getvalue(), tmp_path).verdict is verdict


def test_bombs_stop_early(tmp_path: Path) -> None:
    small = Limits(ratio_from=1 << 20, unpacked_bytes=16 << 20)
    zeros = bytes(4 << 20)
    for content in (gzipped(zeros), zipped({"a": zeros}, zipfile.ZIP_DEFLATED)):
        found = scan_bytes(content, tmp_path, limits=small)
        assert "archive-bomb" in rules(found, Verdict.FLAGGED)
    pickled = gzipped(b"\x80\x04\x8e" + struct.pack("<Q", 4 << 20) + zeros + b".")
    assert "archive-bomb" in rules(scan_bytes(pickled, tmp_path, limits=small), Verdict.FLAGGED)
    noise = gzipped(b"\x80\x04\x8e" + struct.pack("<Q", 4 << 20) + os.urandom(4 << 20) + b".")
    assert scan_bytes(noise, tmp_path, limits=small).verdict is Verdict.CLEAR
    tight = Limits(unpacked_bytes=1 << 20)
    assert rules(scan_bytes(noise, tmp_path, limits=tight)) == {"limit"}


def test_archives_within_archives_end_somewhere(tmp_path: Path) -> None:
    content = benign()
    for _ in range(4):
        content = gzipped(content)
    assert scan_bytes(content, tmp_path).verdict is Verdict.CLEAR
    for _ in range(4):
        content = gzipped(content)
    assert "archive-bomb" in rules(scan_bytes(content, tmp_path), Verdict.FLAGGED)


def test_members_that_share_bytes(tmp_path: Path) -> None:
    whole = zipped({"a": bytes(1000), "b": bytes(1000)})
    first, second = [i for i in range(len(whole)) if whole.startswith(b"PK\x01\x02", i)]
    shared = whole[: second + 42] + whole[first + 42 : first + 46] + whole[second + 46 :]
    assert "archive-bomb" in rules(scan_bytes(shared, tmp_path), Verdict.FLAGGED)
    assert "archive-bomb" not in rules(scan_bytes(whole, tmp_path))


@pytest.mark.parametrize(
    ("name", "content", "verdict"),
    [
        ("config.json", b'{"model_type": "vit"}', Verdict.CLEAR),
        ("config.json", b'{"auto_map": {"AutoModel": "code.Model"}}', Verdict.INCONCLUSIVE),
        ("config.json", b'{"a": [{"trust_remote_code": true}]}', Verdict.FLAGGED),
        ("config.json", b'{"trust_remote_code": false}', Verdict.CLEAR),
        ("config.json", b'{"model": {"_target_": "os.system"}}', Verdict.FLAGGED),
        ("config.json", b"{", Verdict.INCONCLUSIVE),
        ("config.json", b"[" * 200_000, Verdict.INCONCLUSIVE),
        ("config.json", b"\xff\xfe", Verdict.INCONCLUSIVE),
        ("m.index.json", b'{"weight_map": {"a": "../b"}}', Verdict.FLAGGED),
        ("m.index.json", b'{"weight_map": {"a": "b"}}', Verdict.CLEAR),
        ("t.json", b'{"chat_template": "{{ x.__class__ }}"}', Verdict.FLAGGED),
        ("t.json", b'{"chat_template": "{% for m in messages %}{{ m[\'a\'] }}{% endfor %}"}',
         Verdict.CLEAR),
        ("a.py", b"x = 1\n", Verdict.INCONCLUSIVE),
        ("a.py", b"import os\nexec(x)\n", Verdict.FLAGGED),
        ("a.py", b"(", Verdict.INCONCLUSIVE),
        ("a.pth", b"import os; os.getcwd()\n", Verdict.FLAGGED),
        ("a.txt", b"import os\n", Verdict.CLEAR),
        ("run", b"#!/bin/sh\necho\n", Verdict.INCONCLUSIVE),
        ("lib.so", b"\x7fELF" + bytes(60), Verdict.FLAGGED),
        ("a.txt", b"\x7fELF" + bytes(60), Verdict.FLAGGED),
        ("a.7z", b"7z\xbc\xaf\x27\x1c" + bytes(60), Verdict.INCONCLUSIVE),
        ("a.bin", bytes(range(1, 17)) + b"\xff\x00\xfe", Verdict.INCONCLUSIVE),
        ("README.md", "# Ein Modell für alle\n".encode(), Verdict.CLEAR),
        ("vocab.txt", b"cat\ndog\n", Verdict.CLEAR),
        ("a.png", b"\x89PNG\r\n\x1a\n" + bytes(20), Verdict.CLEAR),
        ("a.json", hostile(0), Verdict.FLAGGED),
        ("a.png", hostile(), Verdict.FLAGGED),
    ],
)  # fmt: skip
def test_other_files(name: str, content: bytes, verdict: Verdict, tmp_path: Path) -> None:
    found = scan_bytes(content, tmp_path, name)
    assert found.verdict is verdict, found


def test_a_folder(tmp_path: Path) -> None:
    (tmp_path / "inner" / ".git").mkdir(parents=True)
    (tmp_path / "inner" / "a.pkl").write_bytes(hostile())
    (tmp_path / "inner" / ".git" / "b.pkl").write_bytes(hostile())
    (tmp_path / "c.pkl").write_bytes(benign())
    record = scan_files(tmp_path)
    assert (record.verdict, record.examined) == (Verdict.FLAGGED, 2)
    assert flagged(record) == {"inner/a.pkl"}
    assert record.files[0].path == "inner/a.pkl"
    assert ".git" in record.notes[0]


def test_links_and_pipes_in_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "outside.txt").write_text("text")
    (folder / "a.txt").write_text("text")
    (folder / "inside").symlink_to(folder / "a.txt")
    assert scan_files(folder).verdict is Verdict.CLEAR
    (folder / "outside").symlink_to(tmp_path / "outside.txt")
    (folder / "nowhere").symlink_to("nowhere")
    (folder / "up").symlink_to(tmp_path, target_is_directory=True)
    os.mkfifo(folder / "pipe")
    record = scan_files(folder)
    open_ = {file.path for file in record.files if file.verdict is Verdict.INCONCLUSIVE}
    assert open_ == {"outside", "nowhere", "up", "pipe"}


def test_the_layout_of_a_hub_cache(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "0123"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    (blobs / "77").write_bytes(hostile())
    (snapshot / "pytorch_model.bin").symlink_to("../../blobs/77")
    assert flagged(scan_files(snapshot)) == {"pytorch_model.bin"}


def test_bad_paths(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such"):
        scan_files(tmp_path / "missing")
    with pytest.raises(DataError, match="holds no file"):
        scan_files(tmp_path)
    (tmp_path / "a").write_text("a b")
    (tmp_path / "b").write_text("a b")
    with pytest.raises(DataError, match="more than 1 "):
        scan_files(tmp_path, limits=Limits(files=1))
    with pytest.raises(DataError, match="above 0"):
        Limits(seconds=0)


def test_the_digest_is_of_names_and_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").write_text("2")
    first = content_digest(tmp_path)
    assert first == content_digest(tmp_path)
    (tmp_path / "b").rename(tmp_path / "c")
    assert content_digest(tmp_path) != first
    single = content_digest(tmp_path / "a")
    assert single == "sha256:6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"
