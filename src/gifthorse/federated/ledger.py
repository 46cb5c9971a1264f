"""The ledger of a study: one JSON record a trial, each written whole or not at all."""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from gifthorse.core.errors import RecordError
from gifthorse.core.rounds_record import TrialRecord, TrialSpec, rounds_digest


class Ledger:
    """A directory of trial records; what is in it need not be run again.

    Args:
        place: The directory.
        create: Make it if it does not exist.

    Raises:
        RecordError: It does not exist, or cannot be made.
    """

    def __init__(self, place: Path, *, create: bool = False) -> None:
        self.place = place
        if create:
            try:
                place.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise RecordError(f"cannot make the ledger {place}: {error.strerror}") from error
        if not place.is_dir():
            raise RecordError(
                f"{place}: there is no such ledger; `gifthorse federated run` makes one"
            )

    def find(self, spec: TrialSpec) -> TrialRecord | None:
        """The record of a trial, or None if it was not run yet."""
        path = self._path(spec)
        return self._read(path) if path.exists() else None

    def add(self, record: TrialRecord) -> None:
        """Write a record.

        Raises:
            RecordError: It cannot be written.
        """
        path = self._path(record.spec)
        scratch = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
        try:
            with scratch.open("x", encoding="utf-8") as file:
                file.write(record.model_dump_json() + "\n")
                file.flush()
                os.fsync(file.fileno())
            scratch.replace(path)
        except OSError as error:
            raise RecordError(f"cannot write to the ledger {path}: {error.strerror}") from error
        finally:
            scratch.unlink(missing_ok=True)

    def __iter__(self) -> Iterator[TrialRecord]:
        """All records, in the order of their names."""
        for path in sorted(self.place.glob("trial-*.json")):
            yield self._read(path)

    def _path(self, spec: TrialSpec) -> Path:
        return self.place / f"trial-{spec.key()}.json"

    def _read(self, path: Path) -> TrialRecord:
        try:
            record = TrialRecord.model_validate_json(path.read_bytes())
        except OSError as error:
            raise RecordError(f"cannot read {path}: {error.strerror}") from error
        except ValidationError as error:
            raise RecordError(
                f"{path} is not the record of a trial; delete it, and it is run again"
            ) from error
        if rounds_digest(record.spec, record.rounds) != record.digest:
            raise RecordError(f"{path} was changed after it was written; delete it to run it again")
        return record
