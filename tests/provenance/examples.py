"""Small data sets on disk."""

import hashlib
from pathlib import Path

from gifthorse.provenance.manifest import Manifest, write_manifest
from gifthorse.provenance.samples import Sample

PEOPLE = ("alice", "bob", "carol")


def samples(count: int = 30, people: tuple[str, ...] = PEOPLE) -> list[Sample]:
    return [
        Sample(
            f"{i % 4}/{i:04}.png",
            people[i % len(people)],
            str(i % 4),
            hashlib.sha256(b"%d" % i).digest(),
        )
        for i in range(count)
    ]


def listed(place: Path, count: int = 30) -> Manifest:
    return write_manifest(samples(count), place, name="signs", content="bytes")


def folder(root: Path) -> Path:
    """A folder of two contributors with two classes each."""
    for person in ("alice", "bob"):
        for label in ("go", "stop"):
            place = root / person / label
            place.mkdir(parents=True)
            for i in range(3):
                (place / f"{i}.png").write_bytes(f"{person} {label} {i}".encode())
    return root
