"""What a user asks, as a lineage: a sample, a scan, a model."""

from collections.abc import Sequence
from pathlib import Path

from gifthorse.core.errors import DataError
from gifthorse.core.record import AuditRecord
from gifthorse.provenance.lineage import Lineage, backward, flagged, forward, scanned
from gifthorse.provenance.reading.folder import file_digest
from gifthorse.provenance.runs import files_of
from gifthorse.provenance.store import Place, Store


def about_sample(store: Store, what: str) -> Lineage | None:
    """A sample by its id, its file or ``sha256:DIGEST``; None if no data set has it.

    Raises:
        DataError: Not a digest.
    """
    if what.startswith("sha256:"):
        try:
            digest = bytes.fromhex(what.removeprefix("sha256:"))
        except ValueError as error:
            raise DataError(f"{what!r}: expected 64 hexadecimal digits behind sha256:") from error
        places = list(store.samples(digests=[digest]))
    else:
        places = list(store.samples(ids=[what]))
        if not places and Path(what).is_file():
            places = list(store.samples(digests=[file_digest(Path(what))]))
    return forward(store, places, question=what) if places else None


def about_scan(
    store: Store, record: AuditRecord, contents: Sequence[bytes] | None = None
) -> Lineage:
    """The samples that a scan flagged.

    Args:
        store: What is known.
        record: Of the scan.
        contents: The digest of every sample of the scanned data, in its order. Without it the
            samples are those at the flagged positions of the manifest.

    Raises:
        NotApplicableError: It flags none.
        DataError: The data it was about is not known, or is not what is in the manifests.
    """
    indices = flagged(record)
    notes: tuple[str, ...] = ()
    question = f"scan of {record.subject.name}: {len(indices)} flagged samples"
    if contents is None:
        data_set, notes = scanned(record, store.data_sets())
        places = list(store.at(data_set.head.root, indices))
    else:
        size = record.subject.facts.get("pictures")
        if size != len(contents):
            raise DataError(
                f"the scan was of {size} pictures and this data has {len(contents)} samples; name "
                "the data that was scanned"
            )
        places = _by_content(store, [contents[index] for index in indices])
    lineage = forward(store, places, question=question)
    return lineage.model_copy(update={"notes": (*notes, *lineage.notes)})


def about_model(store: Store, path: Path) -> Lineage:
    """A model directory or file.

    Raises:
        DataError: No weights, or no run that is known made it.
    """
    weights = [named.digest for named in files_of(path) if named.is_weights]
    return backward(store, weights or [file_digest(path).hex()], question=str(path))


def about_digest(store: Store, digest: str, *, question: str) -> Lineage:
    """A model as an audit record calls it, ``sha256:…``.

    Raises:
        DataError: No run that is known made it.
    """
    return backward(store, [digest.removeprefix("sha256:")], question=question)


def _by_content(store: Store, digests: Sequence[bytes]) -> list[Place]:
    places = list(store.samples(digests=set(digests)))
    missing = len(set(digests) - {place.sample.digest for place in places})
    if missing:
        raise DataError(
            f"{missing} of {len(digests)} flagged samples are in no manifest that is known; the "
            "data was changed since, or its manifest is missing"
        )
    return places
