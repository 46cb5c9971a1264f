"""Manifests: roots by hand, round trips, and what a changed or hostile file comes to."""

import hashlib
import json
import struct
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gifthorse.core.errors import DataError, GifthorseError, RecordError
from gifthorse.provenance.manifest import open_manifest, write_manifest
from gifthorse.provenance.merkle import node_hash
from gifthorse.provenance.proofs import faults, find, prove
from gifthorse.provenance.samples import Sample, content_digest, sample_leaf

from .examples import PEOPLE, listed, samples


def _by_hand(*parts: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


def test_a_leaf_by_hand() -> None:
    content = hashlib.sha256(b"pixels").digest()
    sample = Sample("stop/ü.png", "alice", "stop", content)
    entry = _by_hand("stop/ü.png".encode(), b"alice", b"stop", content)
    assert sample_leaf(sample) == hashlib.sha256(b"\x00" + entry).digest()


def test_the_root_by_hand(tmp_path: Path) -> None:
    content = hashlib.sha256(b"").digest()
    three = [
        Sample("1", "alice", "", content),
        Sample("2", "bob", "", content),
        Sample("3", "alice", "", content),
    ]
    head = write_manifest(three, tmp_path / "m", name="three", content="bytes").head
    alice = node_hash(sample_leaf(three[0]), sample_leaf(three[2]))
    bob = sample_leaf(three[1])
    assert [part.root for part in head.contributors] == [alice.hex(), bob.hex()]
    leaves = [
        hashlib.sha256(
            b"\x00contributor\x00" + _by_hand(name) + struct.pack(">Q", size) + root
        ).digest()
        for name, size, root in ((b"alice", 2, alice), (b"bob", 1, bob))
    ]
    assert head.root == node_hash(*leaves).hex()


def test_what_is_written_is_read(tmp_path: Path) -> None:
    made = listed(tmp_path / "m")
    again = open_manifest(tmp_path / "m")
    assert again.head == made.head
    assert list(again.samples()) == samples()
    assert [part.name for part in again.head.contributors] == list(PEOPLE)
    again.verify()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m"]


def test_names_that_are_no_text_survive(tmp_path: Path) -> None:
    odd = [Sample('a\udcff"\n', "\u2028", "\x00", bytes(32)), Sample("[", "", "", bytes(32))]
    made = write_manifest(odd, tmp_path / "m", name="odd", content="bytes")
    assert list(made.samples()) == odd
    made.verify()


def test_every_sample_has_a_proof(tmp_path: Path) -> None:
    made = listed(tmp_path / "m", 31)
    everything = find(made, positions=frozenset(range(31)))
    assert [found.position for found in everything] == list(range(31))
    proof = prove(made, everything)
    assert faults(proof) == []
    assert {part.name for part in proof.contributors} == set(PEOPLE)


@pytest.mark.parametrize("field", ["id", "contributor", "label", "digest", "row"])
def test_a_changed_proof_does_not_hold(tmp_path: Path, field: str) -> None:
    made = listed(tmp_path / "m")
    proof = prove(made, find(made, ids=frozenset({"1/0001.png"})))
    changes = {"id": "x", "contributor": "carol", "label": "2", "digest": "0" * 64, "row": 5}
    one = proof.samples[0].model_copy(update={field: changes[field]})
    assert getattr(one, field) != getattr(proof.samples[0], field)
    assert faults(proof.model_copy(update={"samples": (one,)}))


def test_a_contributor_of_another_data_set_does_not_pass(tmp_path: Path) -> None:
    ours, other = listed(tmp_path / "m"), listed(tmp_path / "n", 20)
    proof = prove(other, find(other, ids=frozenset({"1/0001.png"})))
    assert faults(proof) == []
    assert faults(proof.model_copy(update={"root": ours.head.root}))
    assert faults(proof.model_copy(update={"samples": ()}))


@pytest.mark.parametrize(
    ("line", "replacement"),
    [
        ("carol", "bob"),
        ('"1/0001.png"', '"1/0002.png"'),
        ('"3"', '"2"'),
        ("\n", "\n\n"),
    ],
)
def test_a_changed_line_is_noticed(tmp_path: Path, line: str, replacement: str) -> None:
    made = listed(tmp_path / "m")
    path = tmp_path / "m" / "samples.jsonl"
    path.write_text(path.read_text().replace(line, replacement, 1))
    with pytest.raises(RecordError):
        made.verify()


def test_lines_added_or_taken_away_are_noticed(tmp_path: Path) -> None:
    made = listed(tmp_path / "m")
    path = tmp_path / "m" / "samples.jsonl"
    text = path.read_text()
    for changed in (text + text.splitlines()[0] + "\n", text.split("\n", 1)[1], ""):
        path.write_text(changed)
        with pytest.raises(RecordError, match="expected 30"):
            made.verify()


def test_a_head_that_does_not_add_up_is_refused(tmp_path: Path) -> None:
    listed(tmp_path / "m")
    path = tmp_path / "m" / "manifest.json"
    head = json.loads(path.read_text())
    for change in ({"root": "0" * 64}, {"size": 29}, {"schema_version": 2}, {"extra": 1}):
        path.write_text(json.dumps(head | change))
        with pytest.raises(RecordError, match="is not a manifest"):
            open_manifest(tmp_path / "m")
    path.unlink()
    with pytest.raises(RecordError, match="cannot read"):
        open_manifest(tmp_path / "m")


def test_two_samples_with_one_id_are_refused(tmp_path: Path) -> None:
    twice = [*samples(4), samples(4)[2]]
    with pytest.raises(DataError, match=r"two samples of carol are called '2/0002\.png'"):
        write_manifest(twice, tmp_path / "m", name="x", content="bytes")
    assert not list(tmp_path.iterdir())


def test_nothing_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="0 samples"):
        write_manifest([], tmp_path / "m", name="x", content="bytes")
    with pytest.raises(DataError, match="an id"):
        write_manifest([Sample("", "", "", bytes(32))], tmp_path / "m", name="x", content="bytes")
    (tmp_path / "m").write_text("taken")
    with pytest.raises(DataError, match="choose another place"):
        listed(tmp_path / "m")


