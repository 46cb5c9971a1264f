"""A manifest: every sample of a data set, and one root that stands for all of them.

It is a directory that outlives the data and that people can read:

    manifest.json     name, root, and a subtree with its own root for every contributor
    samples.jsonl     one line a sample, in the order of the data set:
                      ["id", "contributor", "label", "digest in hexadecimal"]
    signatures/       what contributors signed: one DSSE envelope each

The samples of a contributor form an RFC 6962 tree in the order in which they stand in the file; the
roots of the contributors form the tree of the data set. So a contributor can sign their own part,
a part keeps its root when another one is added or taken out, and samples can be added at the end.
The format is described in ``docs/formats/manifest.md``.
"""

import datetime as dt
import json
import shutil
import tempfile
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from json.encoder import encode_basestring_ascii as quoted
from pathlib import Path
from typing import IO, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gifthorse.core.errors import DataError, RecordError
from gifthorse.provenance.lines import line_blocks
from gifthorse.provenance.merkle import Frontier, Tree
from gifthorse.provenance.samples import Sample, checked, contributor_leaf, sample_leaf

MOST_SAMPLES = 2**32
MOST_CONTRIBUTORS = 100_000
_MOST_HEAD = 64 * 2**20
_MOST_LINE = 2**20

Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Content = Literal["bytes", "pixels"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Part(_Frozen):
    """What one contributor supplied: so many samples under this root."""

    name: str
    size: int = Field(gt=0, le=MOST_SAMPLES)
    root: Hash

    def leaf(self) -> bytes:
        """Its leaf in the tree of the data set."""
        return contributor_leaf(self.name, self.size, bytes.fromhex(self.root))


class Version(_Frozen):
    """A state that the manifest had before samples were added."""

    created: str
    root: Hash
    contributors: tuple[Part, ...]


class Head(_Frozen):
    """The content of ``manifest.json``.

    ``content`` says what the digests are of: the ``bytes`` of files or rows, or decoded
    ``pixels``. ``data_digest`` is what ``gifthorse scan`` calls the same pictures, if known.
    ``derived_from`` is the root of the manifest that samples were taken out of.
    """

    schema_version: Literal[1] = 1
    kind: Literal["manifest"] = "manifest"
    name: str
    created: str
    content: Content
    size: int = Field(gt=0, le=MOST_SAMPLES)
    root: Hash
    contributors: tuple[Part, ...] = Field(min_length=1, max_length=MOST_CONTRIBUTORS)
    data_digest: str | None = None
    derived_from: Hash | None = None
    removed: int = 0
    earlier: tuple[Version, ...] = ()

    @model_validator(mode="after")
    def _adds_up(self) -> "Head":
        if sum(part.size for part in self.contributors) != self.size:
            raise ValueError("the contributors' samples do not add up to the size")
        if len({part.name for part in self.contributors}) != len(self.contributors):
            raise ValueError("a contributor is named twice")
        if data_set_tree(self.contributors).root().hex() != self.root:
            raise ValueError("the root is not that of the contributors")
        return self

    def part(self, contributor: str) -> tuple[int, Part]:
        """A contributor's place and part.

        Raises:
            DataError: There is no such contributor.
        """
        for index, part in enumerate(self.contributors):
            if part.name == contributor:
                return index, part
        known = ", ".join(part.name or "(nobody)" for part in self.contributors[:20])
        raise DataError(f"{self.name} has no contributor {contributor!r}; known: {known}")


def data_set_tree(contributors: Iterable[Part]) -> Tree:
    """The tree over the contributors of a data set."""
    return Tree(part.leaf() for part in contributors)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """An opened manifest; its samples stay in the file."""

    place: Path
    head: Head

    def samples(self) -> Iterator[Sample]:
        """All samples in order, one at a time.

        Raises:
            RecordError: A line is broken, or there are more or fewer than ``manifest.json`` says.
        """
        path = self.place / "samples.jsonl"
        count = 0
        try:
            with path.open("rb") as file:
                for count, sample in enumerate(_lines(file, path), start=1):
                    if count > self.head.size:
                        break
                    yield sample
        except OSError as error:
            raise RecordError(f"cannot read {path}: {error.strerror or error}") from error
        if count != self.head.size:
            raise RecordError(
                f"{path}: got {'more' if count > self.head.size else count} samples, expected "
                f"{self.head.size}; the file does not belong to its manifest.json"
            )

    def verify(self) -> None:
        """Read every line and compare all roots.

        Raises:
            RecordError: The samples are not those that ``manifest.json`` stands for.
        """
        totals = Totals()
        for sample in self.samples():
            totals.add(sample)
        for found, stated in zip(totals.parts(), self.head.contributors, strict=False):
            if found != stated:
                raise RecordError(
                    f"{self.place}: the samples of {stated.name!r} do not have the root that "
                    "manifest.json states; a line was changed, added or taken away"
                )


@dataclass(slots=True)
class Totals:
    """The roots of all contributors while samples pass by; log n hashes a contributor."""

    size: int = 0
    _trees: dict[str, Frontier] = field(default_factory=dict)

    def add(self, sample: Sample) -> None:
        """Count one sample.

        Raises:
            DataError: There are too many contributors or samples.
        """
        tree = self._trees.get(sample.contributor)
        if tree is None:
            if len(self._trees) == MOST_CONTRIBUTORS:
                raise DataError(
                    f"more than {MOST_CONTRIBUTORS} contributors; name people or sources, not "
                    "samples, as contributors"
                )
            tree = self._trees[sample.contributor] = Frontier()
        tree.add(sample_leaf(sample))
        self.size += 1
        if self.size > MOST_SAMPLES:
            raise DataError(f"more than {MOST_SAMPLES} samples")

    def parts(self) -> tuple[Part, ...]:
        """The contributors, in the order of their first samples."""
        return tuple(
            Part(name=name, size=tree.size, root=tree.root().hex())
            for name, tree in self._trees.items()
        )


def write_manifest(
    samples: Iterable[Sample],
    place: Path,
    *,
    name: str,
    content: Content,
    data_digest: str | None = None,
    derived_from: str | None = None,
    removed: int = 0,
    earlier: tuple[Version, ...] = (),
) -> Manifest:
    """Write a manifest; the directory appears whole or not at all.

    Args:
        samples: In the order of the data set; ids must differ.
        place: A directory that does not exist, or is empty.
        name: How people call the data set.
        content: What the digests are of.
        data_digest: What ``gifthorse scan`` calls the same pictures.
        derived_from: Root of the manifest that samples were taken out of.
        removed: How many.
        earlier: States before samples were added.

    Raises:
        DataError: No samples, two with the same id, or the place is taken.
    """
    with new_directory(place) as scratch:
        totals, seen = Totals(), array("q")
        path = scratch / "samples.jsonl"
        with path.open("w", encoding="ascii") as file:
            write, add = file.write, totals.add
            for sample in checked(samples):
                add(sample)
                seen.append(hash((sample.contributor, sample.id)))
                write(
                    f"[{quoted(sample.id)},{quoted(sample.contributor)},{quoted(sample.label)},"
                    f'"{sample.digest.hex()}"]\n'
                )
        if not totals.size:
            raise DataError(f"{name}: got 0 samples; a data set needs at least one")
        _refuse_twins(seen, path)
        parts = totals.parts()
        head = Head(
            name=name,
            created=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            content=content,
            size=totals.size,
            root=data_set_tree(parts).root().hex(),
            contributors=parts,
            data_digest=data_digest,
            derived_from=derived_from,
            removed=removed,
            earlier=earlier,
        )
        (scratch / "manifest.json").write_text(head.model_dump_json(indent=1) + "\n", "utf-8")
    return Manifest(place=place, head=head)


def open_manifest(place: Path) -> Manifest:
    """Open a manifest: its head is read and checked, its samples are not.

    Raises:
        RecordError: Missing, broken, or of an unknown version.
    """
    path = place / "manifest.json" if place.is_dir() else place
    if path.name != "manifest.json":
        raise RecordError(f"{place} is not a manifest; expected a directory with manifest.json")
    return Manifest(place=path.parent, head=_read_head(path))


def _read_head(path: Path) -> Head:
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_HEAD + 1)
    except OSError as error:
        raise RecordError(f"cannot read the manifest {path}: {error.strerror}") from error
    if len(text) > _MOST_HEAD:
        raise RecordError(f"{path} is larger than any manifest.json of ours")
    try:
        return Head.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RecordError(f"{path} is not a manifest: {where} {first['msg']}") from error


