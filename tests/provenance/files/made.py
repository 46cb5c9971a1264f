"""Files made for the tests: every payload is harmless (``os.getcwd``), and none is ever loaded."""

import gzip
import io
import os
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from gifthorse.core.record import FileRecord, FilesRecord
from gifthorse.core.types import Verdict
from gifthorse.provenance.files.limits import Limits
from gifthorse.provenance.files.scan import scan_files


class Calls:
    """Pickles as a call of anything."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.function, self.arguments


def hostile(protocol: int = 4) -> bytes:
    """A pickle that calls ``os.getcwd`` when it is loaded."""
    return pickle.dumps(Calls(os.getcwd), protocol=protocol)


def benign(protocol: int = 4) -> bytes:
    return pickle.dumps({"weights": [0.1, 0.2], "name": "model", "step": 3}, protocol=protocol)


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(members: dict[str, bytes], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def object_array(content: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([content], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def gzipped(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def safetensors(header: bytes, tensors: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + tensors


def scan_bytes(
    content: bytes, folder: Path, name: str = "model.bin", limits: Limits | None = None
) -> FileRecord:
    path = folder / name
    path.write_bytes(content)
    (found,) = scan_files(path, limits=limits).files
    return found


def rules(found: FileRecord, verdict: Verdict | None = None) -> set[str]:
    return {issue.rule for issue in found.issues if verdict in (None, issue.verdict)}


def flagged(record: FilesRecord) -> set[str]:
    return {file.path for file in record.files if file.verdict is Verdict.FLAGGED}
