"""Verifies files against a signature and a policy. Fails closed: every doubt is a `TrustError`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path

from gifthorse.core.errors import TrustError
from gifthorse.provenance.bundles import bundle_signers, is_bundle, read_bundle
from gifthorse.provenance.claims import Claim, ClaimedFile, SignatureFormat, parse_claim
from gifthorse.provenance.digests import (
    FileDigest,
    Hasher,
    Into,
    ShardHasher,
    Tree,
    digest_files,
    new_hasher,
    open_tree,
    tree_root,
)
from gifthorse.provenance.envelope import read_envelope, read_statement, valid_signers
from gifthorse.provenance.oms_claims import parse_oms
from gifthorse.provenance.places import is_below, own_name, present_signature, read_signature
from gifthorse.provenance.policy import Policy, Rule


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What was proven.

    Attributes:
        name: As signed.
        version: As signed; None if the signature does not say.
        digest: Root of the whole tree, in hex.
        algorithm: Digest of its files.
        signers: Names, in the policy, of those who signed.
        threshold: How many of them were needed.
        format: Of the signature.
        signed_at: Claimed by the signer; no proof of time.
        files: Every signed file.
    """

    name: str
    version: str | None
    digest: str
    algorithm: str
    signers: tuple[str, ...]
    threshold: int
    format: SignatureFormat
    signed_at: str | None
    files: tuple[FileDigest, ...]


def verify(
    path: Path,
    *,
    policy: Policy,
    signature: Path | None = None,
    signature_bytes: bytes | None = None,
    name: str | None = None,
    now: datetime | None = None,
) -> Verified:
    """Check that a directory or file is, byte for byte, what those whom the policy trusts signed.

    Args:
        path: Directory or file.
        policy: Who may sign what.
        signature: Signature file; default inside the directory or beside the file.
        signature_bytes: Its content, if it is at hand.
        name: The name that must have been signed. Without it, any name that the policy has a rule
            for will do: a model signed for another purpose passes.
        now: When certificates must be valid; default the clock.

    Raises:
        TrustError: Anything does not hold.
    """
    with open_tree(path) as tree:
        return verify_tree(
            tree,
            policy=policy,
            signature=signature,
            signature_bytes=signature_bytes,
            name=name,
            now=now,
        )


def verify_tree(
    tree: Tree,
    *,
    policy: Policy,
    signature: Path | None = None,
    signature_bytes: bytes | None = None,
    name: str | None = None,
    now: datetime | None = None,
    into: Into | None = None,
) -> Verified:
    """As `verify`, on an open tree; the bytes that are hashed can also be kept.

    Args:
        tree: An open tree.
        policy: As in `verify`.
        signature: As in `verify`.
        signature_bytes: As in `verify`.
        name: As in `verify`.
        now: As in `verify`.
        into: Given a file's name and size, the buffer that it is read into and hashed from. What
            is in there counts for nothing unless this function returns.
    """
    place = signature or present_signature(tree.path)
    data = read_signature(place) if signature_bytes is None else signature_bytes
    when = now or datetime.now(UTC)
    if is_bundle(data):
        claim, signers = _authenticate_bundle(data, policy, when)
        claim = _named(claim, tree)
    else:
        claim, signers = _authenticate(data, policy)
    rule = _authorise(claim, signers, policy, name)
    signers = tuple(signer for signer in signers if signer in rule.signers)
    names = _compare_names(tree, claim, (*rule.allow_unsigned, *own_name(tree.path, place)))
    found, others = _compare_contents(tree, claim, names, policy, into)
    algorithm = claim.files[0].algorithm
    root = tree_root(found, algorithm)
    _refuse_revoked(policy, {algorithm: found, **others})
    return Verified(
        name=claim.name,
        version=claim.version,
        digest=root,
        algorithm=algorithm,
        signers=signers,
        threshold=rule.threshold,
        format=claim.format,
        signed_at=claim.signed_at,
        files=tuple(found),
    )


def _authenticate_bundle(
    data: bytes, policy: Policy, now: datetime
) -> tuple[Claim, tuple[str, ...]]:
    """As `_authenticate`, for a bundle of OpenSSF Model Signing."""
    bundle = read_bundle(data)
    signers = bundle_signers(bundle, policy, now)
    return parse_oms(read_statement(bundle.payload)), signers


def _named(claim: Claim, tree: Tree) -> Claim:
    """Older bundles call a single file ".", whatever its name."""
    if tree.single and [file.name for file in claim.files] == ["."]:
        return replace(claim, files=(replace(claim.files[0], name=tree.path.name),))
    return claim


