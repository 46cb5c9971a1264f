"""Sign, countersign, verify: what holds passes, what does not is refused."""

import base64
import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from google.protobuf import json_format
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as StatementPb
from securesystemslib.dsse import Envelope

from gifthorse.core.errors import TrustError, TrustInputError
from gifthorse.provenance.digests import Algorithm
from gifthorse.provenance.envelope import canonical, seal
from gifthorse.provenance.keys import PrivateKey, generate_key
from gifthorse.provenance.policy import Policy, policy_for_keys
from gifthorse.provenance.sign import countersign, sign
from gifthorse.provenance.verify import verify


def trusting(*keys: PrivateKey, threshold: int = 1) -> Policy:
    return policy_for_keys([key.public for key in keys], threshold=threshold)


@pytest.mark.parametrize("algorithm", ["sha256", "blake3"])
def test_a_signed_directory_verifies(
    model: Path, alice: PrivateKey, bob: PrivateKey, algorithm: Algorithm
) -> None:
    for key in (alice, bob):
        made = sign(model, key=key, name="acme/m", version="1.0", algorithm=algorithm, replace=True)
        found = verify(model, policy=trusting(key), name="acme/m")
        assert found.digest == made.digest
        assert found.files == made.files
        assert (found.name, found.version, found.algorithm) == ("acme/m", "1.0", algorithm)
        assert len(found.files) == 4


def test_a_signed_file_verifies_and_its_name_is_bound(model: Path, alice: PrivateKey) -> None:
    path = model / "model.safetensors"
    sign(path, key=alice)
    found = verify(path, policy=trusting(alice))
    assert [file.name for file in found.files] == ["model.safetensors"]
    other = path.rename(path.with_name("other.safetensors"))
    with pytest.raises(TrustError, match="other files"):
        verify(other, policy=trusting(alice), signature=model / "model.safetensors.sig")
    with pytest.raises(TrustError, match="for a file"):
        verify(model, policy=trusting(alice), signature=model / "model.safetensors.sig")


def test_the_envelope_is_dsse_and_in_toto(model: Path, alice: PrivateKey) -> None:
    """securesystemslib and in-toto's own library read what we write."""
    made = sign(model, key=alice, now=datetime(2026, 1, 2, tzinfo=UTC))
    data = json.loads(made.signature.read_bytes())
    payload = base64.b64decode(data["payload"])
    envelope = Envelope.from_dict(data)
    assert envelope.verify([alice.public.to_sslib()], threshold=1)
    statement = json.loads(payload)
    assert statement["predicate"]["signedAt"] == "2026-01-02T00:00:00+00:00"
    parsed = json_format.Parse(payload, StatementPb())
    Statement.copy_from_pb(parsed).validate()


def test_strangers_and_missing_signatures_are_refused(
    model: Path, alice: PrivateKey, bob: PrivateKey
) -> None:
    with pytest.raises(TrustError, match="no signature"):
        verify(model, policy=trusting(alice))
    sign(model, key=bob)
    with pytest.raises(TrustError, match="nobody who is trusted"):
        verify(model, policy=trusting(alice))


def test_thresholds(model: Path, alice: PrivateKey, bob: PrivateKey) -> None:
    carol = generate_key()
    sign(model, key=alice)
    two_of_three = trusting(alice, bob, carol, threshold=2)
    with pytest.raises(TrustError, match="1 of the 2"):
        verify(model, policy=two_of_three)
    with pytest.raises(TrustError, match="already holds"):
        countersign(model, key=alice)
    countersign(model, key=bob)
    assert len(verify(model, policy=two_of_three).signers) == 2
    countersign(model, key=carol)
    assert len(verify(model, policy=two_of_three).signers) == 3
    with pytest.raises(TrustInputError, match="twice"):
        trusting(alice, alice, threshold=2)
    with pytest.raises(TrustInputError, match="cannot be met"):
        trusting(alice, threshold=2)


def test_one_signature_copied_under_another_key_id_counts_once(
    model: Path, alice: PrivateKey, bob: PrivateKey
) -> None:
    made = sign(model, key=alice)
    data = json.loads(made.signature.read_bytes())
    twin = dict(data["signatures"][0], keyid=bob.public.keyid)
    data["signatures"].append(twin)
    made.signature.write_bytes(canonical(data))
    with pytest.raises(TrustError, match="1 of the 2"):
        verify(model, policy=trusting(alice, bob, threshold=2))


