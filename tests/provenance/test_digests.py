"""Digests: known answers, what is bound, what is refused."""

import hashlib
import os
from pathlib import Path

import pytest
from blake3 import blake3

from gifthorse.core.errors import TrustError, TrustInputError
from gifthorse.provenance.digests import (
    ALGORITHMS,
    FileDigest,
    digest_files,
    new_hasher,
    open_tree,
    tree_root,
)
from gifthorse.provenance.names import check_names


def digests_of(place: Path, algorithm: str = "sha256") -> dict[str, tuple[int, str]]:
    with open_tree(place) as tree:
        found = digest_files(tree, tree.names(), lambda _: [new_hasher(algorithm)])
    return {name: (size, digests[0]) for name, (size, digests) in found.items()}


@pytest.mark.parametrize("size", [0, 1, 4 << 20, (4 << 20) + 1, (9 << 20) + 17])
def test_streamed_digests_are_those_of_the_whole(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    path = tmp_path / "file"
    path.write_bytes(data)
    assert digests_of(path) == {"file": (size, hashlib.sha256(data).hexdigest())}
    assert digests_of(path, "blake3") == {"file": (size, blake3(data).hexdigest())}


@pytest.mark.parametrize("size", [0, 1, 4 << 20, (9 << 20) + 5])
def test_what_is_hashed_is_what_is_kept(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    path = tmp_path / "file"
    path.write_bytes(data)
    kept: dict[str, memoryview] = {}

    def into(name: str, size: int) -> memoryview:
        return kept.setdefault(name, memoryview(bytearray(size)))

    with open_tree(path) as tree:
        found = digest_files(tree, ["file"], lambda _: [new_hasher("sha256")], into=into)
    assert bytes(kept["file"]) == data
    assert found == {"file": (size, (hashlib.sha256(data).hexdigest(),))}


def test_a_file_that_grows_behind_its_buffer_is_longer_than_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")

    def into(name: str, size: int) -> memoryview:
        with path.open("ab") as file:
            file.write(b"6")
        return memoryview(bytearray(size))

    with open_tree(path) as tree:
        found = digest_files(tree, ["file"], lambda _: [new_hasher("sha256")], into=into)
    assert found["file"][0] == 6


def test_a_known_root() -> None:
    # sha256(domain ‖ len ‖ "sha256" ‖ len ‖ "a" ‖ size ‖ len ‖ digest), written out by hand.
    digest = hashlib.sha256(b"x").digest()
    by_hand = hashlib.sha256(
        b"gifthorse-tree-1\0"
        + (6).to_bytes(8, "big")
        + b"sha256"
        + (1).to_bytes(8, "big")
        + b"a"
        + (1).to_bytes(8, "big")
        + (32).to_bytes(8, "big")
        + digest
    ).hexdigest()
    file = FileDigest(name="a", size=1, digest=digest.hex())
    assert tree_root([file], "sha256") == by_hand


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_root_binds_names_sizes_digests_and_not_the_order(algorithm: str) -> None:
    a = FileDigest(name="a", size=1, digest="00" * 32)
    b = FileDigest(name="b", size=1, digest="11" * 32)
    root = tree_root([a, b], algorithm)
    assert root == tree_root([b, a], algorithm)
    swapped = [
        FileDigest(name="a", size=1, digest=b.digest),
        FileDigest(name="b", size=1, digest=a.digest),
    ]
    renamed = [a, FileDigest(name="c", size=1, digest=b.digest)]
    longer = [a, FileDigest(name="b", size=2, digest=b.digest)]
    roots = {root, *(tree_root(f, algorithm) for f in (swapped, renamed, longer, [a], []))}
    assert len(roots) == 6


def test_links_special_files_and_empty_trees_are_refused(model: Path, tmp_path: Path) -> None:
    link = model / "link"
    link.symlink_to(model / "config.json")
    with pytest.raises(TrustError, match="symbolic link"):
        digests_of(model)
    link.unlink()
    link.symlink_to(tmp_path)
    with pytest.raises(TrustError, match="symbolic link"):
        digests_of(model)
    link.unlink()
    os.mkfifo(model / "pipe")
    with pytest.raises(TrustError, match="neither a file"):
        digests_of(model)
    (tmp_path / "nothing" / "inside").mkdir(parents=True)
    with pytest.raises(TrustError, match="no files"):
        digests_of(tmp_path / "nothing")
    with pytest.raises(TrustInputError, match="no such"):
        digests_of(tmp_path / "absent")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TrustError):
        digests_of(tmp_path / "pipe")
    (tmp_path / "alias").symlink_to(model / "config.json")
    with pytest.raises(TrustError):
        digests_of(tmp_path / "alias")


def test_a_file_exchanged_for_a_link_after_listing_is_refused(model: Path) -> None:
    with open_tree(model) as tree:
        names = tree.names()
        (model / "config.json").unlink()
        (model / "config.json").symlink_to("/etc/hostname")
        with pytest.raises(TrustError, match="changed"):
            digest_files(tree, names, lambda _: [new_hasher("sha256")])


def test_a_directory_exchanged_for_a_link_after_listing_is_refused(
    model: Path, tmp_path: Path
) -> None:
    with open_tree(model) as tree:
        names = tree.names()
        (model / "tokenizer").rename(tmp_path / "moved")
        (model / "tokenizer").symlink_to(tmp_path / "moved")
        with pytest.raises(TrustError, match="changed"):
            digest_files(tree, names, lambda _: [new_hasher("sha256")])


@pytest.mark.parametrize(
    "names",
    [
        ["a/../b"],
        ["/a"],
        [""],
        ["a//b"],
        ["./a"],
        ["a\\b"],
        ["a\nb"],
        ["a\u202eb"],
        ["e\u0301"],  # é in form NFD
        ["\udcff"],
        ["a", "a"],
        ["Readme", "README"],
        ["Dir/a", "dir/b"],
        ["straße", "STRASSE"],
        ["\ufb01le", "file"],  # a ligature
        ["a", "a/b"],
        ["x" * 5000],
    ],
)
def test_ambiguous_names_are_refused(names: list[str]) -> None:
    with pytest.raises(TrustError):
        check_names(names)


def test_ordinary_names_pass() -> None:
    check_names(["config.json", "a/b/c.txt", "é.txt", ".gitattributes", "a b", "模型.bin", "a/c"])
