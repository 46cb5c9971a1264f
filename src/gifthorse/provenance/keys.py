"""Signing keys: Ed25519 and ECDSA, in PEM files that openssl reads too.

A key is known by its id, the SHA-256 of its public part (SubjectPublicKeyInfo, DER), so that the
same key under two names is still one key.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gifthorse.core.errors import TrustInputError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from securesystemslib.signer import SSlibKey

Kind = Literal["ed25519", "ecdsa-p256", "ecdsa-p384", "ecdsa-p521"]
NewKind = Literal["ed25519", "ecdsa-p256"]
_CURVES: dict[str, Kind] = {
    "secp256r1": "ecdsa-p256",
    "secp384r1": "ecdsa-p384",
    "secp521r1": "ecdsa-p521",
}
_MAX_PEM = 64 << 10
MISSING_EXTRA = (
    'signatures need cryptography and securesystemslib; run: pip install "gifthorse[signing]"'
)


@dataclass(frozen=True)
class PublicKey:
    """A key that verifies. ``pem`` is SubjectPublicKeyInfo; ``keyid`` is 64 hex digits."""

    keyid: str
    kind: Kind
    pem: bytes

    def to_sslib(self) -> "SSlibKey":
        """The same key as securesystemslib wants it."""
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
        from securesystemslib.signer import SSlibKey

        return SSlibKey.from_crypto(load_pem_public_key(self.pem), keyid=self.keyid)


@dataclass(frozen=True, repr=False)
class PrivateKey:
    """A key that signs."""

    public: PublicKey
    secret: "Ed25519PrivateKey | EllipticCurvePrivateKey"


def generate_key(kind: NewKind = "ed25519") -> PrivateKey:
    """A new random key.

    Raises:
        TrustInputError: Unknown kind, or the signing extra is not installed.
    """
    try:
        from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError as error:
        raise TrustInputError(MISSING_EXTRA) from error
    if kind == "ed25519":
        secret: Ed25519PrivateKey | EllipticCurvePrivateKey = Ed25519PrivateKey.generate()
    elif kind == "ecdsa-p256":
        secret = generate_private_key(SECP256R1())
    else:
        raise TrustInputError(f"unknown kind of key {kind!r}; known: ed25519, ecdsa-p256")
    return PrivateKey(public_key(secret.public_key(), "the new key"), secret)


def public_key(key: Any, source: str) -> PublicKey:
    """Wrap a public key of the cryptography library.

    Raises:
        TrustInputError: It is of a kind that is not used here, RSA for instance.
    """
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    kind: Kind | None = None
    if isinstance(key, Ed25519PublicKey):
        kind = "ed25519"
    elif isinstance(key, EllipticCurvePublicKey):
        kind = _CURVES.get(key.curve.name)
    if kind is None:
        raise TrustInputError(
            f"{source} holds a key of a kind that is not used here ({type(key).__name__}); "
            "expected Ed25519 or ECDSA on P-256, P-384 or P-521"
        )
    form = PublicFormat.SubjectPublicKeyInfo
    keyid = hashlib.sha256(key.public_bytes(Encoding.DER, form)).hexdigest()
    return PublicKey(keyid, kind, key.public_bytes(Encoding.PEM, form))


def write_key(key: PrivateKey, path: Path, *, passphrase: str | None = None) -> tuple[Path, Path]:
    """Write the private key to ``path`` (readable by its owner only), the public to ``path.pub``.

    Raises:
        TrustInputError: One of the files exists (a key is never overwritten), or cannot be written.
    """
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        KeySerializationEncryption,
        NoEncryption,
        PrivateFormat,
    )

    public = path.with_name(path.name + ".pub")
    for place in (path, public):
        if place.exists() or place.is_symlink():
            raise TrustInputError(
                f"{place} exists; a key is never overwritten, choose another name"
            )
    lock: KeySerializationEncryption = NoEncryption()
    if passphrase is not None:
        if not passphrase:
            raise TrustInputError("the passphrase is empty")
        lock = BestAvailableEncryption(_bytes(passphrase))
    pem = key.secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock)
    _write_new(path, pem, 0o600)
    _write_new(public, key.public.pem, 0o644)
    return path, public


def _bytes(passphrase: str) -> bytes:
    """As it was typed, even if the environment holds something that is not UTF-8."""
    return passphrase.encode("utf-8", "surrogateescape")


def _write_new(path: Path, data: bytes, mode: int) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
    except OSError as error:
        raise TrustInputError(f"cannot write {path}: {error.strerror}") from error


def read_private_key(path: Path, *, passphrase: str | None = None) -> PrivateKey:
    """Read a PEM private key (PKCS 8 or SEC 1).

    Raises:
        TrustInputError: Missing, no private key, or a missing, wrong or superfluous passphrase.
    """
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError as error:
        raise TrustInputError(MISSING_EXTRA) from error
    data = _read_pem(path)
    try:
        secret = load_pem_private_key(data, _bytes(passphrase) if passphrase else None)
    except TypeError as error:
        says = (
            "is not encrypted, but a passphrase was given"
            if passphrase
            else "needs a passphrase (--passphrase)"
        )
        raise TrustInputError(f"the key {path} {says}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        what = "or the passphrase is wrong" if passphrase else "in PEM"
        raise TrustInputError(f"{path} is not a private key {what}") from error
    public = public_key(secret.public_key(), str(path))
    return PrivateKey(public, secret)  # type: ignore[arg-type]  # public_key() refuses other kinds


def read_public_key(path: Path) -> PublicKey:
    """Read a PEM public key.

    Raises:
        TrustInputError: Missing, or no public key of a kind that is used here.
    """
    return parse_public_key(_read_pem(path), str(path))


def parse_public_key(pem: bytes, source: str) -> PublicKey:
    """As `read_public_key`, from bytes; ``source`` names them in errors."""
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError as error:
        raise TrustInputError(MISSING_EXTRA) from error
    if b"PRIVATE KEY" in pem:
        raise TrustInputError(f"{source} holds a private key; to verify, give the .pub file")
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise TrustInputError(f"{source} is not a public key in PEM") from error
    return public_key(key, source)


def _read_pem(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_PEM + 1)
    except (OSError, ValueError) as error:
        raise TrustInputError(f"cannot read the key {path}: {error}") from error
    if len(data) > _MAX_PEM:
        raise TrustInputError(f"{path} is too large for a key in PEM")
    return data
