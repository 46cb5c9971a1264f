"""Where lineage is looked up: an index of manifests and runs, in SQLite unless told otherwise.

It is never evidence: it can be deleted and built again from manifests and statements.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol

from gifthorse.core.errors import DataError, RecordError
from gifthorse.provenance.documents import Document, statement_in
from gifthorse.provenance.manifest import Head, Manifest
from gifthorse.provenance.runs import Run, run_of
from gifthorse.provenance.samples import Sample

_VERSION = 1
_SCHEMA = """
CREATE TABLE data_sets (no INTEGER PRIMARY KEY, root TEXT UNIQUE, place TEXT, head TEXT);
CREATE TABLE samples (
  data_set INTEGER, position INTEGER, row INTEGER, contributor INTEGER, id TEXT, label TEXT,
  digest BLOB, PRIMARY KEY (data_set, position)) WITHOUT ROWID;
CREATE TABLE runs (no INTEGER PRIMARY KEY, id TEXT UNIQUE, document TEXT);
CREATE TABLE consumed (run INTEGER, root TEXT);
CREATE TABLE outputs (run INTEGER, digest TEXT);
CREATE TABLE parents (run INTEGER, digest TEXT);
CREATE INDEX consumed_root ON consumed (root);
CREATE INDEX outputs_digest ON outputs (digest);
CREATE INDEX parents_digest ON parents (digest);
"""
_INDEXES = """
CREATE INDEX IF NOT EXISTS samples_digest ON samples (digest);
CREATE INDEX IF NOT EXISTS samples_id ON samples (id);
"""
_BATCH = 500  # SQLite takes at most 999 variables


class Place(NamedTuple):
    """A sample and where it stands: the root of its data set, and its places there."""

    sample: Sample
    root: str
    position: int
    row: int


class DataSet(NamedTuple):
    """A data set that is known, and where its manifest was."""

    head: Head
    place: Path


class Store(Protocol):
    """What lineage asks of a store."""

    def add_manifest(self, manifest: Manifest) -> None:
        """Index a manifest; nothing happens if its root is known.

        Raises:
            RecordError: The manifest is broken; nothing was added.
        """

    def add_run(self, document: Document) -> None:
        """Index the statement of a run, signed or not; nothing happens if its id is known.

        Raises:
            RecordError: It is no statement of a training run.
        """

    def document(self, run: str) -> Document:
        """The statement of the run with this id, as it was added."""

    def data_sets(self) -> list[DataSet]:
        """All data sets, oldest first."""

    def samples(self, *, ids: Iterable[str] = (), digests: Iterable[bytes] = ()) -> Iterator[Place]:
        """Samples of any data set with one of these ids or contents."""

    def at(self, root: str, positions: Iterable[int]) -> Iterator[Place]:
        """The samples of one data set at these positions."""

    def runs(self) -> list[Run]:
        """All runs, oldest first."""

    def runs_on(self, root: str) -> list[Run]:
        """Runs that consumed samples of this data set."""

    def runs_of(self, digests: Iterable[str]) -> list[Run]:
        """Runs that made files with these SHA-256 digests."""

    def children(self, digests: Iterable[str]) -> list[Run]:
        """Runs that started from models with these files."""


class SqliteStore:
    """A store in one file, or in memory.

    Args:
        path: The file; made if it does not exist. None keeps everything in memory.

    Raises:
        RecordError: The file is not a store of this version.
    """

    def __init__(self, path: Path | None = None) -> None:
        try:
            self._db = sqlite3.connect(":memory:" if path is None else path)
            found = self._db.execute("PRAGMA user_version").fetchone()[0]
            # It is an index that can be built again: speed counts more than surviving a power cut.
            self._db.executescript("PRAGMA synchronous = OFF; PRAGMA cache_size = -65536;")
            empty = not self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if empty:
                self._db.executescript(_SCHEMA + f"PRAGMA user_version = {_VERSION};")
            elif found != _VERSION:
                raise RecordError(
                    f"{path} is a database of version {found}; expected a store of provenance of "
                    f"version {_VERSION}; build it again from manifests and runs"
                )
        except sqlite3.Error as error:
            raise RecordError(f"cannot use {path} as a store of provenance: {error}") from error

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def add_manifest(self, manifest: Manifest) -> None:
        """Index a manifest; nothing happens if its root is known."""
        head = manifest.head
        with self._changing() as db:
            if db.execute("SELECT 1 FROM data_sets WHERE root = ?", (head.root,)).fetchone():
                db.execute(
                    "UPDATE data_sets SET place = ? WHERE root = ?",
                    (str(manifest.place.resolve()), head.root),
                )
                return
            number = db.execute(
                "INSERT INTO data_sets (root, place, head) VALUES (?, ?, ?)",
                (head.root, str(manifest.place.resolve()), head.model_dump_json()),
            ).lastrowid
            db.executemany(
                "INSERT INTO samples VALUES (?, ?, ?, ?, ?, ?, ?)",
                ((number, *row) for row in _rows(manifest)),
            )
            db.executescript(_INDEXES)

    def add_run(self, document: Document) -> None:
        """Index the statement of a run, signed or not; nothing happens if its id is known."""
        run = run_of(statement_in(document))
        with self._changing() as db:
            if db.execute("SELECT 1 FROM runs WHERE id = ?", (run.id,)).fetchone():
                return
            number = db.execute(
                "INSERT INTO runs (id, document) VALUES (?, ?)",
                (run.id, json.dumps(document)),
            ).lastrowid
            for table, values in (
                ("consumed", [data.root for data in run.consumed]),
                ("outputs", [named.digest for named in run.outputs if named.is_weights]),
                ("parents", [named.digest for named in run.parents if named.is_weights]),
            ):
                db.executemany(
                    f"INSERT INTO {table} VALUES (?, ?)",  # noqa: S608 - three fixed names
                    [(number, value) for value in values],
                )

    def document(self, run: str) -> Document:
        """The statement of the run with this id, as it was added.

        Raises:
            DataError: There is no such run.
        """
        found = self._db.execute("SELECT document FROM runs WHERE id = ?", (run,)).fetchone()
        if found is None:
            raise DataError(f"no run has the id {run!r}")
        document: Document = json.loads(found[0])
        return document

    def data_sets(self) -> list[DataSet]:
        """All data sets, oldest first."""
        found = self._db.execute("SELECT head, place FROM data_sets ORDER BY no")
        return [DataSet(Head.model_validate_json(head), Path(place)) for head, place in found]

    def samples(self, *, ids: Iterable[str] = (), digests: Iterable[bytes] = ()) -> Iterator[Place]:
        """Samples of any data set with one of these ids or contents."""
        yield from self._samples("samples.id", map(_stored, ids))
        yield from self._samples("digest", digests)

    def at(self, root: str, positions: Iterable[int]) -> Iterator[Place]:
        """The samples of one data set at these positions."""
        return self._samples("root = ? AND position", positions, root)

    def runs(self) -> list[Run]:
        """All runs, oldest first."""
        return self._runs("SELECT document FROM runs ORDER BY no", ())

    def runs_on(self, root: str) -> list[Run]:
        """Runs that consumed samples of this data set."""
        return self._runs(_JOINED.format(table="consumed", column="root", marks="?"), (root,))

    def runs_of(self, digests: Iterable[str]) -> list[Run]:
        """Runs that made files with these SHA-256 digests."""
        return self._by_digest("outputs", digests)

    def children(self, digests: Iterable[str]) -> list[Run]:
        """Runs that started from models with these files."""
        return self._by_digest("parents", digests)

    def _samples(self, column: str, values: Iterable[object], *before: object) -> Iterator[Place]:
        names: dict[str, tuple[str, ...]] = {}
        rest = iter(values)
        while batch := list(islice(rest, _BATCH)):
            found = self._db.execute(
                "SELECT head, root, position, row, contributor, samples.id, label, digest "  # noqa: S608
                "FROM samples JOIN data_sets ON data_set = no "
                f"WHERE {column} IN ({_marks(batch)}) ORDER BY data_set, position",
                (*before, *batch),
            )
            for head, root, position, row, contributor, identity, label, digest in found:
                if root not in names:
                    parts = Head.model_validate_json(head).contributors
                    names[root] = tuple(part.name for part in parts)
                who = names[root][contributor]
                yield Place(
                    Sample(_restored(identity), who, _restored(label), digest), root, position, row
                )

    def _by_digest(self, table: str, digests: Iterable[str]) -> list[Run]:
        wanted = list(digests)
        query = _JOINED.format(table=table, column="digest", marks=_marks(wanted))
        return self._runs(query, tuple(wanted))

    def _runs(self, query: str, values: tuple[object, ...]) -> list[Run]:
        return [
            run_of(statement_in(json.loads(text))) for (text,) in self._db.execute(query, values)
        ]

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._db:
                yield self._db
        except sqlite3.Error as error:
            raise DataError(f"the store of provenance cannot be written: {error}") from error


_JOINED = (
    "SELECT document FROM runs WHERE no IN "
    "(SELECT run FROM {table} WHERE {column} IN ({marks})) ORDER BY no"
)


def _rows(manifest: Manifest) -> Iterator[tuple[int, int, int, str, str, bytes]]:
    places = {part.name: place for place, part in enumerate(manifest.head.contributors)}
    rows = [0] * len(places)
    for position, sample in enumerate(manifest.samples()):
        place = places.get(sample.contributor)
        if place is None:
            manifest.verify()  # says what is wrong
            raise RecordError(f"{manifest.place}: {sample.contributor!r} is not a contributor")
        row = rows[place]
        rows[place] += 1
        yield position, row, place, _stored(sample.id), _stored(sample.label), sample.digest


def _marks(values: list[object] | list[str]) -> str:
    return ",".join("?" * len(values))


def _stored(text: str) -> str:
    """SQLite keeps UTF-8 alone; names of files may hold lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(text)
    return json.dumps(text) if text.startswith('"') or "\x00" in text else text


def _restored(text: str) -> str:
    return str(json.loads(text)) if text.startswith('"') else text
