"""What a signature says about files, however it was written down."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from gifthorse.core.errors import TrustError
from gifthorse.provenance.digests import ALGORITHMS, DIGEST_SIZE, FileDigest, tree_root
from gifthorse.provenance.envelope import make_statement
from gifthorse.provenance.names import check_names

PREDICATE_TYPE = "urn:gifthorse:signed-files:1"
ROOT = "gifthorseTree1"  # name of our directory digest in an in-toto DigestSet
MAX_NAME = 200
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/@+-]*")
_FIELDS = {"version", "kind", "algorithm", "signedAt", "files"}
SignatureFormat = Literal["dsse", "oms"]


@dataclass(frozen=True, kw_only=True)
class ClaimedFile:
    """One file as its signer saw it.

    Attributes:
        name: Relative to the root, with ``/``.
        size: In bytes; None if the format does not say.
        digests: One for the whole file, or one for each ``shard_size`` bytes of it; hex.
        shard_size: In bytes; None for a digest of the whole file.
    """

    name: str
    size: int | None
    algorithm: str
    digests: tuple[str, ...]
    shard_size: int | None = None


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A statement about a set of files. It is worth what its signatures are worth."""

    name: str
    version: str | None
    kind: Literal["directory", "file", "file or directory"]
    files: tuple[ClaimedFile, ...]
    signed_at: str | None
    format: SignatureFormat


def claim_statement(
    files: Sequence[FileDigest],
    *,
    name: str,
    version: str | None,
    kind: Literal["directory", "file"],
    algorithm: str,
    signed_at: datetime,
) -> dict[str, Any]:
    """The in-toto statement that signs these files."""
    check_model_name(name)
    digest = {ROOT: tree_root(files, algorithm)}
    if kind == "file" and algorithm == "sha256":
        digest["sha256"] = files[0].digest
    return make_statement(
        subject=[{"name": name, "digest": digest}],
        predicate_type=PREDICATE_TYPE,
        predicate={
            "version": version,
            "kind": kind,
            "algorithm": algorithm,
            "signedAt": signed_at.isoformat(timespec="seconds"),
            "files": [{"name": f.name, "size": f.size, "digest": f.digest} for f in files],
        },
    )


def parse_claim(statement: dict[str, Any]) -> Claim:
    """Read a statement that `claim_statement` made and whose signatures were verified.

    Raises:
        TrustError: It says something else, or contradicts itself.
    """
    if statement["predicateType"] != PREDICATE_TYPE:
        raise TrustError(
            f"the signature is about {statement['predicateType']!r}, not about files "
            f"({PREDICATE_TYPE})"
        )
    subject, predicate = statement["subject"], statement["predicate"]
    if len(subject) != 1 or set(predicate) != _FIELDS:
        raise TrustError("the signed statement has other fields than version 1 of its format")
    name, version = subject[0].get("name"), predicate["version"]
    kind, algorithm = predicate["kind"], predicate["algorithm"]
    signed_at = predicate["signedAt"]
    if not (
        isinstance(name, str)
        and isinstance(version, str | None)
        and kind in ("directory", "file")
        and algorithm in ALGORITHMS
        and isinstance(signed_at, str)
        and isinstance(predicate["files"], list)
    ):
        raise TrustError("the signed statement holds a value of the wrong kind")
    check_model_name(name)
    files = [_file(entry, algorithm) for entry in predicate["files"]]
    if not files or (kind == "file" and len(files) != 1):
        raise TrustError(f"the signed statement lists {len(files)} files for a {kind}")
    check_names(f.name for f in files)
    if subject[0]["digest"].get(ROOT) != tree_root(files, algorithm):
        raise TrustError(
            "the signed statement contradicts itself: its root is not that of its files"
        )
    claimed = tuple(
        ClaimedFile(name=f.name, size=f.size, algorithm=algorithm, digests=(f.digest,))
        for f in files
    )
    return Claim(
        name=name, version=version, kind=kind, files=claimed, signed_at=signed_at, format="dsse"
    )


def _file(entry: Any, algorithm: str) -> FileDigest:
    if not isinstance(entry, dict) or set(entry) != {"name", "size", "digest"}:
        raise TrustError("the signed statement lists a file without name, size or digest")
    name, size, digest = entry["name"], entry["size"], entry["digest"]
    if not (
        isinstance(name, str)
        and type(size) is int
        and 0 <= size < 1 << 63
        and isinstance(digest, str)
    ):
        raise TrustError("the signed statement lists a file with a value of the wrong kind")
    check_hex(digest, algorithm)
    return FileDigest(name=name, size=size, digest=digest)


def check_hex(digest: str, algorithm: str) -> None:
    """Refuse what is no digest of this algorithm in lower-case hexadecimal.

    Raises:
        TrustError: It is not.
    """
    size = DIGEST_SIZE.get(algorithm)
    if size is None or not re.fullmatch(f"[0-9a-f]{{{2 * size}}}", digest):
        raise TrustError(f"{digest[:80]!r} is no {algorithm} digest")


def check_model_name(name: str) -> None:
    """Refuse names of models that a policy could not match safely.

    Raises:
        TrustError: Empty, long, or with characters other than letters, digits and ``._/@+-``.
    """
    if not (len(name) <= MAX_NAME and _NAME.fullmatch(name)) or ".." in name.split("/"):
        raise TrustError(
            f"{name[:80]!r} is no name for a model; expected letters, digits and ._/@+-, at most "
            f"{MAX_NAME} characters (choose one with --name)"
        )
