"""Files crafted against this scanner: read differently by a loader than by a naive walk."""

import io
import os
import pickle
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from gifthorse.core.types import Verdict

from .made import Calls, benign, gzipped, hostile, object_array, scan_bytes, tarred, zipped


def _joblib(state: dict[str, object], array: bytes, rest: bytes = b".") -> bytes:
    """A file of joblib written by hand: a wrapper, array bytes, more operations."""
    built = b"cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81"
    return b"\x80\x02" + built + pickle.dumps(state, 2)[2:-1] + b"b" + array + rest


_STATE = {"shape": (16,), "dtype": np.dtype("u1"), "order": "C", "subclass": np.ndarray}
_HIDDEN = b"cos\ngetcwd\n)R."


@pytest.mark.parametrize(
    ("content", "verdict"),
    [
        (_joblib(_STATE, bytes(16)), Verdict.CLEAR),
        # Opened as a plain pickle, the numbers are operations.
        (_joblib(_STATE, _HIDDEN.ljust(16, b"\0")), Verdict.FLAGGED),
        # What follows the array is reached.
        (_joblib(_STATE, bytes(16), b"0" + _HIDDEN), Verdict.FLAGGED),
        # States that make joblib read another number of bytes than they say.
        (_joblib(_STATE | {"read": dict}, bytes(16)), Verdict.INCONCLUSIVE),
        (_joblib(_STATE | {"dtype": np.dtype(("u1", (4,)))}, bytes(64)), Verdict.INCONCLUSIVE),
        (_joblib(_STATE | {"dtype": np.dtype([("a", "u1")])}, bytes(16)), Verdict.INCONCLUSIVE),
        (_joblib(_STATE | {"shape": (17,)}, bytes(16), b""), Verdict.INCONCLUSIVE),
        (_joblib(_STATE | {"shape": (-1,)}, bytes(16)), Verdict.INCONCLUSIVE),
        (_joblib({f"k{i}": i for i in range(70)} | _STATE, bytes(16)), Verdict.INCONCLUSIVE),
    ],
)
def test_crafted_files_of_joblib(content: bytes, verdict: Verdict, tmp_path: Path) -> None:
    found = scan_bytes(content, tmp_path, "m.joblib")
    assert found.verdict is verdict, found.issues


def test_a_type_called_object(tmp_path: Path) -> None:
    raw = object_array(Calls(os.getcwd))
    for descr in (b"'object'", b"'O'     ", b"'f8,O'  "):
        length = raw.index(b"\n") - 10
        header = raw[10 : 10 + length].replace(b"'|O'", descr.strip()).strip().ljust(length)
        content = raw[:10] + header + raw[10 + length :]
        assert scan_bytes(content, tmp_path, "a.npy").verdict is Verdict.FLAGGED, header
    structured = [("a", "f4"), ("b", "i8", (2,))]
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3, dtype=structured))
    assert scan_bytes(buffer.getvalue(), tmp_path, "a.npy").verdict is Verdict.CLEAR


def test_a_loader_that_reads_tensors_as_files(tmp_path: Path) -> None:
    inner = {"m/data.pkl": benign(), "m/data/0": bytes(64)}
    assert scan_bytes(zipped(inner), tmp_path, "m.pt").verdict is Verdict.CLEAR
    for content in (hostile(4), object_array(Calls(os.getcwd)), zipped({"a.pkl": hostile()})):
        found = scan_bytes(zipped(inner | {"m/data/0": content}), tmp_path, "m.npz")
        assert found.verdict is Verdict.FLAGGED


@pytest.mark.parametrize(
    "content",
    [
        zipped({"a.pkl": hostile()}) + zipped({"a.pkl": benign()}),
        # A member that the directory does not list.
        zipped({"evil.pkl": hostile()}).partition(b"PK\x01\x02")[0] + zipped({"a.pkl": benign()}),
        tarred({"a.pkl": benign()}) + tarred({"b.pkl": hostile()}),
        benign() + b"\n" * 70_000 + hostile(),
        gzipped(benign()) + b"garbage",
    ],
)
def test_what_lies_beside_an_archive_is_not_clear(content: bytes, tmp_path: Path) -> None:
    assert scan_bytes(content, tmp_path, "m.bin").verdict is not Verdict.CLEAR


def test_text_under_the_name_of_a_pickle(tmp_path: Path) -> None:
    for name, content, verdict in (
        ("m.bin", b"cos\ngetcwd\n", Verdict.FLAGGED),
        ("m.txt", b"cos\ngetcwd\n(tR.", Verdict.FLAGGED),
        ("vocab.txt", b"cat\ndog\nI\nyou\n.", Verdict.CLEAR),
        ("a.pth", b"# path\n/usr\nimport os\n", Verdict.FLAGGED),
    ):
        assert scan_bytes(content, tmp_path, name).verdict is verdict, name


def test_old_files_of_numpy_and_joblib(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(2))
    old = buffer.getvalue().replace(b"(2,), }", b"(2L,),}")
    assert scan_bytes(old, tmp_path, "a.npy").verdict is Verdict.CLEAR
    for content, verdict in ((benign(), Verdict.CLEAR), (hostile(), Verdict.FLAGGED)):
        digits = hex(len(content)).ljust(19).encode()
        found = scan_bytes(b"ZF" + digits + zlib.compress(content), tmp_path, "a.pkl")
        assert found.verdict is verdict


@pytest.mark.parametrize(
    ("name", "target", "verdict"),
    [
        ("a/b", "../c", Verdict.INCONCLUSIVE),
        ("a/b", "../../c", Verdict.FLAGGED),
        ("a/b", "d/../../../c", Verdict.FLAGGED),
        ("a/b", "/c", Verdict.FLAGGED),
    ],
)
def test_links_start_where_they_lie(
    name: str, target: str, verdict: Verdict, tmp_path: Path
) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = tarfile.SYMTYPE, target
        archive.addfile(entry)
    assert scan_bytes(buffer.getvalue(), tmp_path, "a.tar").verdict is verdict
