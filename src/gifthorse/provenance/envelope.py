"""Signed statements: in-toto Statement v1 in a DSSE envelope, in one canonical form on disk.

The envelope, the pre-authentication encoding and the signatures are securesystemslib's. We add what
a reader of hostile files needs: a size limit, strict JSON, and *one* form. A file that is not, byte
for byte, what we would have written is refused, so there is no second spelling of a signature
(JSON white space, base64 padding bits, repeated keys).

References: in-toto attestation framework, Statement v1; DSSE v1.0.0 (secure-systems-lab).
"""

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gifthorse.core.errors import TrustError, TrustInputError
from gifthorse.provenance.keys import MISSING_EXTRA, PrivateKey, PublicKey

if TYPE_CHECKING:
    from securesystemslib.dsse import Envelope

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
MAX_BYTES = 256 << 20  # about a million files


def make_statement(
    *, subject: Sequence[dict[str, Any]], predicate_type: str, predicate: dict[str, Any]
) -> dict[str, Any]:
    """An in-toto Statement v1.

    Args:
        subject: ``{"name": …, "digest": {algorithm: hex}}``, one or more.
        predicate_type: A URI that says what the predicate means.
        predicate: The claim.
    """
    return {
        "_type": STATEMENT_TYPE,
        "subject": list(subject),
        "predicateType": predicate_type,
        "predicate": predicate,
    }


def seal(statement: dict[str, Any], keys: Sequence[PrivateKey]) -> bytes:
    """Sign a statement with every key; the bytes of the envelope's file.

    Raises:
        TrustInputError: The signing extra is not installed.
    """
    try:
        from securesystemslib.dsse import Envelope
    except ImportError as error:
        raise TrustInputError(MISSING_EXTRA) from error
    envelope = Envelope(canonical(statement), PAYLOAD_TYPE, {})
    return _signed(envelope, keys)


def add_signatures(data: bytes, keys: Sequence[PrivateKey]) -> bytes:
    """The same envelope with further signatures; the statement is unchanged.

    Raises:
        TrustError: ``data`` is no envelope.
    """
    return _signed(read_envelope(data), keys)


def _signed(envelope: "Envelope", keys: Sequence[PrivateKey]) -> bytes:
    from securesystemslib.signer import CryptoSigner

    for key in keys:
        envelope.sign(CryptoSigner(key.secret, key.public.to_sslib()))
    return _dump(envelope)


def _dump(envelope: "Envelope") -> bytes:
    return canonical(envelope.to_dict())


def read_envelope(data: bytes) -> "Envelope":
    """Parse an envelope; nothing in it is trusted yet.

    Raises:
        TrustError: Too large, not JSON, not an envelope, or not in canonical form.
    """
    try:
        from securesystemslib.dsse import Envelope
        from securesystemslib.exceptions import Error
    except ImportError as error:
        raise TrustInputError(MISSING_EXTRA) from error
    content = parse_json(data, "the signature file")
    try:
        envelope = Envelope.from_dict(content)
        if canonical(envelope.to_dict()) != data:
            raise TrustError("the signature file is not in canonical form; it was changed")
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, Error) as error:
        raise TrustError(f"the signature file is no DSSE envelope: {_short(error)}") from error
    if envelope.payload_type != PAYLOAD_TYPE:
        raise TrustError(f"the signed payload is {envelope.payload_type!r}, not {PAYLOAD_TYPE}")
    return envelope


def valid_signers(envelope: "Envelope", keys: Sequence[PublicKey]) -> tuple[PublicKey, ...]:
    """Those of ``keys`` whose signature on the envelope is valid; each key once."""
    from securesystemslib.exceptions import Error

    found: dict[str, PublicKey] = {}
    for key in keys:
        if key.keyid not in envelope.signatures:
            continue
        try:
            envelope.verify([key.to_sslib()], threshold=1)
        except (Error, ValueError):
            continue
        found[key.keyid] = key
    return tuple(found.values())


def read_statement(payload: bytes) -> dict[str, Any]:
    """Parse a payload *whose signatures were verified* as an in-toto Statement v1.

    Raises:
        TrustError: It is none, or lacks a field.
    """
    statement = parse_json(payload, "the signed statement")
    if statement.get("_type") != STATEMENT_TYPE:
        raise TrustError(f"the signed payload is no in-toto Statement v1 ({STATEMENT_TYPE})")
    subject = statement.get("subject")
    if not (
        isinstance(statement.get("predicateType"), str)
        and isinstance(statement.get("predicate"), dict)
        and isinstance(subject, list)
        and subject
        and all(isinstance(s, dict) and isinstance(s.get("digest"), dict) for s in subject)
    ):
        raise TrustError("the signed statement lacks its subject, predicateType or predicate")
    return statement


def canonical(value: Any) -> bytes:
    """The one way in which we write JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode() + b"\n"


def parse_json(data: bytes, what: str) -> dict[str, Any]:
    """Strict JSON: an object, UTF-8, no key twice, no NaN, nothing infinite.

    Raises:
        TrustError: It is not; ``what`` names it.
    """
    if len(data) > MAX_BYTES:
        raise TrustError(f"{what} is larger than {MAX_BYTES >> 20} MiB")
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_float=_finite,
        )
    except (ValueError, RecursionError) as error:
        raise TrustError(f"{what} is not strict JSON: {_short(error)}") from error
    if not isinstance(value, dict):
        raise TrustError(f"{what} holds a {type(value).__name__}; expected a JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):  # 1e999, which could not be written again
        raise ValueError(f"{text[:20]} is too large a number")
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
