"""Statements that may be signed: an in-toto Statement as it is, or in a DSSE envelope.

Unsigned ones are read too, because a lineage is useful before anyone has keys; whoever relies on
one asks ``signers`` who vouches for it.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gifthorse.core.errors import RecordError, TrustError
from gifthorse.provenance.envelope import (
    PAYLOAD_TYPE,
    STATEMENT_TYPE,
    canonical,
    parse_json,
    read_envelope,
    read_statement,
    seal,
    valid_signers,
)
from gifthorse.provenance.keys import PrivateKey, PublicKey
from gifthorse.provenance.places import write_atomically

Document = dict[str, Any]
"""A Statement, or an envelope that holds one, as parsed JSON."""

_MOST = 64 * 2**20


def write_document(path: Path, statement: Mapping[str, Any], *, key: PrivateKey | None) -> Document:
    """Write a statement, in an envelope if there is a key to sign it with.

    Raises:
        TrustInputError: The file cannot be written, or the signing extra is missing.
    """
    plain = dict(statement)
    data = canonical(plain) if key is None else seal(plain, [key])
    write_atomically(path, data)
    found = json.loads(data)
    assert isinstance(found, dict)  # noqa: S101 - what was written is an object
    return found


def read_document(path: Path) -> Document:
    """Read a statement or an envelope; no signature is checked.

    Raises:
        RecordError: Missing, too large, or neither.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MOST + 1)
    except OSError as error:
        raise RecordError(f"cannot read {path}: {error.strerror or error}") from error
    if len(data) > _MOST:
        raise RecordError(f"{path} is larger than any statement")
    try:
        document = parse_json(data, str(path))
    except TrustError as error:
        raise RecordError(str(error)) from error
    statement_in(document)
    return document


def statement_in(document: Mapping[str, Any]) -> dict[str, Any]:
    """The statement in a document; nobody vouches for it yet.

    Raises:
        RecordError: There is none.
    """
    found: object = document
    if "payload" in document:
        try:
            if document.get("payloadType") != PAYLOAD_TYPE:
                raise RecordError(
                    f"the envelope's payload is no in-toto statement ({PAYLOAD_TYPE})"
                )
            payload = base64.b64decode(document["payload"], validate=True)
            found = read_statement(payload)
        except (binascii.Error, TypeError, ValueError) as error:
            raise RecordError(f"the envelope's payload is broken: {error}") from error
        except TrustError as error:
            raise RecordError(str(error)) from error
    if not isinstance(found, dict) or found.get("_type") != STATEMENT_TYPE:
        raise RecordError(f"not an in-toto statement; expected _type {STATEMENT_TYPE}")
    return found


def signers(document: Mapping[str, Any], keys: Mapping[str, PublicKey]) -> tuple[str, ...]:
    """The names of those keys whose signature on the document is valid; none if it is unsigned."""
    if "payload" not in document:
        return ()
    try:
        envelope = read_envelope(canonical(dict(document)))
    except (TrustError, ValueError, RecursionError):  # proofs are parsed less strictly
        return ()
    valid = {key.keyid for key in valid_signers(envelope, list(keys.values()))}
    return tuple(name for name, key in keys.items() if key.keyid in valid)
