"""A made-up certification authority."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime.now(UTC)
YEAR = timedelta(days=365)


class Authority:
    """A CA, its own or below another one, and certificates by it."""

    def __init__(
        self,
        name: str = "Test CA",
        *,
        above: "Authority | None" = None,
        start: datetime = NOW - YEAR,
        years: float = 20,
    ) -> None:
        self.key = ec.generate_private_key(ec.SECP384R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer = above or self
        self.certificate = issuer._issue(self.name, self.key.public_key(), True, start, years)

    def _issue(
        self, subject: x509.Name, key: Any, ca: bool, start: datetime, years: float, **extra: Any
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + years * YEAR)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        for extension in extra.get("extensions", ()):
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self.key, SHA256())

    def write(self, place: Path) -> Path:
        """The CA's certificate in PEM."""
        place.write_bytes(self.certificate.public_bytes(Encoding.PEM))
        return place

    def signer(
        self,
        folder: Path,
        subject: str = "alice",
        *,
        start: datetime = NOW - timedelta(days=1),
        years: float = 1,
        signing: bool = True,
        mail: str | None = None,
    ) -> tuple[Path, Path]:
        """A new key and its certificate, as files."""
        key = ec.generate_private_key(ec.SECP256R1())
        purpose = ExtendedKeyUsageOID.CODE_SIGNING if signing else ExtendedKeyUsageOID.SERVER_AUTH
        extensions: list[Any] = [x509.ExtendedKeyUsage([purpose]), usage(signing)]
        if mail is not None:
            extensions.append(x509.SubjectAlternativeName([x509.RFC822Name(mail)]))
        made = self._issue(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]),
            key.public_key(),
            False,
            start,
            years,
            extensions=extensions,
        )
        secret, certificate = folder / f"{subject}.key", folder / f"{subject}.crt"
        secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        secret.with_suffix(".pub").write_bytes(
            key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        )
        certificate.write_bytes(made.public_bytes(Encoding.PEM))
        return secret, certificate


def usage(signing: bool) -> x509.KeyUsage:
    """For signatures only, or for key agreement only."""
    return x509.KeyUsage(
        digital_signature=signing,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=not signing,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
