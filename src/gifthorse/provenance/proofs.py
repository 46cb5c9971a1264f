"""Inclusion proofs: that samples are in a data set, for someone who holds only its root.

A proof leads from a sample to the root of its contributor, and from there to the root of the data
set. It can be checked without the data, the manifest or the network.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gifthorse.core.errors import RecordError
from gifthorse.provenance.contributions import envelope_of
from gifthorse.provenance.documents import Document, statement_in
from gifthorse.provenance.manifest import (
    MOST_CONTRIBUTORS,
    MOST_SAMPLES,
    Content,
    Hash,
    Manifest,
    Part,
    data_set_tree,
)
from gifthorse.provenance.merkle import Tree, root_from_inclusion
from gifthorse.provenance.runs import Run, run_of
from gifthorse.provenance.samples import Sample, sample_leaf

_BATCH = 4096
_MOST_PROOF = 2**30


class Found(NamedTuple):
    """A sample of a manifest with its places: in the data set, and among its contributor's."""

    sample: Sample
    position: int
    row: int


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SampleProof(_Frozen):
    """A sample and its audit path to the root of its contributor."""

    id: str
    contributor: str
    label: str
    digest: Hash
    row: int = Field(ge=0, lt=MOST_SAMPLES)
    path: tuple[Hash, ...] = Field(max_length=64)

    def sample(self) -> Sample:
        """The sample that this is the proof of."""
        return Sample(self.id, self.contributor, self.label, bytes.fromhex(self.digest))


class PartProof(Part):
    """A contributor and the audit path to the root of the data set."""

    index: int = Field(ge=0, lt=MOST_CONTRIBUTORS)
    path: tuple[Hash, ...] = Field(max_length=64)
    envelope: Document | None = None


class DataSetProof(_Frozen):
    """Samples of one data set, with proofs that they are in it."""

    name: str
    content: Content
    root: Hash
    contributors_total: int = Field(gt=0, le=MOST_CONTRIBUTORS)
    contributors: tuple[PartProof, ...]
    samples: tuple[SampleProof, ...]


class Proof(_Frozen):
    """A file of proofs, as ``gifthorse trace --proof`` writes it."""

    schema_version: Literal[1] = 1
    kind: Literal["provenance proof"] = "provenance proof"
    data_sets: tuple[DataSetProof, ...]
    runs: tuple[Document, ...] = ()

    def faults(self) -> list[str]:
        """What is wrong with it; nothing if all of it holds for the roots that it names.

        Every sample must be in its data set, and every run must
        have consumed at least one of the samples.
        """
        wrong = [fault for one in self.data_sets for fault in faults(one)]
        if not self.data_sets:
            wrong.append("there is no data set in it")
        for document in self.runs:
            try:
                run = run_of(statement_in(document))
            except RecordError as error:
                wrong.append(str(error))
                continue
            if not any(consumed_by(run, one) for one in self.data_sets):
                wrong.append(f"run {run.id} consumed none of the samples")
        return wrong


def read_proof(path: Path) -> Proof:
    """Read a file of proofs; whether they hold is another question (see ``faults``).

    Raises:
        RecordError: Missing, too large, or no file of proofs.
    """
    try:
        if path.stat().st_size > _MOST_PROOF:
            raise RecordError(f"{path} is larger than any file of proofs")
        return Proof.model_validate_json(path.read_bytes())
    except OSError as error:
        raise RecordError(f"cannot read {path}: {error.strerror or error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RecordError(f"{path} holds no proofs: {where} {first['msg']}") from error


def find(
    manifest: Manifest,
    *,
    ids: frozenset[str] = frozenset(),
    digests: frozenset[bytes] = frozenset(),
    positions: frozenset[int] = frozenset(),
) -> list[Found]:
    """All samples with one of these ids, contents or positions, in order; reads the manifest once.

    Raises:
        RecordError: The manifest is broken.
    """
    rows: dict[str, int] = {}
    found = []
    for position, sample in enumerate(manifest.samples()):
        row = rows.get(sample.contributor, 0)
        rows[sample.contributor] = row + 1
        if sample.digest in digests or sample.id in ids or position in positions:
            found.append(Found(sample, position, row))
    return found


def prove(manifest: Manifest, wanted: Sequence[Found]) -> DataSetProof:
    """Proofs for these samples; holds 64 bytes for every sample of their contributors.

    Raises:
        RecordError: The samples are not those that the head of the manifest stands for.
    """
    names = {found.sample.contributor for found in wanted}
    trees = _trees(manifest, names)
    head = manifest.head
    whole = data_set_tree(head.contributors)
    contributors = []
    for name in sorted(names):
        index, part = head.part(name)
        if trees[name].root().hex() != part.root:
            manifest.verify()  # says what is wrong
        contributors.append(
            PartProof(
                **part.model_dump(),
                index=index,
                path=_hex(whole.inclusion(index)),
                envelope=envelope_of(manifest, name),
            )
        )
    return DataSetProof(
        name=head.name,
        content=head.content,
        root=head.root,
        contributors_total=len(head.contributors),
        contributors=tuple(contributors),
        samples=tuple(
            SampleProof(
                id=found.sample.id,
                contributor=found.sample.contributor,
                label=found.sample.label,
                digest=found.sample.digest.hex(),
                row=found.row,
                path=_hex(trees[found.sample.contributor].inclusion(found.row)),
            )
            for found in wanted
        ),
    )


def faults(proof: DataSetProof) -> list[str]:
    """What is wrong with a proof; nothing if every sample is in the data set with this root."""
    wrong = []
    parts = {part.name: part for part in proof.contributors}
    if len(parts) != len(proof.contributors):
        wrong.append("a contributor is named twice")
    for part in proof.contributors:
        root = root_from_inclusion(
            part.leaf(), part.index, proof.contributors_total, _bytes(part.path)
        )
        if root is None or root.hex() != proof.root:
            wrong.append(f"contributor {part.name!r} is not in the data set with this root")
    for one in proof.samples:
        part_of = parts.get(one.contributor)
        if part_of is None:
            wrong.append(f"sample {one.id!r}: nothing is said about {one.contributor!r}")
            continue
        root = root_from_inclusion(
            sample_leaf(one.sample()), one.row, part_of.size, _bytes(one.path)
        )
        if root is None or root.hex() != part_of.root:
            wrong.append(f"sample {one.id!r} is not among those of {one.contributor!r}")
    if not proof.samples:
        wrong.append("there is no sample in it")
    return wrong


def consumed_by(run: Run, proof: DataSetProof) -> int:
    """How many of the proof's samples a run consumed."""
    rows: dict[str, list[int]] = {}
    for one in proof.samples:
        rows.setdefault(one.contributor, []).append(one.row)
    return sum(
        len(part.among(rows.get(part.name, ())))
        for data in run.consumed
        if data.root == proof.root
        for part in data.contributors
    )


def _trees(manifest: Manifest, names: Iterable[str]) -> dict[str, Tree]:
    trees = {name: Tree() for name in names}
    waiting: dict[str, list[bytes]] = {name: [] for name in trees}
    for sample in manifest.samples():
        leaves = waiting.get(sample.contributor)
        if leaves is None:
            continue
        leaves.append(sample_leaf(sample))
        if len(leaves) == _BATCH:
            trees[sample.contributor].extend(leaves)
            leaves.clear()
    for name, leaves in waiting.items():
        trees[name].extend(leaves)
    return trees


def _hex(path: Iterable[bytes]) -> tuple[str, ...]:
    return tuple(part.hex() for part in path)


def _bytes(path: Iterable[str]) -> list[bytes]:
    return [bytes.fromhex(part) for part in path]
