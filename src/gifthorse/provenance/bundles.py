"""OpenSSF Model Signing (OMS) bundles, version 1.0: read and written.

A bundle is a sigstore bundle (JSON) around a DSSE envelope with one signature over an in-toto
statement that lists a digest for every file. It is signed by an ECDSA key, by a certificate, or
without a key (sigstore). Specification: https://github.com/ossf/model-signing-spec.

What we refuse although ``model_signing`` accepts it: certificates that are expired or for another
subject (see ``authorities.py``), files that the *signer* chose to ignore (the verifier's policy
says what may lie there unsigned), links, and the form of version 0.2, which signs something else
than the standard says.
"""

import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gifthorse.core.errors import TrustError, TrustInputError
from gifthorse.provenance.authorities import (
    certified_key,
    identified,
    parse_chain,
    refusal,
)
from gifthorse.provenance.envelope import PAYLOAD_TYPE, parse_json
from gifthorse.provenance.keys import PrivateKey, PublicKey
from gifthorse.provenance.policy import Policy

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_MATERIAL = {
    "publicKey", "x509CertificateChain", "certificate", "tlogEntries", "timestampVerificationData"
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A bundle that was parsed; nothing in it is trusted yet."""

    raw: bytes
    material: dict[str, Any]
    payload: bytes
    signature: bytes


def is_bundle(data: bytes) -> bool:
    """Whether a signature file looks like a bundle rather than like a bare envelope."""
    return b'"mediaType"' in data or b'"dsseEnvelope"' in data


def read_bundle(data: bytes) -> Bundle:
    """Parse a bundle.

    Raises:
        TrustError: It is none of this version, or holds something unknown.
    """
    content = parse_json(data, "the bundle")
    if content.get("mediaType") != MEDIA_TYPE:
        raise TrustError(f"the bundle is {content.get('mediaType')!r}, not {MEDIA_TYPE}")
    material, envelope = content.get("verificationMaterial"), content.get("dsseEnvelope")
    if set(content) != {"mediaType", "verificationMaterial", "dsseEnvelope"} or not (
        isinstance(material, dict) and isinstance(envelope, dict)
    ):
        raise TrustError("the bundle lacks its verificationMaterial or dsseEnvelope")
    kinds = [k for k in ("publicKey", "x509CertificateChain", "certificate") if k in material]
    if len(kinds) != 1 or not set(material) <= _MATERIAL:
        raise TrustError("the bundle names no key or certificate, or several")
    if kinds == ["certificate"] and not material.get("tlogEntries"):
        raise TrustError("a bundle without a key needs an entry of a transparency log")
    signatures = envelope.get("signatures")
    if not (
        set(envelope) == {"payload", "payloadType", "signatures"}
        and envelope["payloadType"] == PAYLOAD_TYPE
        and isinstance(signatures, list)
        and len(signatures) == 1
        and isinstance(signatures[0], dict)
        and set(signatures[0]) <= {"sig", "keyid"}
    ):
        raise TrustError("the bundle holds no DSSE envelope with exactly one signature")
    return Bundle(
        raw=data,
        material=material,
        payload=decoded(envelope["payload"]),
        signature=decoded(signatures[0].get("sig")),
    )


def decoded(text: object) -> bytes:
    """Strict base64, in its one spelling.

    Raises:
        TrustError: It is none.
    """
    try:
        if isinstance(text, str):
            data = base64.b64decode(text, validate=True)
            if base64.b64encode(data).decode() == text:
                return data
    except (ValueError, binascii.Error):
        pass
    raise TrustError("the bundle holds something that is not base64")


def bundle_signers(bundle: Bundle, policy: Policy, now: datetime) -> tuple[str, ...]:
    """Names, in the policy, of those who made the one signature of a bundle.

    Raises:
        TrustError: Nobody that the policy trusts did; the text says why.
    """
    if "publicKey" in bundle.material:
        return _by_key(bundle, policy)
    if "certificate" in bundle.material:
        return _by_identity(bundle, policy)
    return _by_certificate(bundle, policy, now)


def _by_key(bundle: Bundle, policy: Policy) -> tuple[str, ...]:
    hint = bundle.material["publicKey"]
    if not isinstance(hint, dict):
        raise TrustError("the bundle holds a malformed publicKey")
    named = hint.get("hint")
    for name, key in policy.keys.items():
        if named is not None and named != key_hint(key):
            continue
        if signed_by(bundle, key):
            _refuse_revoked(policy, key)
            return (name,)
    raise TrustError(f"no signature by anyone that {policy.source} trusts by a key")


def _by_certificate(bundle: Bundle, policy: Policy, now: datetime) -> tuple[str, ...]:
    holder = bundle.material["x509CertificateChain"]
    listed = holder.get("certificates") if isinstance(holder, dict) else None
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise TrustError("the bundle holds a malformed x509CertificateChain")
    chain = parse_chain([decoded(one.get("rawBytes")) for one in listed[:16]])
    key = certified_key(chain[0])
    if not signed_by(bundle, key):
        raise TrustError("the signature was not made with the key of its certificate")
    _refuse_revoked(policy, key)
    reasons = {name: refusal(chain, one, now) for name, one in policy.certified.items()}
    found = tuple(name for name, reason in reasons.items() if reason is None)
    if not found:
        why = "; ".join(f"{name}: {reason}" for name, reason in reasons.items()) or "none is named"
        raise TrustError(f"no certificate that {policy.source} trusts ({why})")
    return found


def _by_identity(bundle: Bundle, policy: Policy) -> tuple[str, ...]:
    reasons = []
    for name, one in policy.identified.items():
        try:
            kind, payload = identified(bundle.raw, one)
        except TrustError as error:
            if error.exit_code != 1:
                raise
            reasons.append(f"{name}: {error}")
            continue
        if (kind, payload) != (PAYLOAD_TYPE, bundle.payload):
            raise TrustError("the bundle was signed for another payload")
        certificate = parse_chain([decoded(bundle.material["certificate"].get("rawBytes"))])[0]
        _refuse_revoked(policy, certified_key(certificate))
        return (name,)
    why = "; ".join(reasons) or "none is named"
    raise TrustError(f"no identity that {policy.source} trusts ({why})")


def _refuse_revoked(policy: Policy, key: PublicKey) -> None:
    if key.keyid in policy.revoked.keys:
        raise TrustError("it is signed by revoked keys only")


def key_hint(key: PublicKey) -> str:
    """How bundles name a key: SHA-256 of its PEM."""
    return hashlib.sha256(key.pem).hexdigest()


def pre_authentication(payload: bytes) -> bytes:
    """What a DSSE signature signs."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def _hash_for(key: PublicKey) -> Any:
    """The hash that goes with a curve; None for a key that OMS does not know."""
    from cryptography.hazmat.primitives import hashes

    return {
        "ecdsa-p256": hashes.SHA256(),
        "ecdsa-p384": hashes.SHA384(),
        "ecdsa-p521": hashes.SHA512(),
    }.get(key.kind)


def signed_by(bundle: Bundle, key: PublicKey) -> bool:
    """Whether the one signature is of this key."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    algorithm, loaded = _hash_for(key), load_pem_public_key(key.pem)
    if algorithm is None or not isinstance(loaded, EllipticCurvePublicKey):
        return False
    try:
        loaded.verify(bundle.signature, pre_authentication(bundle.payload), ECDSA(algorithm))
    except InvalidSignature:
        return False
    return True


def seal_bundle(payload: bytes, key: PrivateKey, chain: Sequence[bytes] = ()) -> dict[str, Any]:
    """A signed bundle.

    Args:
        payload: The statement.
        key: ECDSA.
        chain: Certificates in DER, the signer's first; without it the bundle names the key.

    Raises:
        TrustInputError: The key is of a kind that bundles do not know.
    """
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey

    algorithm = _hash_for(key.public)
    if algorithm is None or not isinstance(key.secret, EllipticCurvePrivateKey):
        raise TrustInputError(
            f"OpenSSF Model Signing knows ECDSA keys only, not {key.public.kind}; make one with "
            "gifthorse keygen --type ecdsa-p256"
        )
    signature = key.secret.sign(pre_authentication(payload), ECDSA(algorithm))
    material: dict[str, Any] = {"publicKey": {"hint": key_hint(key.public)}}
    if chain:
        listed = [{"rawBytes": base64.b64encode(one).decode()} for one in chain]
        material = {"x509CertificateChain": {"certificates": listed}}
    return {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {**material, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        },
    }
