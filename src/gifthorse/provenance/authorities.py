"""Signers who are known by a certificate or by an identity, instead of by a key.

A certificate counts only if its chain ends in the CA that the policy names, every certificate in it
is valid *now* (the time of signing is what the signer says, so an expired certificate proves
nothing), it is meant for signing, and its subject is the one that the policy names. Without the
last, everybody whom that CA ever certified could sign.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gifthorse.core.errors import TrustError, TrustInputError
from gifthorse.provenance.keys import PublicKey, public_key

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_MAX_BYTES = 1 << 20
MISSING = 'certificates and identities need more; run: pip install "gifthorse[signing]"'


@dataclass(frozen=True, kw_only=True)
class CertifiedSigner:
    """Someone who holds a certificate of a CA.

    Attributes:
        ca: Certificates that are trusted, each able to end a chain.
        subject: Common name, an alternative name (mail, DNS, URI), or the whole subject (RFC 4514).
    """

    ca: "tuple[Certificate, ...]"
    subject: str


@dataclass(frozen=True, kw_only=True)
class IdentifiedSigner:
    """Someone who signs without a key of their own, known to an OpenID provider (sigstore).

    Attributes:
        identity: Mail address or URI in the short-lived certificate.
        issuer: URL of the provider that vouched for it.
        trust_root: File with a sigstore ``trusted_root.json`` or client trust configuration; None
            for the public instance's, as it came with the sigstore package. Never fetched.
    """

    identity: str
    issuer: str
    trust_root: Path | None


def read_certificates(path: Path) -> "tuple[Certificate, ...]":
    """Certificates from a PEM file.

    Raises:
        TrustInputError: Missing, or none in it.
    """
    try:
        from cryptography.x509 import load_pem_x509_certificates
    except ImportError as error:
        raise TrustInputError(MISSING) from error
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise TrustInputError(f"cannot read the certificates {path}: {error}") from error
    try:
        if len(data) > _MAX_BYTES:
            raise ValueError("too large")
        return tuple(load_pem_x509_certificates(data))
    except _unusable() as error:
        raise TrustInputError(f"{path} holds no certificate in PEM") from error


def _unusable(*more: type[Exception]) -> tuple[type[Exception], ...]:
    """What the cryptography library raises for certificates that are none; not all one family."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.utils import CryptographyDeprecationWarning
    from cryptography.x509 import DuplicateExtension, InvalidVersion, UnsupportedGeneralNameType

    found = (DuplicateExtension, InvalidVersion, UnsupportedGeneralNameType, UnsupportedAlgorithm)
    return (*more, *found, CryptographyDeprecationWarning, ValueError, TypeError)


def parse_chain(chain: list[bytes]) -> "list[Certificate]":
    """Certificates in DER, the signer's first.

    Raises:
        TrustError: None, or one that cannot be read.
    """
    from cryptography.x509 import load_der_x509_certificate

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what the library will refuse later is refused now
            found = [load_der_x509_certificate(one) for one in chain]
    except _unusable() as error:
        raise TrustError("the signature holds a certificate that cannot be read") from error
    if not found:
        raise TrustError("the signature holds no certificate")
    return found


def certified_key(certificate: "Certificate") -> PublicKey:
    """The key in a certificate.

    Raises:
        TrustError: It is of a kind that is not used here.
    """
    try:
        return public_key(certificate.public_key(), "the signer's certificate")
    except _unusable(TrustInputError) as error:
        raise TrustError(f"the signer's certificate is of no use here: {error}") from error


