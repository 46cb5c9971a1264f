"""What an OpenSSF Model Signing statement says about files, as a `Claim`, and back."""

import hashlib
import re
from collections.abc import Sequence
from typing import Any

from gifthorse.core.errors import TrustError
from gifthorse.provenance.claims import Claim, ClaimedFile, check_hex, check_model_name
from gifthorse.provenance.digests import DIGEST_SIZE, FileDigest
from gifthorse.provenance.envelope import make_statement
from gifthorse.provenance.names import check_names

OMS_PREDICATE = "https://model_signing/signature/v1.0"
NEVER_SIGNED = (".git", ".gitattributes", ".github", ".gitignore")
"""What the specification leaves out of every signature."""
_SHARD = re.compile(r"(.+):(\d{1,19}):(\d{1,19})", re.DOTALL)
_MAX_SHARDS = 1_000_000


def oms_statement(
    files: Sequence[FileDigest], *, name: str, algorithm: str, ignored: Sequence[str]
) -> dict[str, Any]:
    """The statement that signs these files; ``ignored`` are names that lie there unsigned."""
    check_model_name(name)
    ordered = sorted(files, key=lambda file: file.name)
    return make_statement(
        subject=[{"name": name, "digest": {"sha256": _root([f.digest for f in ordered])}}],
        predicate_type=OMS_PREDICATE,
        predicate={
            "serialization": {
                "method": "files",
                "hash_type": algorithm,
                "allow_symlinks": False,
                "ignore_paths": sorted({*ignored, *NEVER_SIGNED}),
            },
            "resources": [
                {"name": f.name, "algorithm": algorithm, "digest": f.digest} for f in ordered
            ],
        },
    )


def _root(digests: Sequence[str]) -> str:
    return hashlib.sha256(b"".join(map(bytes.fromhex, digests))).hexdigest()


def parse_oms(statement: dict[str, Any]) -> Claim:
    """Read a statement whose signature was verified.

    Raises:
        TrustError: It is of another version, or contradicts itself.
    """
    if statement["predicateType"] != OMS_PREDICATE:
        raise TrustError(f"the bundle signs {statement['predicateType']!r}, not {OMS_PREDICATE}")
    subject, predicate = statement["subject"], statement["predicate"]
    how, resources = predicate.get("serialization"), predicate.get("resources")
    if len(subject) != 1 or not isinstance(how, dict) or not isinstance(resources, list):
        raise TrustError("the bundle's statement lacks its subject, serialization or resources")
    method, algorithm = how.get("method"), how.get("hash_type")
    if method not in ("files", "shards") or algorithm not in tuple(DIGEST_SIZE):
        raise TrustError(f"files are hashed by {method!r} and {algorithm!r}, which is not known")
    if how.get("allow_symlinks") is not False:
        raise TrustError("the bundle was signed through symbolic links, which are never trusted")
    name = subject[0].get("name")
    if not isinstance(name, str):
        raise TrustError("the bundle's statement names no subject")
    check_model_name(name)
    # The package writes 1000.0 for 1000, and the size into the algorithm of a shard; the
    # specification does neither.
    size = how.get("shard_size")
    if isinstance(size, float) and size.is_integer():
        size = int(size)
    spelt = (algorithm,) if method == "files" else (algorithm, f"{algorithm}-sharded-{size}")
    pairs = [_resource(entry, algorithm, spelt) for entry in resources]
    if not pairs:
        raise TrustError("the bundle signs no files")
    if subject[0]["digest"].get("sha256") != _root([digest for _, digest in pairs]):
        raise TrustError("the bundle contradicts itself: its root is not that of its files")
    files = (
        [ClaimedFile(name=n, size=None, algorithm=algorithm, digests=(d,)) for n, d in pairs]
        if method == "files"
        else _sharded(pairs, algorithm, size)
    )
    if [file.name for file in files] != ["."]:  # how older versions write a single file
        check_names(file.name for file in files)
    return Claim(
        name=name,
        version=None,
        kind="file or directory" if len(files) == 1 else "directory",
        files=tuple(files),
        signed_at=None,
        format="oms",
    )


def _resource(entry: Any, algorithm: str, spelt: Sequence[str]) -> tuple[str, str]:
    if not isinstance(entry, dict) or entry.get("algorithm") not in spelt:
        raise TrustError("the bundle lists a file whose algorithm is not that of the whole")
    name, digest = entry.get("name"), entry.get("digest")
    if not isinstance(name, str) or not isinstance(digest, str):
        raise TrustError("the bundle lists a file without name or digest")
    check_hex(digest, algorithm)
    return name, digest


def _sharded(pairs: list[tuple[str, str]], algorithm: str, size: object) -> list[ClaimedFile]:
    if type(size) is not int or not 0 < size < 1 << 63 or len(pairs) > _MAX_SHARDS:
        raise TrustError("the bundle names no proper shard_size")
    parts: dict[str, list[tuple[int, int, str]]] = {}
    for text, digest in pairs:
        found = _SHARD.fullmatch(text)
        if found is None:
            raise TrustError(f"{text[:80]!r} is no name of a shard")
        parts.setdefault(found[1], []).append((int(found[2]), int(found[3]), digest))
    files = []
    for name, shards in parts.items():
        shards.sort()
        end = shards[-1][1]
        expected = ((i * size, min((i + 1) * size, end)) for i in range(len(shards)))
        if len(shards) != -(-end // size) or [(a, b) for a, b, _ in shards] != list(expected):
            raise TrustError(f"the shards of {name[:80]!r} leave gaps or overlap")
        digests = tuple(digest for *_, digest in shards)
        files.append(
            ClaimedFile(name=name, size=end, algorithm=algorithm, digests=digests, shard_size=size)
        )
    return files
