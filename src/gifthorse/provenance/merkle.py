"""The Merkle tree of Certificate Transparency: RFC 6962, section 2.1, over SHA-256.

A root of 32 bytes stands for a list of any length. An *inclusion proof* shows that one entry is in
the list, a *consistency proof* that an older list is the beginning of a newer one; both take about
log₂ n hashes, and whoever checks them needs nothing but the roots.
"""

import hashlib
from collections.abc import Iterable, Sequence

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()

_sha256 = hashlib.sha256
_CHUNK = 1024  # leaves that a frontier keeps before it hashes them; a power of two


def leaf_hash(entry: bytes) -> bytes:
    """H(0x00 ‖ entry)."""
    return _sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """H(0x01 ‖ left ‖ right)."""
    return _sha256(b"\x01" + left + right).digest()


class Tree:
    """A tree that only grows. It keeps every complete node: about 64 bytes a leaf.

    ``levels[k]`` holds, one after the other, the hashes of the complete subtrees of 2ᵏ leaves.
    """

    __slots__ = ("_levels",)

    def __init__(self, hashes: Iterable[bytes] = ()) -> None:
        self._levels: list[bytearray] = [bytearray()]
        self.extend(hashes)

    def __len__(self) -> int:
        return len(self._levels[0]) // HASH_BYTES

    def extend(self, hashes: Iterable[bytes]) -> None:
        """Add leaf *hashes* (32 bytes each, see ``leaf_hash``) at the end."""
        self._levels[0] += b"".join(hashes)
        level = 0
        while True:
            below = self._levels[level]
            complete = len(below) // (2 * HASH_BYTES)
            if level + 1 == len(self._levels):
                if not complete:
                    return
                self._levels.append(bytearray())
            above = self._levels[level + 1]
            first = len(above) // HASH_BYTES
            view = bytes(below[first * 64 : complete * 64])
            above += b"".join(
                [_sha256(b"\x01" + view[i : i + 64]).digest() for i in range(0, len(view), 64)]
            )
            level += 1

    def leaf(self, index: int) -> bytes:
        """The hash of one leaf, ``index`` in [0, len)."""
        return bytes(self._levels[0][index * HASH_BYTES : (index + 1) * HASH_BYTES])

    def root(self, size: int | None = None) -> bytes:
        """The root of the first ``size`` leaves; of all, unless told.

        Raises:
            ValueError: There are not so many.
        """
        end = len(self) if size is None else size
        if not 0 <= end <= len(self):
            raise ValueError(f"the tree has {len(self)} leaves, not {end}")
        return self._range(0, end) if end else EMPTY_ROOT

    def inclusion(self, index: int) -> list[bytes]:
        """The audit path of a leaf: the siblings on its way to the root, lowest first.

        Raises:
            ValueError: There is no such leaf.
        """
        if not 0 <= index < len(self):
            raise ValueError(f"the tree has {len(self)} leaves, none at {index}")
        path: list[bytes] = []
        start, end = 0, len(self)
        while end - start > 1:
            split = start + _largest_power_below(end - start)
            if index < split:
                path.append(self._range(split, end))
                end = split
            else:
                path.append(self._range(start, split))
                start = split
        return path[::-1]

    def consistency(self, old: int) -> list[bytes]:
        """The proof that the first ``old`` leaves are the beginning of all of them.

        Raises:
            ValueError: Not 0 < old ≤ len.
        """
        if not 0 < old <= len(self):
            raise ValueError(f"no consistency from {old} to {len(self)} leaves")
        proof: list[bytes] = []
        start, end, whole = 0, len(self), True
        # SUBPROOF(m, D[start:end], whole) of the RFC, with the recursion unrolled.
        while old != end:
            split = start + _largest_power_below(end - start)
            if old <= split:
                proof.append(self._range(split, end))
                end = split
            else:
                proof.append(self._range(start, split))
                start, whole = split, False
        if not whole:
            proof.append(self._range(start, end))
        return proof[::-1]

    def _range(self, start: int, end: int) -> bytes:
        """The root of leaves [start, end).

        Cuts fall where those of the RFC do, so the node of a range of 2ᵏ leaves is in a level.
        """
        count = end - start
        if count & (count - 1) == 0:
            level = count.bit_length() - 1
            place = (start >> level) * HASH_BYTES
            return bytes(self._levels[level][place : place + HASH_BYTES])
        split = start + _largest_power_below(count)
        return node_hash(self._range(start, split), self._range(split, end))


class Frontier:
    """The root of a growing list in memory of order log n: for those who need no proofs."""

    __slots__ = ("_peaks", "_pending", "size")

    def __init__(self) -> None:
        self.size = 0
        self._peaks: list[tuple[int, bytes]] = []  # roots of complete subtrees, largest first
        self._pending: list[bytes] = []

    def add(self, leaf: bytes) -> None:
        """Add one leaf hash at the end."""
        self.size += 1
        self._pending.append(leaf)
        if len(self._pending) == _CHUNK:
            level, here = _CHUNK.bit_length() - 1, Tree(self._pending).root()
            self._pending.clear()
            while self._peaks and self._peaks[-1][0] == level:
                here = node_hash(self._peaks.pop()[1], here)
                level += 1
            self._peaks.append((level, here))

    def root(self) -> bytes:
        """The root of what was added so far."""
        parts = [peak for _, peak in self._peaks]
        if self._pending:
            parts.append(Tree(self._pending).root())
        if not parts:
            return EMPTY_ROOT
        here = parts.pop()
        while parts:
            here = node_hash(parts.pop(), here)
        return here


def root_from_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """The root that an audit path leads to; None if it has the wrong length (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return None
    node, last, here = index, size - 1, leaf
    for sibling in path:
        if last == 0 or len(sibling) != HASH_BYTES:
            return None
        if node & 1 or node == last:
            here = node_hash(sibling, here)
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            here = node_hash(here, sibling)
        node >>= 1
        last >>= 1
    return here if last == 0 else None


def consistent(
    old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]
) -> bool:
    """Whether a consistency proof holds (RFC 9162, 2.1.4.2); sizes must be 0 < old ≤ new."""
    if not 0 < old_size <= new_size or any(len(part) != HASH_BYTES for part in proof):
        return False
    if old_size == new_size:
        return not proof and old_root == new_root
    parts = list(proof)
    if old_size & (old_size - 1) == 0:
        parts.insert(0, old_root)
    if not parts:
        return False
    node, last = old_size - 1, new_size - 1
    while node & 1:
        node >>= 1
        last >>= 1
    old_here = new_here = parts[0]
    for part in parts[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            old_here, new_here = node_hash(part, old_here), node_hash(part, new_here)
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            new_here = node_hash(new_here, part)
        node >>= 1
        last >>= 1
    return last == 0 and old_here == old_root and new_here == new_root


def _largest_power_below(count: int) -> int:
    """The largest power of two smaller than ``count``, which is at least 2."""
    return 1 << ((count - 1).bit_length() - 1)