def refusal(chain: "list[Certificate]", signer: CertifiedSigner, now: datetime) -> str | None:
    """Why a chain does not show that this signer signed; None if it does.

    Args:
        chain: The signer's certificate, then others that may lead to the CA.
        signer: Who is expected.
        now: When all certificates must be valid.
    """
    from OpenSSL.crypto import X509, Error, X509Store, X509StoreContext, X509StoreContextError

    leaf = chain[0]
    try:
        for one in (leaf, *signer.ca):
            if not one.not_valid_before_utc <= now <= one.not_valid_after_utc and one is leaf:
                return (
                    f"the certificate is valid from {leaf.not_valid_before_utc:%Y-%m-%d} to "
                    f"{leaf.not_valid_after_utc:%Y-%m-%d}, not on {now:%Y-%m-%d}"
                )
        store = X509Store()
        store.set_time(now)
        for one in signer.ca:
            store.add_cert(X509.from_cryptography(one))
        others = [X509.from_cryptography(one) for one in chain[1:]]
        X509StoreContext(store, X509.from_cryptography(leaf), others).verify_certificate()
        if signer.subject not in subjects(leaf):
            return f"the certificate is for {', '.join(subjects(leaf))}, not for {signer.subject}"
        return None if _may_sign(leaf) else "the certificate is not meant for signing"
    except X509StoreContextError as error:
        return f"the certificate does not lead to the CA: {error}"
    except _unusable(Error) as error:
        return f"the certificate cannot be used: {error}"


def subjects(certificate: "Certificate") -> list[str]:
    """Every name that a certificate is for."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    names = [certificate.subject.rfc4514_string()]
    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    # One who is called "CN=alice" must not pass for the whole subject of alice.
    names += [str(one.value) for one in common if "=" not in str(one.value)]
    alternative = _extension(certificate, x509.SubjectAlternativeName)
    if alternative is not None:
        for kind in (x509.RFC822Name, x509.DNSName, x509.UniformResourceIdentifier):
            names += [str(name) for name in alternative.get_values_for_type(kind)]
    return [name for name in dict.fromkeys(names) if name]


def _may_sign(certificate: "Certificate") -> bool:
    """Digital signatures, and code where the certificate says for what."""
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID as Purpose

    usage = _extension(certificate, x509.KeyUsage)
    purposes = _extension(certificate, x509.ExtendedKeyUsage)
    if usage is None and purposes is None:
        return False
    allowed = {Purpose.CODE_SIGNING, Purpose.ANY_EXTENDED_KEY_USAGE}
    return (usage is None or usage.digital_signature) and (
        purposes is None or any(purpose in allowed for purpose in purposes)
    )


def _extension(certificate: "Certificate", kind: Any) -> Any:
    from cryptography.x509 import ExtensionNotFound

    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except ExtensionNotFound:
        return None


def identified(bundle: bytes, signer: IdentifiedSigner) -> tuple[str, bytes]:
    """Check a keyless bundle offline; payload type and payload.

    Raises:
        TrustError: It does not hold: signature, certificate, transparency log, identity or issuer.
        TrustInputError: sigstore is not installed, or the trust root cannot be read.
    """
    try:
        from sigstore.models import Bundle, ClientTrustConfig
        from sigstore.verify import Verifier
        from sigstore.verify.policy import Identity
    except ImportError as error:
        raise TrustInputError(MISSING) from error
    try:
        if signer.trust_root is None:
            with _without("sigstore._internal.tuf"):  # says each time that it is offline
                trusted = ClientTrustConfig.production(offline=True).trusted_root
        else:
            trusted = _trust_root(signer.trust_root)
    # Whatever is wrong with it, the trust root is part of the question.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise TrustInputError(f"the sigstore trust root cannot be read: {reason}") from error
    policy = Identity(identity=signer.identity, issuer=signer.issuer)
    try:
        kind, payload = Verifier(trusted_root=trusted).verify_dsse(Bundle.from_json(bundle), policy)
    # sigstore raises errors of five families without a common base.
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise TrustError(f"{signer.identity} did not sign this: {reason}") from error
    return str(kind), bytes(payload)


@contextmanager
def _without(logger: str) -> Iterator[None]:
    """What a logger says is not shown meanwhile."""
    silent = logging.Filter("nothing is called like this")
    logging.getLogger(logger).addFilter(silent)
    try:
        yield
    finally:
        logging.getLogger(logger).removeFilter(silent)


def _trust_root(path: Path) -> Any:
    from sigstore.models import ClientTrustConfig, TrustedRoot

    text = path.read_text(encoding="utf-8")
    if "clienttrustconfig" in text[:2000]:
        return ClientTrustConfig.from_json(text).trusted_root
    return TrustedRoot.from_file(str(path))
