"""From samples to models and back, with proofs and signatures that a third party checks."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from gifthorse.core.errors import DataError, GifthorseError, NotApplicableError, RecordError
from gifthorse.core.record import (
    AuditRecord,
    CostRecord,
    EvidenceRecord,
    FindingRecord,
    PlanRecord,
    SpecRecord,
    SubjectRecord,
    ThresholdRecord,
)
from gifthorse.core.types import Unit, Verdict
from gifthorse.provenance.asking import about_digest, about_model, about_sample, about_scan
from gifthorse.provenance.checking import Trust, check
from gifthorse.provenance.contributions import envelope_of, sign_part
from gifthorse.provenance.documents import read_document, statement_in
from gifthorse.provenance.growing import append, consistency, join
from gifthorse.provenance.keys import generate_key
from gifthorse.provenance.lineage import proofs
from gifthorse.provenance.manifest import Manifest, write_manifest
from gifthorse.provenance.merkle import consistent
from gifthorse.provenance.proofs import Proof
from gifthorse.provenance.recording import Recorder
from gifthorse.provenance.runs import ConsumedPart, run_of
from gifthorse.provenance.store import SqliteStore

from .examples import listed, samples

COST = CostRecord(seconds=0, forward_passes=0, backward_passes=0, peak_memory_mib=0)


def model(place: Path, content: bytes) -> Path:
    place.mkdir()
    (place / "model.safetensors").write_bytes(content)
    (place / "config.json").write_text("{}")
    return place


def trained(
    manifest: Manifest, place: Path, rows: np.ndarray[tuple[int], np.dtype[np.int64]], **extra: Path
) -> Path:
    """A model with a statement that it consumed these positions."""
    recorder = Recorder(
        manifest, parameters={"epochs": 3}, parents=[extra["parent"]] if "parent" in extra else []
    )
    recorder.consume(rows)
    model(place, str(place).encode())
    recorder.attest(place, digest=f"sha256:{hashlib.sha256(place.name.encode()).hexdigest()}")
    return place


def scan_record(suspects: tuple[int, ...], *, digest: str, pictures: int = 30) -> AuditRecord:
    spec = SpecRecord(name="spectral_signatures", params={})
    return AuditRecord(
        kind="scan",
        verdict=Verdict.FLAGGED,
        score=5.0,
        reason="",
        subject=SubjectRecord(
            kind="image data",
            name="signs",
            digest=digest,
            class_names=("a", "b"),
            facts={"pictures": pictures},
        ),
        trusted=None,
        plan=PlanRecord(detectors=(spec,), false_alarm_rate=0.05, seed=0),
        findings=(
            FindingRecord(
                detector=spec,
                paper="",
                verdict=Verdict.FLAGGED,
                reason="",
                evidence=EvidenceRecord(
                    unit=Unit.SAMPLE,
                    unit_names=(),
                    scores=(0.0,) * pictures,
                    statistic=9.0,
                    p_value=0.001,
                    suspects=suspects,
                    exhibits=(),
                    notes=(),
                ),
                threshold=ThresholdRecord(value=3.0, false_alarm_rate=0.05, origin=""),
                cost=COST,
            ),
        ),
        notes=(),
        cost=COST,
    )


@pytest.fixture
def world(tmp_path: Path) -> tuple[SqliteStore, Manifest, Path]:
    """A data set, a model trained on all of it, one on half of it, and a descendant."""
    manifest = listed(tmp_path / "m")
    whole = trained(manifest, tmp_path / "whole", np.arange(30))
    half = trained(manifest, tmp_path / "half", np.arange(0, 30, 2))
    other = write_manifest(samples(5, ("dora",))[:1], tmp_path / "o", name="other", content="bytes")
    child = trained(other, tmp_path / "child", np.arange(1), parent=half)
    store = SqliteStore(tmp_path / "lineage.db")
    for one in (manifest, other):
        store.add_manifest(one)
    for place in (whole, half, child):
        store.add_run(read_document(place / "provenance.json"))
    return store, manifest, tmp_path


def test_a_sample_leads_to_its_models(world: tuple[SqliteStore, Manifest, Path]) -> None:
    store, manifest, _ = world
    odd = about_sample(store, "1/0005.png")
    assert odd is not None
    assert [(c.name, c.traced, c.size) for c in odd.contributors] == [("carol", 1, 10)]
    assert [(m.name, m.consumed) for m in odd.models] == [("whole", 1)]
    even = about_sample(store, "2/0002.png")
    assert even is not None
    assert [(m.name, m.consumed) for m in even.models] == [("whole", 1), ("half", 1), ("child", 0)]
    half = even.models[1]
    assert even.models[2].parents == (half.run,)
    assert about_sample(store, "missing") is None
    assert even.data_sets[0].root == manifest.head.root


def test_the_same_content_is_found_in_other_data(
    world: tuple[SqliteStore, Manifest, Path],
) -> None:
    store, _, _ = world
    digest = hashlib.sha256(b"0").hexdigest()
    found = about_sample(store, f"sha256:{digest}")
    assert found is not None
    assert {person.name for person in found.contributors} == {"alice", "dora"}
    assert {m.name: m.consumed for m in found.models} == {"whole": 1, "half": 1, "child": 1}


def test_a_model_leads_to_its_data(world: tuple[SqliteStore, Manifest, Path]) -> None:
    store, _, root = world
    half = about_model(store, root / "half")
    assert {(c.name, c.traced) for c in half.contributors} == {
        ("alice", 5),
        ("bob", 5),
        ("carol", 5),
    }
    child = about_model(store, root / "child")
    assert {data.name for data in child.data_sets} == {"other", "signs"}
    assert [m.name for m in child.models] == ["child", "half"]
    name = f"sha256:{hashlib.sha256(b'half').hexdigest()}"
    assert about_digest(store, name, question="half").models == half.models
    (root / "half" / "model.safetensors").write_bytes(b"changed")
    with pytest.raises(DataError, match="no run that is known made"):
        about_model(store, root / "half")


def test_a_scan_leads_to_contributors(world: tuple[SqliteStore, Manifest, Path]) -> None:
    store, _, _ = world
    record = scan_record((1, 4, 7, 8), digest="sha256:" + "0" * 64)
    by_size = about_scan(store, record)
    assert [(c.name, c.traced) for c in by_size.contributors] == [("bob", 3), ("carol", 1)]
    assert "by its number of samples alone" in by_size.notes[0]
    contents = [sample.digest for sample in samples()]
    by_content = about_scan(store, record, contents)
    assert by_content.samples == by_size.samples
    assert not by_content.notes
    with pytest.raises(DataError, match="was of 30 pictures and this data has 29"):
        about_scan(store, record, contents[1:])
    with pytest.raises(DataError, match="1 of 4 flagged samples"):
        about_scan(store, record, [*contents[:8], bytes(32), *contents[9:]])
    with pytest.raises(DataError, match="fits none of the 2"):
        about_scan(store, scan_record((1,), digest="sha256:x", pictures=31))
    with pytest.raises(NotApplicableError, match="flags no samples"):
        about_scan(store, scan_record((), digest="sha256:x"))


def test_the_digest_of_a_scan_decides(tmp_path: Path) -> None:
    store = SqliteStore()
    for name, digest in (("a", "sha256:aa"), ("b", "sha256:bb")):
        extra = [*samples(29), samples(40)[30 + ord(name) % 5]]
        store.add_manifest(
            write_manifest(extra, tmp_path / name, name=name, content="pixels", data_digest=digest)
        )
    found = about_scan(store, scan_record((29,), digest="sha256:bb"))
    assert [data.name for data in found.data_sets] == ["b"]
    with pytest.raises(DataError, match="fits none of the 2"):
        about_scan(store, scan_record((29,), digest="sha256:cc"))


def test_a_third_party_checks_it_all(world: tuple[SqliteStore, Manifest, Path]) -> None:
    store, manifest, root = world
    alice, trainer, mallory = generate_key(), generate_key(), generate_key()
    sign_part(manifest, "bob", alice)
    signed = Recorder(manifest, parameters={})
    signed.consume(np.arange(30))
    signed.attest(model(root / "signed", b"signed"), key=trainer)
    store.add_run(read_document(root / "signed" / "provenance.json"))
    lineage = about_sample(store, "1/0001.png")
    assert lineage is not None
    made = Proof.model_validate_json(proofs(store, lineage).model_dump_json())
    assert made.faults() == []

    nothing = check(made, Trust())
    assert not nothing.faults
    assert len(nothing.open) == 3  # the root and both runs
    root_alone = check(made, Trust(roots=frozenset({manifest.head.root})))
    assert len(root_alone.open) == 2
    some = check(made, Trust(trainers={"trainer": trainer.public}))
    assert len(some.open) == 1  # the unsigned statement
    assert any("signed by trainer" in fact for fact in some.facts)
    only = made.model_copy(update={"runs": made.runs[1:]})
    everything = Trust(trainers={"trainer": trainer.public}, contributors={"bob": alice.public})
    assert check(only, everything).open == []
    assert check(only, everything).faults == []
    assert any("as bob signed" in fact for fact in check(only, everything).facts)
    forged = check(only, Trust(contributors={"bob": mallory.public}))
    assert any("did not sign" in fault for fault in forged.faults)
    assert check(only, Trust(trainers={"trainer": mallory.public})).open


def test_a_run_that_did_not_consume_the_sample_proves_nothing(
    world: tuple[SqliteStore, Manifest, Path],
) -> None:
    store, _, root = world
    lineage = about_sample(store, "1/0005.png")
    assert lineage is not None
    made = proofs(store, lineage)
    half = read_document(root / "half" / "provenance.json")
    faults = made.model_copy(update={"runs": (half,)}).faults()
    assert len(faults) == 1
    assert "consumed none of the samples" in faults[0]


def test_a_statement_survives_the_round_trip(world: tuple[SqliteStore, Manifest, Path]) -> None:
    _, _, root = world
    document = read_document(root / "child" / "provenance.json")
    run = run_of(statement_in(document))
    assert run.statement() == document
    assert run.parameters == {"epochs": 3}
    assert {parent.name for parent in run.parents} == {
        "config.json",
        "model.safetensors",
    }


def test_the_statement_is_valid_in_toto(world: tuple[SqliteStore, Manifest, Path]) -> None:
    from google.protobuf.json_format import ParseDict
    from in_toto_attestation.v1 import statement_pb2

    _, _, root = world
    document = read_document(root / "child" / "provenance.json")
    parsed = ParseDict(document, statement_pb2.Statement())
    assert parsed.predicate_type == "https://slsa.dev/provenance/v1"
    assert {subject.name for subject in parsed.subject} == {
        "config.json",
        "model.safetensors",
        "model",
    }


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("predicateType",), "https://example.org/other"),
        (("subject",), []),
        (("predicate", "buildDefinition"), None),
        (("predicate", "runDetails", "metadata"), {}),
        (("predicate", "buildDefinition", "resolvedDependencies", 0, "digest"), {}),
        (("predicate", "buildDefinition", "resolvedDependencies", 0, "annotations"), {"role": 1}),
    ],
)
def test_a_broken_statement_is_an_error(
    world: tuple[SqliteStore, Manifest, Path], path: tuple[str | int, ...], value: object
) -> None:
    store, _, root = world
    document = read_document(root / "half" / "provenance.json")
    here: object = document
    for step in path[:-1]:
        here = here[step]  # type: ignore[index]
    here[path[-1]] = value  # type: ignore[index]
    with pytest.raises(RecordError):
        store.add_run(document)


@pytest.mark.parametrize("rows", ["", "AA==", "eJxjYAAAAAIAAQ==", "!!", None])
def test_a_wrong_bitmap_is_refused(rows: str | None) -> None:
    with pytest.raises(ValueError, match="rows"):
        ConsumedPart(name="a", size=12, root="0" * 64, count=3, rows=rows)


def test_a_bitmap_bomb_stays_small() -> None:
    import base64
    import zlib

    bomb = base64.b64encode(zlib.compress(bytes(50_000_000), 9)).decode()
    with pytest.raises(ValueError, match="wrong length"):
        ConsumedPart(name="a", size=80, root="0" * 64, count=0, rows=bomb)


def test_growing_is_consistent(tmp_path: Path) -> None:
    old = listed(tmp_path / "m", 20)
    sign_part(old, "alice", generate_key())
    more = [*samples(20), *(s._replace(contributor="bob") for s in samples(26)[20:])]
    grown = append(old, more, tmp_path / "n")
    assert grown.head.size == 26
    assert [part.size for part in grown.head.contributors] == [7, 13, 6]
    before = grown.head.earlier[0]
    assert before.root == old.head.root
    after = {part.name: part for part in grown.head.contributors}
    for part in before.contributors:
        proof = [bytes.fromhex(step) for step in consistency(grown, before)[part.name]]
        new = after[part.name]
        roots = bytes.fromhex(part.root), bytes.fromhex(new.root)
        assert consistent(part.size, roots[0], new.size, roots[1], proof)
    assert envelope_of(grown, "alice") is not None
    assert envelope_of(grown, "bob") is None
    with pytest.raises(DataError, match="nothing to add"):
        append(grown, more, tmp_path / "x")


def test_contributions_are_joined_with_their_signatures(tmp_path: Path) -> None:
    parts = []
    for person in ("alice", "bob"):
        own = [s._replace(contributor=person, id=f"{person}/{s.id}") for s in samples(5)]
        parts.append(write_manifest(own, tmp_path / person, name=person, content="pixels"))
        sign_part(parts[-1], person, generate_key())
    data = [*samples(5), *samples(5)]
    whole = join(parts, tmp_path / "m", name="all", data=data, data_digest="sha256:1")
    assert [part.root for part in whole.head.contributors] == [
        part.head.contributors[0].root for part in parts
    ]
    assert envelope_of(whole, "bob") == envelope_of(parts[1], "bob")
    for wrong in (data[1:], [*data, data[0]], [data[1], *data[1:]]):
        with pytest.raises(DataError, match="do not list this data"):
            join(parts, tmp_path / "n", name="all", data=wrong)
    plain = listed(tmp_path / "plain")
    with pytest.raises(DataError, match="different things"):
        join([parts[0], plain], tmp_path / "n", name="all")


def test_a_store_is_reopened_and_strangers_are_refused(
    world: tuple[SqliteStore, Manifest, Path],
) -> None:
    store, manifest, root = world
    store.add_manifest(manifest)
    store.close()
    again = SqliteStore(root / "lineage.db")
    assert len(again.runs()) == 3
    assert len(again.data_sets()) == 2
    (root / "text.db").write_text("this is no database, but a longer text than a header" * 20)
    with pytest.raises(RecordError, match="cannot use"):
        SqliteStore(root / "text.db")
    import sqlite3

    with sqlite3.connect(root / "other.db") as other:
        other.execute("CREATE TABLE x (y)")
    with pytest.raises(RecordError, match="version 0"):
        SqliteStore(root / "other.db")


def test_a_broken_manifest_is_not_added(tmp_path: Path) -> None:
    made = listed(tmp_path / "m")
    path = tmp_path / "m" / "samples.jsonl"
    path.write_text(path.read_text().replace("carol", "dora", 1))
    store = SqliteStore()
    with pytest.raises(RecordError):
        store.add_manifest(made)
    assert store.data_sets() == []


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"payload": "x"}', '{"_type": 1}', "\xff"])
def test_documents_that_are_none_are_errors(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(GifthorseError):
        read_document(tmp_path / "x.json")
    with pytest.raises(RecordError):
        read_document(tmp_path / "missing.json")
