"""Against the published vectors of Certificate Transparency, and the RFC's own recursion."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gifthorse.provenance.merkle import (
    EMPTY_ROOT,
    Frontier,
    Tree,
    consistent,
    leaf_hash,
    node_hash,
    root_from_inclusion,
)

# From certificate-transparency's reference tests (merkletree/merkle_tree_test.cc), the ones that
# transparency-dev/merkle publishes too.
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = (
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)
_96 = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
_5F = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
_6B = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"
_BC = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"
_CA = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"
_0E = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"
_B0 = "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f"
INCLUSION = (  # index, size, path
    (0, 1, ()),
    (0, 8, (_96, _5F, _6B)),
    (5, 8, (_BC, _CA, ROOTS[4])),
    (2, 3, (ROOTS[2],)),
    (1, 5, (ROOTS[1], _5F, _BC)),
)
CONSISTENCY = (  # old size, new size, proof
    (1, 1, ()),
    (1, 8, (_96, _5F, _6B)),
    (6, 8, (_0E, _CA, ROOTS[4])),
    (2, 5, (_5F, _BC)),
    (6, 7, (_0E, _B0, ROOTS[4])),
)


def tree(count: int) -> Tree:
    return Tree(leaf_hash(leaf) for leaf in LEAVES[:count])


def numbered(count: int) -> list[bytes]:
    return [leaf_hash(i.to_bytes(4, "big")) for i in range(count)]


def published(hashes: list[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1, word for word."""
    if not hashes:
        return EMPTY_ROOT
    if len(hashes) == 1:
        return hashes[0]
    k = 1
    while 2 * k < len(hashes):
        k *= 2
    return node_hash(published(hashes[:k]), published(hashes[k:]))


@pytest.mark.parametrize("size", range(9))
def test_published_roots(size: int) -> None:
    assert tree(size).root().hex() == ROOTS[size]
    assert tree(8).root(size).hex() == ROOTS[size]


@pytest.mark.parametrize(("index", "size", "path"), INCLUSION)
def test_published_inclusion(index: int, size: int, path: tuple[str, ...]) -> None:
    assert [part.hex() for part in tree(size).inclusion(index)] == list(path)
    root = root_from_inclusion(
        leaf_hash(LEAVES[index]), index, size, [bytes.fromhex(part) for part in path]
    )
    assert root is not None
    assert root.hex() == ROOTS[size]


@pytest.mark.parametrize(("old", "new", "proof"), CONSISTENCY)
def test_published_consistency(old: int, new: int, proof: tuple[str, ...]) -> None:
    assert [part.hex() for part in tree(new).consistency(old)] == list(proof)
    parts = [bytes.fromhex(part) for part in proof]
    roots = (bytes.fromhex(ROOTS[old]), bytes.fromhex(ROOTS[new]))
    assert consistent(old, roots[0], new, roots[1], parts)
    if old == new:
        return
    assert not consistent(old, roots[1], new, roots[0], parts)
    assert not consistent(old, roots[0], new, roots[1], [])
    for garbage in (bytes(32), *roots):
        assert not consistent(old, roots[0], new, roots[1], [*parts, garbage])
        assert not consistent(old, roots[0], new, roots[1], [garbage, *parts])
    for other in (old - 1, old + 1, old ^ 2):
        assert not consistent(other, roots[0], new, roots[1], parts)


@given(st.integers(1, 300), st.data())
def test_every_proof_holds_and_no_changed_one(size: int, data: st.DataObject) -> None:
    grown = Tree(numbered(size))
    root = grown.root()
    assert root == published(numbered(size))
    index = data.draw(st.integers(0, size - 1))
    path = grown.inclusion(index)
    leaf = grown.leaf(index)
    assert root_from_inclusion(leaf, index, size, path) == root
    assert root_from_inclusion(leaf, index ^ 1, size, path) != root
    assert root_from_inclusion(node_hash(leaf, leaf), index, size, path) != root
    assert root_from_inclusion(leaf, index, size, [*path, root]) != root
    for i in range(len(path)):
        bent = [*path[:i], bytes([path[i][0] ^ 4]) + path[i][1:], *path[i + 1 :]]
        assert root_from_inclusion(leaf, index, size, bent) != root
        assert root_from_inclusion(leaf, index, size, path[:i] + path[i + 1 :]) != root


@given(st.integers(1, 200), st.integers(0, 200))
def test_a_grown_tree_is_consistent_with_its_past(old: int, more: int) -> None:
    grown = Tree(numbered(old))
    before = grown.root()
    grown.extend(numbered(old + more)[old:])
    after = grown.root()
    assert after == published(numbered(old + more))
    proof = grown.consistency(old)
    assert consistent(old, before, old + more, after, proof)
    assert not consistent(old, leaf_hash(b"x"), old + more, after, proof)


@pytest.mark.parametrize("size", [0, 1, 5, 1023, 1024, 1025, 2048, 3000, 5121])
def test_a_frontier_has_the_root_of_the_tree(size: int) -> None:
    frontier = Frontier()
    for leaf in numbered(size):
        frontier.add(leaf)
    assert frontier.size == size
    assert frontier.root() == Tree(numbered(size)).root()


def test_what_does_not_exist_is_an_error() -> None:
    with pytest.raises(ValueError, match="8 leaves, none at 8"):
        tree(8).inclusion(8)
    with pytest.raises(ValueError, match="8 leaves, not 9"):
        tree(8).root(9)
    with pytest.raises(ValueError, match="no consistency from 0"):
        tree(8).consistency(0)
    assert root_from_inclusion(bytes(32), 3, 3, []) is None
    assert root_from_inclusion(bytes(32), 0, 2, [b"short"]) is None