def _lines(file: IO[bytes], path: Path) -> Iterator[Sample]:
    """The samples in a file of lines; a quarter of a mebibyte is held at a time."""
    number = 0
    try:
        for lines in line_blocks(file, longest=_MOST_LINE):
            samples = _parsed(b"[" + b",".join(lines) + b"]")
            if samples is None or len(samples) != len(lines):
                bad = next((i for i, line in enumerate(lines) if not _one(line)), 0)
                raise RecordError(
                    f"{path}, line {number + bad + 1}: expected "
                    '["id", "contributor", "label", "64 hexadecimal digits"], got '
                    f"{lines[bad][:80]!r}"
                )
            number += len(lines)
            yield from samples
    except ValueError as error:
        raise RecordError(f"{path}, after line {number}: {error}") from error


def _one(line: bytes) -> bool:
    return len(_parsed(b"[" + line + b"]") or ()) == 1


def _parsed(array: bytes) -> list[Sample] | None:
    """The samples in a JSON array; None if it holds anything else."""
    try:
        rows, found = json.loads(array), []
        for identity, contributor, label, digest in rows:
            content = bytes.fromhex(digest)
            if not (type(identity) is type(contributor) is type(label) is str and identity):
                return None
            if len(content) != 32 or len(digest) != 64:
                return None
            found.append(Sample(identity, contributor, label, content))
    except (ValueError, TypeError, RecursionError):
        return None
    return found


def _refuse_twins(seen: "array[int]", path: Path) -> None:
    """Raise if two samples have one id; eight bytes a sample instead of all ids in memory."""
    import numpy as np

    hashes = np.sort(np.frombuffer(seen, dtype=np.int64))
    doubtful = set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
    if not doubtful:
        return
    met = set()
    with path.open("rb") as file:
        for sample in _lines(file, path):
            key = (sample.contributor, sample.id)
            if hash(key) in doubtful:
                if key in met:
                    raise DataError(
                        f"two samples of {sample.contributor or 'nobody'} are called "
                        f"{sample.id!r}; ids must differ, or a finding leads to the wrong one"
                    )
                met.add(key)


@contextmanager
def new_directory(place: Path) -> Iterator[Path]:
    """A scratch directory that becomes ``place`` when all went well.

    Raises:
        DataError: The place is taken or cannot be written.
    """
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise DataError(f"{place} exists and is not an empty directory; choose another place")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    except OSError as error:
        raise DataError(f"cannot write {place}: {error.strerror or error}") from error
    try:
        yield scratch
        scratch.chmod(0o755)  # mkdtemp makes it private
        if place.exists():
            place.rmdir()
        scratch.replace(place)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
