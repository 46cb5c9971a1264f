"""The ledger: one JSON record a trial, written atomically and never edited.

Layout::

    ledger.json               what this directory is
    studies/DIGEST.json       every study that was run here
    trials/ID.json            results, by the digest of the trial's specification
    failures/ID.K.json        failed attempts; a later success stands in trials/
    arrays/DIGEST.safetensors scores and triggers, by the digest of their content
    models/DIGEST/            planted models, shared by the trials that judge them
    claims/ID                 locks of trials in flight
    aside/                    files found here that are no records

A record is written to a temporary file, flushed to the disk, and then *linked* to its name: it is
there whole or not at all, and a second writer cannot replace it. A claim is a file lock, which the
kernel drops with the process that held it, however that process died.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gifthorse.bench.study import Study
from gifthorse.bench.trial_record import TrialRecord, parse_trial
from gifthorse.core.errors import LedgerError, RecordError

Arrays = Mapping[str, NDArray[Any]]
_FORMAT = {"format": "gifthorse ledger", "schema_version": 1}
_OLD = 3600
"""Seconds after which the temporary file of a killed writer is certainly nobody's."""
_PARTS = ("studies", "trials", "failures", "arrays", "models", "claims", "aside")


@dataclass(slots=True)
class Claim:
    """A lock on one trial; ``release`` ends it, and so does the end of the process."""

    path: Path
    descriptor: int

    def release(self) -> None:
        """Give the trial free."""
        with contextlib.suppress(OSError):
            self.path.unlink()
        os.close(self.descriptor)


