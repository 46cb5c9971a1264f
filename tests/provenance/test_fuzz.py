"""Readers of hostile files: whatever the bytes, a value or a TrustError, quickly."""

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gifthorse.core.errors import TrustError
from gifthorse.provenance.claims import parse_claim
from gifthorse.provenance.envelope import canonical, read_envelope, read_statement
from gifthorse.provenance.policy import build_policy, read_policy

FIELDS = (
    *("payload", "payloadType", "signatures", "keyid", "sig", "_type", "subject", "digest"),
    *("name", "predicate", "predicateType", "files", "size", "algorithm", "kind", "schema"),
    *("signer", "rule", "key", "signers", "threshold", "models", "revoked"),
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(FIELDS),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)
FUZZ = settings(
    max_examples=100, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
STATEMENT = {
    "_type": "https://in-toto.io/Statement/v1",
    "predicateType": "urn:gifthorse:signed-files:1",
}


@FUZZ
@given(st.binary(max_size=300))
def test_bytes_as_an_envelope(data: bytes) -> None:
    for reader in (read_envelope, read_statement):
        with contextlib.suppress(TrustError):
            reader(data)


@FUZZ
@given(JSON)
def test_json_as_an_envelope(value: object) -> None:
    data = json.dumps(value).encode()
    envelope = {"payload": "e30=", "payloadType": "x", "signatures": value}
    for text in (data, json.dumps(envelope).encode()):
        with contextlib.suppress(TrustError):
            read_envelope(text)


@FUZZ
@given(JSON, JSON)
def test_json_as_a_claim(subject: object, predicate: object) -> None:
    fields = {"version": None, "kind": "directory", "algorithm": "sha256", "signedAt": ""}
    for content in (predicate, {**fields, "files": predicate}, {**fields, "files": [predicate]}):
        statement = {**STATEMENT, "subject": [subject], "predicate": content}
        with contextlib.suppress(TrustError):
            parse_claim(read_statement(canonical(statement)))


@FUZZ
@given(JSON)
def test_values_as_a_policy(value: object) -> None:
    content = value if isinstance(value, dict) else {"schema": 1, "signer": value, "rule": value}
    with contextlib.suppress(TrustError):
        build_policy(content, source="fuzz", folder=Path("/nonexistent"))


@FUZZ
@given(st.binary(max_size=200))
def test_bytes_as_a_policy(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "trust.toml").write_bytes(b"schema = 1\n" + data)
    with contextlib.suppress(TrustError):
        read_policy(tmp_path / "trust.toml")


def test_deep_nesting_and_huge_numbers() -> None:
    for data in (b"[" * 100_000, b'{"a":' * 100_000, b'{"a":' + b"9" * 10_000 + b"}"):
        with pytest.raises(TrustError):
            read_envelope(data)
