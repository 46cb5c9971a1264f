"""Whether data is what its manifest lists."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import zip_longest

from gifthorse.provenance.manifest import Manifest
from gifthorse.provenance.samples import Sample

_SHOWN = 20


@dataclass(slots=True, kw_only=True)
class Differences:
    """What differs: counts, and the first few ids of each kind."""

    changed: list[str] = field(default_factory=list)
    added: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    total: int = 0

    def lines(self) -> Iterator[str]:
        """What to tell people."""
        for word in ("changed", "added", "missing"):
            for identity in getattr(self, word):
                yield f"{word}: {identity}"
        shown = len(self.changed) + len(self.added) + len(self.missing)
        if self.total > shown:
            yield f"… and {self.total - shown} more"

    def note(self, word: str, identity: str) -> None:
        """Count one difference."""
        self.total += 1
        shown: list[str] = getattr(self, word)
        if len(shown) < _SHOWN:
            shown.append(identity)


def differences(
    manifest: Manifest, samples: Iterable[Sample], *, in_order: bool = False
) -> Differences:
    """Compare data with its manifest by id, label and content; contributors are not in the data.

    Args:
        manifest: Which is verified too.
        samples: Of the data.
        in_order: Ids are mere row numbers: compare sample by sample. Otherwise they are compared
            by id, and the id and content digest of every listed sample is held.

    Raises:
        RecordError: The manifest itself is broken.
    """
    manifest.verify()
    if in_order:
        return _in_order(manifest, samples)
    listed: dict[str, set[tuple[str, bytes]]] = {}
    for sample in manifest.samples():
        listed.setdefault(sample.id, set()).add((sample.label, sample.digest))
    found = Differences()
    for sample in samples:
        entries = listed.get(sample.id)
        if not entries:
            found.note("added", sample.id)
        elif (sample.label, sample.digest) not in entries:
            found.note("changed", sample.id)
            entries.pop()
        else:
            entries.remove((sample.label, sample.digest))
    for identity, entries in listed.items():
        for _ in entries:
            found.note("missing", identity)
    return found


def _in_order(manifest: Manifest, samples: Iterable[Sample]) -> Differences:
    found = Differences()
    for one, other in zip_longest(manifest.samples(), samples):
        if other is None:
            found.note("missing", one.id)
        elif one is None:
            found.note("added", other.id)
        elif (one.label, one.digest) != (other.label, other.digest):
            found.note("changed", one.id)
    return found