@dataclass(frozen=True, slots=True)
class Ledger:
    """A directory of trial records. Open it with ``Ledger.create`` or ``Ledger.open``."""

    root: Path

    @classmethod
    def create(cls, root: Path) -> "Ledger":
        """Open a ledger to write to, and make it if there is none.

        Raises:
            LedgerError: The place holds something else, or cannot be written.
        """
        mark = root / "ledger.json"
        with _explained(f"cannot write the ledger {root}"):
            root.mkdir(parents=True, exist_ok=True)
            # Our own beginnings do not count: another runner may be at it, or was killed there.
            names = {path.name for path in root.iterdir() if not path.name.startswith(".tmp-")}
            if mark.name not in names and not names <= set(_PARTS) | {mark.name}:
                raise LedgerError(f"{root} is not empty and no ledger; choose another place")
            _place(mark, _json(_FORMAT))
            for part in _PARTS:
                (root / part).mkdir(exist_ok=True)
            # Written to before any work is done: a read-only ledger shall not cost an hour first.
            probe = root / "claims" / f".probe-{secrets.token_hex(8)}"
            probe.write_bytes(b"")
            probe.unlink()
        return cls.open(root)

    @classmethod
    def open(cls, root: Path) -> "Ledger":
        """Open a ledger to read.

        Raises:
            LedgerError: It is none, or of another version.
        """
        mark = root / "ledger.json"
        try:
            found = json.loads(mark.read_text(encoding="utf-8"))
        except OSError as error:
            raise LedgerError(f"{root} is no ledger: {mark.name}: {error.strerror}") from error
        except ValueError as error:
            raise LedgerError(f"{mark} is broken: {error}") from error
        if found != _FORMAT:
            raise LedgerError(f"{root} is {found!r}; this gifthorse reads {_FORMAT!r}")
        return cls(root)

    def keep_study(self, study: Study) -> None:
        """Note that a study was run here."""
        path = self.root / "studies" / f"{study.id}.json"
        if not path.exists():
            with _explained(f"cannot write the ledger {self.root}"):
                _place(path, _json(study.model_dump(mode="json")))

    def studies(self) -> list[Study]:
        """Every study that was run here; unreadable ones are left out."""
        found = []
        for path in sorted((self.root / "studies").glob("*.json")):
            with contextlib.suppress(OSError, ValueError):
                found.append(Study.model_validate_json(path.read_bytes()))
        return found

    def write(self, record: TrialRecord) -> bool:
        """Write a record for good. False if another runner was first.

        Raises:
            LedgerError: The disk is full or the ledger read-only; nothing was changed.
        """
        text = _json(record.model_dump(mode="json"))
        with _explained(f"cannot write trial {record.id[:12]} to the ledger {self.root}"):
            if record.status != "failed":
                return _place(self.root / "trials" / f"{record.id}.json", text)
            attempt = 1
            while not _place(self.root / "failures" / f"{record.id}.{attempt}.json", text):
                attempt += 1
        return True

    def write_arrays(self, arrays: Arrays) -> str:
        """Keep arrays under the digest of their content, and return it."""
        from safetensors.numpy import save

        content = save({name: np.ascontiguousarray(value) for name, value in arrays.items()})
        digest = hashlib.sha256(content).hexdigest()
        path = self.root / "arrays" / f"{digest}.safetensors"
        with _explained(f"cannot write arrays to the ledger {self.root}"):
            _place(path, content)
        return digest

    def arrays(self, digest: str) -> dict[str, NDArray[Any]]:
        """Arrays by their digest.

        Raises:
            LedgerError: Missing, truncated or changed.
        """
        from safetensors.numpy import load

        path = self.root / "arrays" / f"{digest}.safetensors"
        with _explained(f"cannot read {path}"):
            content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != digest:
            raise LedgerError(f"{path}: the content is not what its name says")
        return dict(load(content))

    def read(self, ident: str) -> TrialRecord | None:
        """The record of one trial, the last failure if it never succeeded, or None.

        Raises:
            RecordError: There is a file, but it is no record.
        """
        path = self.root / "trials" / f"{ident}.json"
        attempts = sorted(
            (self.root / "failures").glob(f"{ident}.*.json"),
            key=lambda p: int(p.stem.split(".")[1]),
        )
        for place in (path, *reversed(attempts)):
            if place.exists():
                with _explained(f"cannot read {place}"):
                    return _parsed(place)
        return None

    def records(self) -> list[TrialRecord]:
        """All readable records, failures only of trials that never succeeded; unordered."""
        found: dict[str, TrialRecord] = {}
        for path, record in self._readable():
            if path.parent.name == "trials" or record.id not in found:
                found[record.id] = record
        return list(found.values())

    def set_aside(self) -> list[str]:
        """Move what is no record out of the way, and say what was found.

        Leftovers of writers that were killed are deleted if they are old.
        """
        notes = []
        for path in sorted(
            [*(self.root / "trials").iterdir(), *(self.root / "failures").iterdir()]
        ):
            if path.name.startswith(".tmp-"):
                with contextlib.suppress(OSError):
                    if time.time() - path.stat().st_mtime > _OLD:
                        path.unlink()
                continue
            try:
                _parsed(path)
            except FileNotFoundError:
                continue
            except (OSError, RecordError) as error:
                place = self.root / "aside" / f"{path.name}.{secrets.token_hex(4)}"
                with _explained(f"cannot set {path} aside"):
                    path.rename(place)
                notes.append(f"set aside as {place.name}: {error}")
        return notes

    def claim(self, ident: str) -> Claim | None:
        """Take a trial for this process; None if another one has it.

        Raises:
            LedgerError: The ledger cannot be written.
        """
        path = self.root / "claims" / ident
        with _explained(f"cannot write to the ledger {self.root}"):
            while True:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    os.close(descriptor)
                    return None
                except OSError:
                    os.close(descriptor)
                    raise
                if _still_named(descriptor, path):
                    with contextlib.suppress(OSError):  # for people only; the lock is what counts
                        os.write(descriptor, f"{socket.gethostname()} {os.getpid()}\n".encode())
                    return Claim(path, descriptor)
                os.close(descriptor)  # released between our open and our lock

    def _readable(self) -> Iterator[tuple[Path, TrialRecord]]:
        for part in ("trials", "failures"):
            for path in sorted((self.root / part).glob("*.json")):
                with contextlib.suppress(OSError, RecordError):
                    yield path, _parsed(path)


def _parsed(path: Path) -> TrialRecord:
    record = parse_trial(path.read_bytes(), str(path))
    if path.name.split(".")[0] != record.id:
        raise RecordError(f"{path} holds another trial than its name says")
    return record


def _still_named(descriptor: int, path: Path) -> bool:
    try:
        return os.fstat(descriptor).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def _place(path: Path, content: bytes) -> bool:
    """Write a file whole or not at all; False if it is there already."""
    if path.exists():
        return False
    scratch = path.with_name(f".tmp-{secrets.token_hex(8)}")
    try:
        with scratch.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(scratch, path)
        except FileExistsError:
            return False
        _sync_directory(path.parent)
    finally:
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)
    return True


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LedgerError(
            f"{what}: {error.strerror}; nothing that was recorded is lost, run again when there "
            "is room and permission"
        ) from error
