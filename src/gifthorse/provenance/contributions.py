"""Contributors sign their part of a data set: its name, number of samples, and root."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gifthorse.core.errors import RecordError
from gifthorse.provenance.documents import (
    Document,
    read_document,
    signers,
    statement_in,
    write_document,
)
from gifthorse.provenance.envelope import make_statement
from gifthorse.provenance.keys import PrivateKey, PublicKey
from gifthorse.provenance.manifest import Content, Manifest, Part
from gifthorse.provenance.runs import ROOT_DIGEST

PREDICATE_TYPE = "urn:gifthorse:contribution:1"


def sign_part(manifest: Manifest, contributor: str, key: PrivateKey) -> Path:
    """Sign what a contributor supplied; the envelope lies in the manifest.

    Raises:
        DataError: There is no such contributor.
        TrustInputError: It cannot be written, or the signing extra is missing.
    """
    _, part = manifest.head.part(contributor)
    place = _place(manifest, contributor)
    place.parent.mkdir(exist_ok=True)
    write_document(place, _statement(part, manifest.head.content), key=key)
    return place


def envelope_of(manifest: Manifest, contributor: str) -> Document | None:
    """What a contributor signed, as it lies in the manifest; None if they signed nothing.

    Raises:
        RecordError: The file is broken.
    """
    place = _place(manifest, contributor)
    return read_document(place) if place.exists() else None


def copy_envelopes(source: Manifest, target: Manifest) -> list[str]:
    """Take over the signatures of parts that are the same in both; the names of their signers."""
    kept = []
    for part in target.head.contributors:
        document = envelope_of(source, part.name)
        if document is not None and covers(document, part):
            place = _place(target, part.name)
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(_place(source, part.name).read_bytes())
            kept.append(part.name)
    return kept


def covers(document: Mapping[str, Any], part: Part) -> bool:
    """Whether an envelope is about exactly this part; who signed it is another question."""
    try:
        statement = statement_in(document)
        predicate = statement["predicate"]
        return (
            statement["predicateType"] == PREDICATE_TYPE
            and (predicate["contributor"], predicate["size"]) == (part.name, part.size)
            and [entry["digest"] for entry in statement["subject"]] == [{ROOT_DIGEST: part.root}]
        )
    except (RecordError, KeyError, TypeError):
        return False


def vouches(document: Mapping[str, Any], part: Part, key: PublicKey) -> bool:
    """Whether this key signed exactly this part."""
    return covers(document, part) and bool(signers(document, {part.name: key}))


def _statement(part: Part, content: Content) -> dict[str, Any]:
    return make_statement(
        subject=[{"name": part.name or "(nobody)", "digest": {ROOT_DIGEST: part.root}}],
        predicate_type=PREDICATE_TYPE,
        predicate={"contributor": part.name, "size": part.size, "content": content},
    )


def _place(manifest: Manifest, contributor: str) -> Path:
    # Names of people are no safe names of files.
    name = hashlib.sha256(contributor.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return manifest.place / "signatures" / f"{name}.json"