def test_several_parts_are_bound_by_name() -> None:
    one, two = hashlib.sha256(b"1").digest(), hashlib.sha256(b"2").digest()
    assert content_digest([("png", one)]) == one
    both = content_digest([("json", one), ("png", two)])
    assert both == content_digest([("png", two), ("json", one)])
    assert both != content_digest([("json", two), ("png", one)])


def test_memory_does_not_grow_with_the_samples(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        tracemalloc.start()
        stream = (Sample(str(i), PEOPLE[i % 3], "", bytes(32)) for i in range(count))
        made = write_manifest(stream, tmp_path / str(count), name="x", content="bytes")
        made.verify()
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    few, many = peak(20_000), peak(60_000)
    assert many < few + 40_000 * 40  # 8 bytes a sample for ids, with room for numpy's copies


def test_a_line_without_an_end_is_refused(tmp_path: Path) -> None:
    made = listed(tmp_path / "m")
    path = tmp_path / "m" / "samples.jsonl"
    last = path.read_bytes()
    path.write_bytes(last.rstrip(b"\n"))
    made.verify()
    path.write_bytes(b" " * 3_000_000)
    with pytest.raises(RecordError, match="line 0: a line is longer than"):
        made.verify()
    path.write_bytes(last.replace(b"\n", b",\n", 1))
    with pytest.raises(RecordError, match="line 1: expected"):
        made.verify()
    path.write_bytes(last.replace(b"\n", b",", 1))
    with pytest.raises(RecordError, match="line 1: expected"):
        made.verify()


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=10,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=400) | _json.map(lambda value: json.dumps(value).encode()), st.data())
def test_a_hostile_file_is_an_error_and_nothing_else(
    tmp_path: Path, content: bytes, data: st.DataObject
) -> None:
    place = tmp_path / "m"
    if not place.exists():
        listed(place)
    name = data.draw(st.sampled_from(["manifest.json", "samples.jsonl"]))
    original = (place / name).read_bytes()
    start = data.draw(st.integers(0, len(original)))
    end = data.draw(st.integers(start, len(original)))
    mutated = original[:start] + content + original[end:]
    (place / name).write_bytes(mutated)
    try:
        made = open_manifest(place)
        made.verify()
        # What is accepted says the same: white space, key order, or facts no root stands for.
        assert list(made.samples()) == samples()
    except GifthorseError:
        pass
    finally:
        (place / name).write_bytes(original)
