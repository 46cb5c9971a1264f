"""What a manifest says of one training sample, and the leaf that stands for it.

A leaf is H(0x00 ‖ id ‖ contributor ‖ label ‖ content digest), each part behind its length in four
bytes, so that no two samples share one: ``("ab", "c")`` is not ``("a", "bc")``.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from gifthorse.core.errors import DataError

MOST_TEXT = 65_536
"""Bytes that an id, a contributor's name or a label may have."""


class Sample(NamedTuple):
    """One training sample.

    Attributes:
        id: What it is called in its data set, such as ``stop/0001.png``.
        contributor: Who supplied it; empty if nobody says.
        label: Its label as text; empty if it has none.
        digest: SHA-256 of its content, 32 bytes.
    """

    id: str
    contributor: str
    label: str
    digest: bytes


def leaf_entry(sample: Sample) -> bytes:
    """The bytes that the leaf hash is taken of, without the leading zero byte."""
    return (
        _with_length(sample.id)
        + _repeated(sample.contributor)
        + _repeated(sample.label)
        + b"\x00\x00\x00\x20"
        + sample.digest
    )


def sample_leaf(sample: Sample) -> bytes:
    """The leaf hash of a sample, 32 bytes."""
    # The body of leaf_entry again, because this runs a million times.
    identity, contributor, label, digest = sample
    content = identity.encode("utf-8", "surrogatepass")
    return hashlib.sha256(
        b"\x00%b%b%b%b\x00\x00\x00\x20%b"
        % (len(content).to_bytes(4), content, _repeated(contributor), _repeated(label), digest)
    ).digest()


def contributor_leaf(name: str, size: int, root: bytes) -> bytes:
    """The leaf hash of a contributor in the tree of a data set: name, samples, root of them."""
    entry = b"contributor\x00" + _with_length(name) + size.to_bytes(8, "big") + root
    return hashlib.sha256(b"\x00" + entry).digest()


def content_digest(parts: Sequence[tuple[str, bytes]]) -> bytes:
    """The digest of a sample from the names and SHA-256 digests of what it consists of.

    One part keeps its own, so that a picture has the same digest in a folder, a tar archive and a
    Parquet file. The names and digests of several are hashed together.
    """
    if len(parts) == 1:
        return parts[0][1]
    whole = hashlib.sha256(b"gifthorse parts 1\0")
    for name, digest in sorted(parts):
        whole.update(_with_length(name) + digest)
    return whole.digest()


def checked(samples: Iterable[Sample]) -> Iterator[Sample]:
    """Samples as they are, after a look at each.

    Raises:
        DataError: An empty id, a text that is too long, or a digest that is not of 32 bytes.
    """
    for number, sample in enumerate(samples):
        longest = max(len(sample.id), len(sample.contributor), len(sample.label))
        if not sample.id or longest > MOST_TEXT or len(sample.digest) != 32:
            raise DataError(
                f"sample {number} ({sample.id[:80]!r}): expected an id, at most {MOST_TEXT} "
                "characters in each of id, contributor and label, and a digest of 32 bytes"
            )
        yield sample


def _with_length(text: str) -> bytes:
    # Names of files may hold bytes that are no UTF-8; Python keeps them as lone surrogates.
    content = text.encode("utf-8", errors="surrogatepass")
    return len(content).to_bytes(4, "big") + content


_repeated = lru_cache(maxsize=4096)(_with_length)
