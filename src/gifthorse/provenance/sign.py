"""Signs a model, a data set or a single file."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from packaging.version import InvalidVersion, Version

from gifthorse.core.errors import TrustError, TrustInputError
from gifthorse.provenance.authorities import certified_key, read_certificates
from gifthorse.provenance.bundles import seal_bundle
from gifthorse.provenance.claims import check_model_name, claim_statement
from gifthorse.provenance.digests import (
    Algorithm,
    FileDigest,
    Tree,
    digest_files,
    new_hasher,
    open_tree,
    tree_root,
)
from gifthorse.provenance.envelope import add_signatures, canonical, read_envelope, seal
from gifthorse.provenance.keys import PrivateKey
from gifthorse.provenance.oms_claims import NEVER_SIGNED, oms_statement
from gifthorse.provenance.places import (
    bundle_place,
    default_signature,
    is_below,
    own_name,
    read_signature,
    write_atomically,
)
from gifthorse.provenance.policy import policy_for_keys
from gifthorse.provenance.verify import verify


@dataclass(frozen=True, kw_only=True)
class Signed:
    """What was signed: where the signature is, the name in it, the root digest (hex), the files."""

    signature: Path
    name: str
    version: str | None
    digest: str
    algorithm: str
    files: tuple[FileDigest, ...]
    keyid: str


def sign(
    path: Path,
    *,
    key: PrivateKey,
    name: str | None = None,
    version: str | None = None,
    algorithm: Algorithm = "sha256",
    signature: Path | None = None,
    exclude: Sequence[str] = (),
    replace: bool = False,
    now: datetime | None = None,
) -> Signed:
    """Sign every file of a directory, or one file.

    Args:
        path: Directory or file.
        key: Who signs.
        name: What the signed thing is called; policies refer to it. Default: its file name.
        version: PEP 440, so that policies can refuse older ones.
        algorithm: Digest of the files.
        signature: Where to write; default `default_signature`.
        exclude: Files or directories in it that are left unsigned. Verification refuses them
            unless it is told the same.
        replace: Overwrite an existing signature.
        now: Time of signing as the signer claims it; default the clock.

    Raises:
        TrustError: Something in it cannot be signed.
        TrustInputError: No such path, an unusable name or version, or the signature exists already.
    """
    target = signature or default_signature(path)
    if target.exists() and not replace:
        raise TrustInputError(
            f"{target} exists; --replace signs anew, --add adds a signature to it"
        )
    _check_version(version)
    called = _called(path, name)
    with open_tree(path) as tree:
        names = [n for n in tree.names() if not is_below(n, (*exclude, *own_name(path, target)))]
        if not names:
            raise TrustError(f"{path} holds no files to sign")
        files = _digests(tree, names, algorithm)
        single = tree.single
    statement = claim_statement(
        files,
        name=called,
        version=version,
        kind="file" if single else "directory",
        algorithm=algorithm,
        signed_at=now or datetime.now(UTC),
    )
    write_atomically(target, seal(statement, [key]))
    return Signed(
        signature=target,
        name=statement["subject"][0]["name"],
        version=version,
        digest=tree_root(files, algorithm),
        algorithm=algorithm,
        files=tuple(files),
        keyid=key.public.keyid,
    )


def sign_bundle(
    path: Path,
    *,
    key: PrivateKey,
    certificate: Path | None = None,
    chain: Path | None = None,
    name: str | None = None,
    algorithm: Algorithm = "sha256",
    signature: Path | None = None,
    exclude: Sequence[str] = (),
    replace: bool = False,
) -> Signed:
    """As `sign`, but writes an OpenSSF Model Signing bundle, which ``model_signing`` verifies.

    It allows one signature, and no version.

    Args:
        path: Directory or file.
        key: ECDSA.
        certificate: Of that key, in PEM; then the bundle names it instead of the key.
        chain: Certificates in PEM that lead from it to the CA.
        name: As in `sign`.
        algorithm: As in `sign`.
        signature: Where to write; default ``model.sig`` in a directory, ``FILE.sig`` for a file.
        exclude: As in `sign`.
        replace: As in `sign`.

    Raises:
        TrustError: As in `sign`; or files that the specification never signs (``.git`` …) are
            there and were not excluded.
        TrustInputError: As in `sign`; or the certificate is not that of the key.
    """
    target = signature or bundle_place(path)
    if target.exists() and not replace:
        raise TrustInputError(f"{target} exists; --replace signs anew")
    certificates = _chain(key, certificate, chain)
    called = _called(path, name)
    with open_tree(path) as tree:
        own = own_name(path, target)
        names = [n for n in tree.names() if not is_below(n, (*exclude, *own))]
        left_out = [n for n in names if is_below(n, NEVER_SIGNED)]
        if left_out:
            raise TrustError(
                f"OpenSSF Model Signing never signs {left_out[0]!r}; remove it, or leave it "
                "unsigned with --exclude"
            )
        if not names:
            raise TrustError(f"{path} holds no files to sign")
        files = _digests(tree, names, algorithm)
    statement = oms_statement(
        files,
        name=called,
        algorithm=algorithm,
        ignored=(*exclude, *own),
    )
    write_atomically(target, canonical(seal_bundle(canonical(statement), key, certificates)))
    return Signed(
        signature=target,
        name=statement["subject"][0]["name"],
        version=None,
        digest=tree_root(files, algorithm),
        algorithm=algorithm,
        files=tuple(files),
        keyid=key.public.keyid,
    )


def _called(path: Path, name: str | None) -> str:
    found = Path(os.path.realpath(path)).name if name is None else name
    try:
        check_model_name(found)
    except TrustError as error:  # here it is the question that is wrong
        raise TrustInputError(str(error)) from error
    return found


def _check_version(version: str | None) -> None:
    try:
        if version is not None:
            Version(version)
    except InvalidVersion as error:
        raise TrustInputError(
            f"{version!r} is no version that a policy could compare; expected something like 1.2 "
            "or 2.0rc1 (PEP 440)"
        ) from error


def _chain(key: PrivateKey, certificate: Path | None, chain: Path | None) -> list[bytes]:
    if certificate is None:
        if chain is not None:
            raise TrustInputError("a chain needs the certificate that it belongs to")
        return []
    from cryptography.hazmat.primitives.serialization import Encoding

    own = read_certificates(certificate)[0]
    if certified_key(own).keyid != key.public.keyid:
        raise TrustInputError(f"{certificate} is not a certificate of this key")
    others = () if chain is None else read_certificates(chain)
    return [one.public_bytes(Encoding.DER) for one in (own, *others)]


def countersign(path: Path, *, key: PrivateKey, signature: Path | None = None) -> Path:
    """Add a signature to an existing one, after checking that the files are what it says.

    This is how N of M people sign one model. Who signed before is not judged here: a policy does.

    Raises:
        TrustError: The files differ from the statement, or this key has signed it already.
    """
    target = signature or default_signature(path)
    data = add_signatures(read_signature(target), [key])
    if key.public.keyid in read_envelope(read_signature(target)).signatures:
        raise TrustError(f"{target} already holds a signature of this key")
    # The whole check, with our own new signature as the one that is trusted.
    verify(path, policy=policy_for_keys([key.public]), signature=target, signature_bytes=data)
    write_atomically(target, data)
    return target


def _digests(tree: Tree, names: Sequence[str], algorithm: Algorithm) -> list[FileDigest]:
    new_hasher(algorithm)  # a missing library is an error before work starts
    found = digest_files(tree, names, lambda _: [new_hasher(algorithm)])
    return [FileDigest(name=n, size=found[n][0], digest=found[n][1][0]) for n in names]
