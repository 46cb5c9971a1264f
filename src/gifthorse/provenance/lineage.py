"""From samples to every model they touched, and from a model back to who supplied its data."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from gifthorse.core.errors import DataError, NotApplicableError
from gifthorse.core.record import AuditRecord
from gifthorse.core.types import Unit, Verdict
from gifthorse.provenance.manifest import Manifest, open_manifest
from gifthorse.provenance.proofs import DataSetProof, Found, Proof, prove
from gifthorse.provenance.runs import ConsumedPart, Run
from gifthorse.provenance.store import DataSet, Place, Store


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TracedSample(_Frozen):
    """A sample: its digest in hexadecimal, and its position in the data set with this root."""

    id: str
    contributor: str
    label: str
    digest: str
    data_set: str
    position: int


class TracedContributor(_Frozen):
    """Somebody who supplied samples; ``traced`` of ``size`` are in question."""

    name: str
    data_set: str
    traced: int
    size: int


class TracedDataSet(_Frozen):
    """A data set that holds samples in question."""

    name: str
    root: str
    traced: int
    size: int


class TracedModel(_Frozen):
    """A model on the recall list.

    ``consumed`` counts the samples in question that its own run was trained on; it is 0 for a model
    that only descends from such a one (``parents`` are runs).
    """

    name: str
    run: str
    finished: str
    files: dict[str, str]
    data_sets: tuple[str, ...]
    consumed: int
    parents: tuple[str, ...]


class Lineage(_Frozen):
    """The answer of ``gifthorse trace``."""

    schema_version: Literal[1] = 1
    kind: Literal["lineage"] = "lineage"
    question: str
    samples: tuple[TracedSample, ...]
    contributors: tuple[TracedContributor, ...]
    data_sets: tuple[TracedDataSet, ...]
    models: tuple[TracedModel, ...]
    notes: tuple[str, ...] = ()


def forward(store: Store, places: Sequence[Place], *, question: str) -> Lineage:
    """Where samples went: the same contents in all data sets, their contributors, runs and models.

    Args:
        store: What is known.
        places: The samples in question.
        question: What the user asked, for the record.
    """
    same = store.samples(digests={place.sample.digest for place in places})
    everywhere = sorted({*places, *same}, key=lambda place: (place.root, place.position))
    heads = {known.head.root: known.head for known in store.data_sets()}
    by_root = Counter(place.root for place in everywhere)
    by_person = Counter((place.root, place.sample.contributor) for place in everywhere)
    return Lineage(
        question=question,
        samples=tuple(
            TracedSample(
                id=place.sample.id,
                contributor=place.sample.contributor,
                label=place.sample.label,
                digest=place.sample.digest.hex(),
                data_set=place.root,
                position=place.position,
            )
            for place in everywhere
        ),
        contributors=tuple(
            TracedContributor(
                name=name, data_set=root, traced=count, size=heads[root].part(name)[1].size
            )
            for (root, name), count in by_person.most_common()
        ),
        data_sets=tuple(
            TracedDataSet(name=heads[root].name, root=root, traced=count, size=heads[root].size)
            for root, count in by_root.most_common()
        ),
        models=_recall(store, everywhere),
        notes=_about_content(heads[root].content for root in by_root),
    )


def backward(store: Store, digests: Iterable[str], *, question: str) -> Lineage:
    """Where a model came from: its runs, those of its parents, their data sets and contributors.

    Args:
        store: What is known.
        digests: SHA-256 of the model's files of weights, or the digest of an audit record.
        question: What the user asked, for the record.

    Raises:
        DataError: No run made such a model.
    """
    runs = _ancestors(store, store.runs_of(digests))
    if not runs:
        raise DataError(
            f"no run that is known made {question}; name its statement with --run, or train it "
            "with the recorder"
        )
    rows: dict[tuple[str, str], int] = {}
    sizes: dict[tuple[str, str], int] = {}
    data_sets: dict[str, TracedDataSet] = {}
    for run in runs:
        for data in run.consumed:
            data_sets[data.root] = TracedDataSet(
                name=data.name, root=data.root, traced=data.count, size=data.size
            )
            for part in data.contributors:
                # A bit a sample: several runs may have consumed different ones.
                rows[data.root, part.name] = rows.get((data.root, part.name), 0) | _mask(part)
                sizes[data.root, part.name] = part.size
    by_person = Counter({key: mask.bit_count() for key, mask in rows.items()})
    return Lineage(
        question=question,
        samples=(),
        contributors=tuple(
            TracedContributor(name=name, data_set=root, traced=count, size=sizes[root, name])
            for (root, name), count in by_person.most_common()
            if count
        ),
        data_sets=tuple(data_sets.values()),
        models=tuple(_model(store, run, run_count(run)) for run in runs),
    )


def _mask(part: ConsumedPart) -> int:
    bits = part.bits()
    return (1 << part.size) - 1 if bits is None else int.from_bytes(bits, "big")


def run_count(run: Run) -> int:
    """How many samples a run consumed."""
    return sum(data.count for data in run.consumed)


def flagged(record: AuditRecord) -> list[int]:
    """The samples that the flagged findings of a scan point to, in order.

    Raises:
        NotApplicableError: The record flags no samples.
    """
    found: set[int] = set()
    for finding in record.findings:
        seen = finding.evidence
        if finding.verdict is Verdict.FLAGGED and seen is not None and seen.unit is Unit.SAMPLE:
            found.update(seen.suspects)
    if not found:
        raise NotApplicableError(f"this {record.kind} of {record.subject.name} flags no samples")
    return sorted(found)


def scanned(record: AuditRecord, known: Sequence[DataSet]) -> tuple[DataSet, tuple[str, ...]]:
    """The data set that a scan was about.

    The content digest decides. Where manifests do not state it, one data set of the same size is
    taken for it, and a note says so.

    Raises:
        DataError: None of these, or more than one.
    """
    same = [one for one in known if one.head.data_digest == record.subject.digest]
    if same:
        return same[-1], ()
    size = record.subject.facts.get("pictures")
    similar = [one for one in known if one.head.data_digest is None and one.head.size == size]
    if len(similar) == 1:
        return similar[0], (
            f"the scan was matched with the manifest of {similar[0].head.name} by its number of "
            "samples alone; give the data with --data to compare contents",
        )
    raise DataError(
        f"the scan of {record.subject.name} ({size} pictures) fits {len(similar) or 'none'} of the "
        f"{len(known)} known manifests; name one with --manifest, or the data with --data"
    )


def proofs(store: Store, lineage: Lineage, *, manifests: Sequence[Manifest] = ()) -> Proof:
    """Proofs for a forward lineage: of its samples, and the statements of the runs.

    Args:
        store: What it was traced in.
        lineage: The answer.
        manifests: Where they are now, if elsewhere than the store remembers.

    Raises:
        RecordError: A manifest is gone, or was changed.
    """
    places = {known.head.root: known.place for known in store.data_sets()}
    places |= {manifest.head.root: manifest.place for manifest in manifests}
    made: list[DataSetProof] = []
    for data_set in lineage.data_sets:
        wanted = [sample for sample in lineage.samples if sample.data_set == data_set.root]
        found = store.at(data_set.root, [sample.position for sample in wanted])
        made.append(
            prove(
                open_manifest(places[data_set.root]),
                [Found(place.sample, place.position, place.row) for place in found],
            )
        )
    direct = [model.run for model in lineage.models if model.consumed]
    return Proof(data_sets=tuple(made), runs=tuple(store.document(run) for run in direct))


def _recall(store: Store, places: Sequence[Place]) -> tuple[TracedModel, ...]:
    """Models trained on any of these samples, and all that descend from them."""
    rows: dict[str, dict[str, list[int]]] = {}
    for place in places:
        rows.setdefault(place.root, {}).setdefault(place.sample.contributor, []).append(place.row)
    found: dict[str, tuple[Run, int]] = {}
    for root in rows:
        for run in store.runs_on(root):
            count = sum(
                len(part.among(rows.get(data.root, {}).get(part.name, ())))
                for data in run.consumed
                for part in data.contributors
            )
            if count:
                found[run.id] = (run, count)
    waiting = [run for run, _ in found.values()]
    while waiting:
        run = waiting.pop()
        for child in store.children([out.digest for out in run.outputs if out.is_weights]):
            if child.id not in found:
                found[child.id] = (child, 0)
                waiting.append(child)
    return tuple(_model(store, run, count) for run, count in found.values())


def _ancestors(store: Store, runs: Iterable[Run]) -> list[Run]:
    found = {run.id: run for run in runs}
    waiting = list(found.values())
    while waiting:
        parents = [parent.digest for parent in waiting.pop().parents if parent.is_weights]
        for run in store.runs_of(parents):
            if run.id not in found:
                found[run.id] = run
                waiting.append(run)
    return list(found.values())


def _model(store: Store, run: Run, consumed: int) -> TracedModel:
    parents = store.runs_of([parent.digest for parent in run.parents if parent.is_weights])
    return TracedModel(
        name=run.name,
        run=run.id,
        finished=run.finished,
        files={out.name: out.digest for out in run.outputs},
        data_sets=tuple(data.root for data in run.consumed),
        consumed=consumed,
        parents=tuple(parent.id for parent in parents),
    )


def _about_content(contents: Iterable[str]) -> tuple[str, ...]:
    if len(set(contents)) > 1:
        return (
            "some manifests digest files and others decoded pixels; the same picture has two "
            "digests then",
        )
    return ()
