"""Keys: files, passphrases, other kinds, and openssl's opinion."""

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from gifthorse.core.errors import TrustInputError
from gifthorse.provenance.keys import (
    NewKind,
    generate_key,
    parse_public_key,
    read_private_key,
    read_public_key,
    write_key,
)


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa-p256"])
@pytest.mark.parametrize("passphrase", [None, "correct horse"])
def test_keys_survive_their_files(kind: NewKind, passphrase: str | None, tmp_path: Path) -> None:
    key = generate_key(kind)
    private, public = write_key(key, tmp_path / "sub" / "key", passphrase=passphrase)
    assert read_private_key(private, passphrase=passphrase).public == key.public
    assert read_public_key(public) == key.public
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert (b"ENCRYPTED" in private.read_bytes()) == (passphrase is not None)
    # Plain cryptography reads them too.
    load_pem_public_key(public.read_bytes())
    load_pem_private_key(private.read_bytes(), passphrase.encode() if passphrase else None)


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    write_key(generate_key(), tmp_path / "key")
    before = (tmp_path / "key").read_bytes()
    with pytest.raises(TrustInputError, match="never overwritten"):
        write_key(generate_key(), tmp_path / "key")
    (tmp_path / "other.pub").symlink_to(tmp_path / "nowhere")
    with pytest.raises(TrustInputError, match="never overwritten"):
        write_key(generate_key(), tmp_path / "other")
    assert not (tmp_path / "other").exists()
    assert (tmp_path / "key").read_bytes() == before


def test_wrong_missing_and_superfluous_passphrases(tmp_path: Path) -> None:
    locked, _ = write_key(generate_key(), tmp_path / "locked", passphrase="right")
    plain, _ = write_key(generate_key(), tmp_path / "plain")
    with pytest.raises(TrustInputError, match="passphrase is wrong"):
        read_private_key(locked, passphrase="wrong")
    with pytest.raises(TrustInputError, match="needs a passphrase"):
        read_private_key(locked)
    with pytest.raises(TrustInputError, match="not encrypted"):
        read_private_key(plain, passphrase="any")
    with pytest.raises(TrustInputError, match="empty"):
        write_key(generate_key(), tmp_path / "new", passphrase="")


def test_what_is_no_usable_key_is_refused(tmp_path: Path) -> None:
    pem = (
        rsa.generate_private_key(65537, 2048)
        .public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    with pytest.raises(TrustInputError, match="kind that is not used"):
        parse_public_key(pem, "rsa")
    private, public = write_key(generate_key(), tmp_path / "key")
    with pytest.raises(TrustInputError, match="private key"):
        read_public_key(private)
    with pytest.raises(TrustInputError, match="not a private key"):
        read_private_key(public)
    for content in (b"", b"garbage", b"\xff" * 100, b"x" * 100_000):
        (tmp_path / "bad").write_bytes(content)
        with pytest.raises(TrustInputError):
            read_public_key(tmp_path / "bad")
        with pytest.raises(TrustInputError):
            read_private_key(tmp_path / "bad")
    with pytest.raises(TrustInputError, match="cannot read"):
        read_public_key(tmp_path / "absent")