def test_nobody_countersigns_changed_files(model: Path, alice: PrivateKey, bob: PrivateKey) -> None:
    made = sign(model, key=alice)
    before = made.signature.read_bytes()
    (model / "config.json").write_text("{}")
    with pytest.raises(TrustError, match="changed"):
        countersign(model, key=bob)
    assert made.signature.read_bytes() == before


def test_excluded_files_must_be_tolerated_by_name(model: Path, alice: PrivateKey) -> None:
    (model / ".git").mkdir()
    (model / ".git" / "HEAD").write_text("ref")
    sign(model, key=alice, exclude=[".git"])
    with pytest.raises(TrustError, match=r"not signed: '\.git/HEAD'"):
        verify(model, policy=trusting(alice))
    tolerant = policy_for_keys([alice.public], allow_unsigned=[".git"])
    verify(model, policy=tolerant)
    (model / ".github").write_text("not below .git")
    with pytest.raises(TrustError, match=r"not signed: '\.github'"):
        verify(model, policy=tolerant)


def test_a_tolerated_name_does_not_excuse_a_changed_signed_file(
    model: Path, alice: PrivateKey
) -> None:
    sign(model, key=alice)
    tolerant = policy_for_keys([alice.public], allow_unsigned=["config.json"])
    (model / "config.json").write_text("{}")
    with pytest.raises(TrustError, match="changed"):
        verify(model, policy=tolerant)


def test_signing_refuses_what_it_cannot_bind(model: Path, alice: PrivateKey) -> None:
    made = sign(model, key=alice)
    with pytest.raises(TrustInputError, match="exists"):
        sign(model, key=alice)
    with pytest.raises(TrustError, match="no name for a model"):
        sign(model, key=alice, name="two words", replace=True)
    with pytest.raises(TrustError, match="no files to sign"):
        sign(model / "tokenizer", key=alice, exclude=["vocab.txt"])
    (model / "link").symlink_to("config.json")
    with pytest.raises(TrustError, match="symbolic link"):
        sign(model, key=alice, replace=True)
    assert made.signature.exists()


def test_names_that_are_no_text_are_refused_in_a_sentence(model: Path, alice: PrivateKey) -> None:
    sign(model, key=alice)
    odd = Path(os.fsdecode(os.fsencode(model) + b"/a\xff.bin"))
    odd.write_bytes(b"x")
    for act in (
        lambda: sign(model, key=alice, replace=True),
        lambda: verify(model, policy=policy_for_keys([alice.public])),
    ):
        with pytest.raises(TrustError, match="is not valid UTF-8"):
            act()


def test_the_expected_name_is_enforced(model: Path, alice: PrivateKey) -> None:
    sign(model, key=alice, name="acme/toy")
    with pytest.raises(TrustError, match="signed as 'acme/toy'"):
        verify(model, policy=trusting(alice), name="acme/bank")


@pytest.mark.parametrize(
    "statement",
    [
        {},
        {"_type": "https://in-toto.io/Statement/v0.1"},
        {"_type": "https://in-toto.io/Statement/v1", "subject": [], "predicateType": "x"},
        {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "m", "digest": {}}],
            "predicateType": "https://example.org/other",
            "predicate": {},
        },
        {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "m", "digest": {}}],
            "predicateType": "urn:gifthorse:signed-files:1",
            "predicate": {"files": []},
        },
    ],
)
def test_a_trusted_key_on_another_statement_is_no_claim_about_files(
    model: Path, alice: PrivateKey, statement: dict[str, object]
) -> None:
    (model / "gifthorse.sig").write_bytes(seal(statement, [alice]))
    with pytest.raises(TrustError):
        verify(model, policy=trusting(alice))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("size", -1),
        ("size", True),
        ("size", 1.5),
        ("size", 1 << 80),
        ("digest", "AB" * 32),
        ("digest", "ab" * 31),
        ("digest", 7),
        ("name", "../config.json"),
        ("name", ""),
        ("name", None),
    ],
)
def test_hostile_but_validly_signed_entries_are_refused(
    model: Path, alice: PrivateKey, field: str, value: object
) -> None:
    made = sign(model, key=alice)
    data = json.loads(base64.b64decode(json.loads(made.signature.read_bytes())["payload"]))
    data["predicate"]["files"][0][field] = value
    made.signature.write_bytes(seal(data, [alice]))
    with pytest.raises(TrustError):
        verify(model, policy=trusting(alice))
