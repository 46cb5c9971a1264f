"""Manifests made of others: samples added at the end, and contributions joined."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, zip_longest
from pathlib import Path

from gifthorse.core.errors import DataError
from gifthorse.provenance.contributions import copy_envelopes
from gifthorse.provenance.manifest import Manifest, Version, write_manifest
from gifthorse.provenance.merkle import Tree
from gifthorse.provenance.samples import Sample, sample_leaf


def append(old: Manifest, samples: Iterable[Sample], place: Path) -> Manifest:
    """The samples of ``old``, and then those of ``samples`` whose ids are not in it.

    Old samples are not read again. The old state is kept in ``earlier``, and signatures of parts
    that did not grow are taken over.

    Raises:
        RecordError: The old manifest is broken.
        DataError: There is nothing new, or the place is taken.
    """
    old.verify()
    head = old.head
    known = {hash(sample.id) for sample in old.samples()}
    new = (sample for sample in samples if hash(sample.id) not in known)
    made = write_manifest(
        chain(old.samples(), _some(new, head.name)),
        place,
        name=head.name,
        content=head.content,
        derived_from=head.derived_from,
        removed=head.removed,
        earlier=(
            *head.earlier,
            Version(created=head.created, root=head.root, contributors=head.contributors),
        ),
    )
    copy_envelopes(old, made)
    return made


def join(
    parts: Sequence[Manifest],
    place: Path,
    *,
    name: str,
    data: Iterable[Sample] | None = None,
    data_digest: str | None = None,
) -> Manifest:
    """The samples of several manifests, one after the other, with what contributors signed.

    Args:
        parts: In the order of the data set.
        place: Where to write.
        name: Of the whole.
        data: The data set itself, whose labels and contents must be those of the parts in order.
        data_digest: What ``gifthorse scan`` calls it.

    Raises:
        RecordError: A manifest is broken.
        DataError: The contents do not go together, or the data is something else.
    """
    contents = {part.head.content for part in parts}
    if len(contents) != 1:
        raise DataError(f"these manifests digest different things ({', '.join(sorted(contents))})")
    for part in parts:
        part.verify()
    joined: Iterable[Sample] = chain.from_iterable(part.samples() for part in parts)
    made = write_manifest(
        joined if data is None else _same(joined, data, name),
        place,
        name=name,
        content=contents.pop(),
        data_digest=data_digest,
    )
    for part in parts:
        copy_envelopes(part, made)
    return made


def consistency(manifest: Manifest, earlier: Version) -> dict[str, tuple[str, ...]]:
    """For each contributor of an earlier state, the proof that their samples are still the first.

    To be checked with ``merkle.consistent``.

    Raises:
        DataError: A contributor of then supplied more than now.
    """
    trees = {part.name: Tree() for part in earlier.contributors}
    for sample in manifest.samples():
        if sample.contributor in trees:
            trees[sample.contributor].extend([sample_leaf(sample)])
    proofs = {}
    for part in earlier.contributors:
        if len(trees[part.name]) < part.size:
            raise DataError(f"{part.name!r} had {part.size} samples and has fewer now")
        proof = trees[part.name].consistency(part.size)
        proofs[part.name] = tuple(step.hex() for step in proof)
    return proofs


def _some(samples: Iterable[Sample], name: str) -> Iterator[Sample]:
    count = 0
    for sample in samples:
        count += 1
        yield sample
    if not count:
        raise DataError(f"every sample is in the manifest of {name} already; nothing to add")


def _same(listed: Iterable[Sample], data: Iterable[Sample], name: str) -> Iterator[Sample]:
    for number, (one, other) in enumerate(zip_longest(listed, data)):
        if one is None or other is None or (one.label, one.digest) != (other.label, other.digest):
            what = "missing" if other is None else "too many" if one is None else "another one"
            raise DataError(
                f"sample {number} of {name} is {what}: the manifests do not list this data, or "
                "not in this order"
            )
        yield one
