"""What a server keeps on disk: its state, a record a round, and the updates if wanted.

    checkpoint.npz      where to go on after a crash
    round-00001.json    what happened: who was accepted, rejected, kept out, missing; digests
    round-00001.npz     the admitted updates

Every file is written whole or not at all. A round is recorded before the checkpoint moves on, so a
server that dies in between does that round again and writes the same names. A lock keeps a second
server out, because the process of a server can outlive the SuperLink that started it.
"""

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pydantic import ValidationError

from gifthorse.core.errors import RecordError
from gifthorse.core.rounds_record import ServerRound
from gifthorse.federated.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from gifthorse.federated.removal import StoredRound, write_round


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerPlace:
    """A directory of one federation.

    Attributes:
        folder: The directory; made if it does not exist.
        keep_updates: Store updates too (clients · d numbers of eight bytes a round).
    """

    folder: Path
    keep_updates: bool = False

    def __post_init__(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RecordError(
                f"cannot keep the state of the server in {self.folder}: {error.strerror}"
            ) from error

    @property
    def checkpoint(self) -> Path:
        """Where the state is."""
        return self.folder / "checkpoint.npz"

    def claim(self, wait: float = 60.0) -> IO[bytes]:
        """Keep every other server out until what is returned is closed, or this process ends.

        Args:
            wait: Seconds to wait for another one to end.

        Raises:
            RecordError: Another one is still at work.
        """
        path = self.folder / "lock"
        limit = time.monotonic() + wait
        try:
            file = path.open("ab")
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    if time.monotonic() >= limit:
                        file.close()
                        raise RecordError(
                            f"another server is at work in {self.folder}; end it, or wait for it"
                        ) from None
                    time.sleep(0.2)
                else:
                    return file
        except OSError as error:
            raise RecordError(f"cannot lock {path}: {error.strerror}") from error

    def last(self) -> Checkpoint | None:
        """The state after the last finished round; None before the first.

        Raises:
            RecordError: It is there and cannot be read.
        """
        return read_checkpoint(self.checkpoint) if self.checkpoint.exists() else None

    def add(self, entry: ServerRound, stored: StoredRound, state: Checkpoint) -> None:
        """Write down a finished round.

        Raises:
            RecordError: It cannot be written.
        """
        if self.keep_updates:
            write_round(self.folder, stored)
        self._write(entry)
        write_checkpoint(self.checkpoint, state)

    def rounds(self) -> Iterator[ServerRound]:
        """The records of all finished rounds, in order.

        Raises:
            RecordError: One is missing or broken.
        """
        state = self.last()
        for number in range(1, (state.round if state else 0) + 1):
            path = self._record(number)
            try:
                yield ServerRound.model_validate_json(path.read_bytes())
            except OSError as error:
                raise RecordError(f"cannot read {path}: {error.strerror}") from error
            except ValidationError as error:
                raise RecordError(f"{path} is not the record of a round") from error

    def _record(self, number: int) -> Path:
        return self.folder / f"round-{number:05d}.json"

    def _write(self, entry: ServerRound) -> None:
        path = self._record(entry.round)
        scratch = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
        try:
            with scratch.open("x", encoding="utf-8") as file:
                file.write(entry.model_dump_json(indent=1) + "\n")
                file.flush()
                os.fsync(file.fileno())
            scratch.replace(path)
        except OSError as error:
            raise RecordError(f"cannot write {path}: {error.strerror}") from error
        finally:
            scratch.unlink(missing_ok=True)