def _authenticate(data: bytes, policy: Policy) -> tuple[Claim, tuple[str, ...]]:
    """Who signed, before a word of what they signed is believed."""
    envelope = read_envelope(data)
    owners = {
        key.keyid: name for name, key in policy.keys.items() if key.keyid not in policy.revoked.keys
    }
    valid = valid_signers(envelope, list(policy.keys.values()))
    signers = tuple(owners[key.keyid] for key in valid if key.keyid in owners)
    if not signers:
        if valid:
            raise TrustError("it is signed by revoked keys only")
        known = ", ".join(keyid[:16] for keyid in envelope.signatures) or "none"
        raise TrustError(
            f"nobody who is trusted by {policy.source} has signed it (keys that signed: {known})"
        )
    return parse_claim(read_statement(envelope.payload)), signers


def _authorise(claim: Claim, signers: Sequence[str], policy: Policy, name: str | None) -> Rule:
    if name is not None and claim.name != name:
        raise TrustError(f"it was signed as {claim.name!r}, not as {name!r}")
    rule = policy.rule_for(claim.name)
    counted = [signer for signer in signers if signer in rule.signers]
    if claim.format == "oms":
        del counted[1:]  # there is one signature, under however many names it is known
    if len(counted) < rule.threshold:
        raise TrustError(
            f"{len(counted)} of the {rule.threshold} signatures that {policy.source} wants for "
            f"{claim.name!r}; valid: {', '.join(signers)}; may sign: {', '.join(rule.signers)}"
        )
    if claim.format not in rule.signatures:
        raise TrustError(
            f"a signature in the format {claim.format!r}; {policy.source} allows "
            f"{', '.join(rule.signatures)} for {claim.name!r}"
        )
    policy.check_version(rule, claim.version)
    for file in claim.files:
        if not any(fnmatchcase(file.name, pattern) for pattern in rule.files):
            raise TrustError(
                f"{file.name!r} is signed, but {policy.source} allows only "
                f"{', '.join(rule.files)} for {claim.name!r}"
            )
    return rule


def _compare_names(tree: Tree, claim: Claim, tolerated: Sequence[str]) -> list[str]:
    if claim.kind != "file or directory" and tree.single != (claim.kind == "file"):
        raise TrustError(f"the signature is for a {claim.kind}, {tree.path} is something else")
    there = set(tree.names())
    signed = {file.name for file in claim.files}
    missing = sorted(signed - there)
    extra = sorted(name for name in there - signed if not is_below(name, tolerated))
    parts = [
        f"{what}: {', '.join(map(repr, names[:5]))}{' …' if len(names) > 5 else ''}"
        for what, names in (("missing", missing), ("not signed", extra))
        if names
    ]
    if parts:
        raise TrustError(f"{tree.path} holds other files than were signed ({'; '.join(parts)})")
    return sorted(signed, key=str.encode)


def _compare_contents(
    tree: Tree,
    claim: Claim,
    names: Sequence[str],
    policy: Policy,
    into: Into | None,
) -> tuple[list[FileDigest], Mapping[str, list[FileDigest]]]:
    """Hash everything once, with the signed algorithm and those in which digests are revoked."""
    claimed = {file.name: file for file in claim.files}
    algorithm = claim.files[0].algorithm
    others = sorted({d.split(":")[0] for d in policy.revoked.digests} - {algorithm})
    limits = {n: f.size for n, f in claimed.items() if f.size is not None}

    def hashers(name: str) -> list[Hasher]:
        file = claimed[name]
        first = (
            ShardHasher(file.algorithm, file.shard_size)
            if file.shard_size is not None
            else new_hasher(file.algorithm)
        )
        return [first, *map(new_hasher, others)]

    results = digest_files(
        tree,
        names,
        hashers,
        limits=limits if len(limits) == len(names) else None,
        into=into,
    )
    changed = [n for n in names if not _matches(claimed[n], *results[n])]
    if changed:
        raise TrustError(
            f"{tree.path} was changed after it was signed: "
            f"{', '.join(map(repr, changed[:5]))}{' …' if len(changed) > 5 else ''}"
        )
    tables = [
        [FileDigest(name=n, size=results[n][0], digest=results[n][1][i]) for n in names]
        for i in range(1 + len(others))
    ]
    return tables[0], dict(zip(others, tables[1:], strict=True))


def _matches(file: ClaimedFile, size: int, digests: Sequence[str]) -> bool:
    return (file.size is None or file.size == size) and "".join(file.digests) == digests[0]


def _refuse_revoked(policy: Policy, tables: Mapping[str, Sequence[FileDigest]]) -> None:
    revoked = set(policy.revoked.digests)
    if not revoked:
        return
    for algorithm, files in tables.items():
        if f"{algorithm}:{tree_root(files, algorithm)}" in revoked:
            raise TrustError(f"{policy.source} has revoked exactly this model")
        for file in files:
            if f"{algorithm}:{file.digest}" in revoked:
                raise TrustError(f"{policy.source} has revoked the content of {file.name!r}")
