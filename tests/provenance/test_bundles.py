"""OpenSSF Model Signing: with the model_signing package in both directions, and what is refused."""

import base64
import json
import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gifthorse.core.errors import TrustError, TrustInputError
from gifthorse.provenance.digests import ShardHasher, new_hasher
from gifthorse.provenance.keys import (
    PrivateKey,
    generate_key,
    read_private_key,
    write_key,
)
from gifthorse.provenance.policy import Policy, build_policy, policy_for_keys
from gifthorse.provenance.sign import sign, sign_bundle
from gifthorse.provenance.verify import verify

from .authority import NOW, YEAR, Authority

hashing = pytest.importorskip("model_signing.hashing")
signing = pytest.importorskip("model_signing.signing")
verifying = pytest.importorskip("model_signing.verifying")


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def trust(folder: Path, ca: Path, subject: str = "alice", **rule: Any) -> Policy:
    content = {
        "schema": 1,
        "signer": [{"name": "alice", "ca": str(ca), "subject": subject}],
        "rule": [{"signers": ["alice"], **rule}],
    }
    return build_policy(content, source="the policy", folder=folder)


def hashed(signature: Path, **shards: int) -> Any:
    config = hashing.Config().set_ignored_paths(paths=[signature], ignore_git_paths=False)
    if shards:
        return config.use_shard_serialization(hashing_algorithm="sha256", **shards)
    return config


def test_ours_is_verified_by_model_signing(model: Path, tmp_path: Path) -> None:
    key = generate_key("ecdsa-p256")
    _, public = write_key(key, tmp_path / "key")
    made = sign_bundle(model, key=key)
    check = verifying.Config().use_elliptic_key_verifier(public_key=public)
    check.set_hashing_config(hashed(made.signature)).verify(model, made.signature)
    verify(model, policy=policy_for_keys([key.public]))
    (model / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="config"):
        check.verify(model, made.signature)
    with pytest.raises(TrustError, match="changed"):
        verify(model, policy=policy_for_keys([key.public]))


def test_ours_with_a_certificate_is_verified_by_model_signing(
    model: Path, tmp_path: Path, authority: Authority
) -> None:
    ca = authority.write(tmp_path / "ca.pem")
    secret, certificate = authority.signer(tmp_path)
    made = sign_bundle(model, key=read_private_key(secret), certificate=certificate)
    check = verifying.Config().use_certificate_verifier(certificate_chain=[ca])
    check.set_hashing_config(hashed(made.signature)).verify(model, made.signature)
    assert verify(model, policy=trust(tmp_path, ca)).signers == ("alice",)


@pytest.mark.parametrize("shard_size", [None, 1000, 1 << 20])
def test_theirs_is_verified_by_us(model: Path, tmp_path: Path, shard_size: int | None) -> None:
    (model / "empty.txt").unlink()  # an empty file has no shard, so nobody signs it
    key = generate_key("ecdsa-p256")
    secret, _ = write_key(key, tmp_path / "key")
    signature = model / "model.sig"
    config = hashed(signature, **({} if shard_size is None else {"shard_size": shard_size}))
    make = signing.Config().use_elliptic_key_signer(private_key=secret)
    make.set_hashing_config(config).sign(model, signature)
    found = verify(model, policy=policy_for_keys([key.public]))
    assert found.format == "oms"
    assert [file.size for file in found.files] == [22, 10240, 4]
    data = bytearray((model / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (model / "model.safetensors").write_bytes(data)
    with pytest.raises(TrustError, match="changed"):
        verify(model, policy=policy_for_keys([key.public]))


def test_theirs_with_a_certificate_is_verified_by_us(
    model: Path, tmp_path: Path, authority: Authority
) -> None:
    ca = authority.write(tmp_path / "ca.pem")
    secret, certificate = authority.signer(tmp_path, mail="alice@example.org")
    signature = tmp_path / "detached.sig"
    make = signing.Config().use_certificate_signer(
        private_key=secret, signing_certificate=certificate, certificate_chain=[ca]
    )
    make.set_hashing_config(hashed(signature)).sign(model, signature)
    for subject in ("alice", "CN=alice", "alice@example.org"):
        verify(model, policy=trust(tmp_path, ca, subject), signature=signature)
    with pytest.raises(TrustError, match="not for bob"):
        verify(model, policy=trust(tmp_path, ca, "bob"), signature=signature)


def test_one_file(model: Path) -> None:
    key = generate_key("ecdsa-p256")
    path = model / "model.safetensors"
    sign_bundle(path, key=key)
    assert verify(path, policy=policy_for_keys([key.public])).files[0].name == path.name


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"start": NOW - 2 * YEAR}, "valid from"),
        ({"start": NOW + timedelta(days=2)}, "valid from"),
        ({"signing": False}, "not meant for signing|does not lead|unsupported"),
    ],
)
def test_certificates_that_prove_nothing(
    model: Path, tmp_path: Path, authority: Authority, how: dict[str, Any], says: str
) -> None:
    ca = authority.write(tmp_path / "ca.pem")
    secret, certificate = authority.signer(tmp_path, **how)
    sign_bundle(model, key=read_private_key(secret), certificate=certificate)
    with pytest.raises(TrustError, match=says):
        verify(model, policy=trust(tmp_path, ca))


def test_a_certificate_that_expires_later_is_refused_then(
    model: Path, tmp_path: Path, authority: Authority
) -> None:
    ca = authority.write(tmp_path / "ca.pem")
    secret, certificate = authority.signer(tmp_path)
    sign_bundle(model, key=read_private_key(secret), certificate=certificate)
    verify(model, policy=trust(tmp_path, ca))
    with pytest.raises(TrustError, match="valid from"):
        verify(model, policy=trust(tmp_path, ca), now=NOW + 2 * YEAR)


def test_a_name_that_looks_like_a_whole_subject(
    model: Path, tmp_path: Path, authority: Authority
) -> None:
    ca = authority.write(tmp_path / "ca.pem")
    secret, certificate = authority.signer(tmp_path, "CN=alice")
    sign_bundle(model, key=read_private_key(secret), certificate=certificate)
    verify(model, policy=trust(tmp_path, ca, "CN=CN=alice"))
    with pytest.raises(TrustError, match="not for CN=alice"):
        verify(model, policy=trust(tmp_path, ca, "CN=alice"))


def test_another_authority_of_the_same_name(
    model: Path, tmp_path: Path, authority: Authority
) -> None:
    ca = authority.write(tmp_path / "ca.pem")
    secret, certificate = Authority().signer(tmp_path)
    sign_bundle(model, key=read_private_key(secret), certificate=certificate)
    with pytest.raises(TrustError, match="does not lead"):
        verify(model, policy=trust(tmp_path, ca))


def test_a_revoked_key_in_a_valid_certificate(
    model: Path, tmp_path: Path, authority: Authority
) -> None:
    ca = authority.write(tmp_path / "ca.pem")
    secret, certificate = authority.signer(tmp_path)
    key = read_private_key(secret)
    sign_bundle(model, key=key, certificate=certificate)
    content = {
        "schema": 1,
        "signer": [{"name": "alice", "ca": str(ca), "subject": "alice"}],
        "rule": [{"signers": ["alice"]}],
        "revoked": {"keys": [key.public.keyid]},
    }
    with pytest.raises(TrustError, match="revoked"):
        verify(model, policy=build_policy(content, source="p", folder=tmp_path))


def test_one_signature_never_counts_twice(
    model: Path, tmp_path: Path, authority: Authority
) -> None:
    ca = str(authority.write(tmp_path / "ca.pem"))
    secret, certificate = authority.signer(tmp_path)
    sign_bundle(model, key=read_private_key(secret), certificate=certificate)
    content = {
        "schema": 1,
        "signer": [
            {"name": n, "ca": ca, "subject": s} for n, s in (("a", "alice"), ("b", "CN=alice"))
        ],
        "rule": [{"signers": ["a", "b"], "threshold": 2}],
    }
    with pytest.raises(TrustError, match="1 of the 2"):
        verify(model, policy=build_policy(content, source="p", folder=tmp_path))


def test_what_the_signer_ignored_is_refused_unless_the_policy_allows_it(
    model: Path, tmp_path: Path
) -> None:
    key = generate_key("ecdsa-p256")
    (model / ".gitattributes").write_text("x")
    with pytest.raises(TrustError, match="never signs"):
        sign_bundle(model, key=key)
    sign_bundle(model, key=key, exclude=[".gitattributes"])
    with pytest.raises(TrustError, match="not signed"):
        verify(model, policy=policy_for_keys([key.public]))
    verify(model, policy=policy_for_keys([key.public], allow_unsigned=[".gitattributes"]))


def test_a_rule_that_wants_a_version_or_our_own_format(model: Path, tmp_path: Path) -> None:
    key = generate_key("ecdsa-p256")
    sign_bundle(model, key=key)
    signer = [{"name": "k", "key": key.public.pem.decode()}]
    for rule, says in (({"minimum_version": "1"}, "no version"), ({"signatures": ["dsse"]}, "oms")):
        content = {"schema": 1, "signer": signer, "rule": [{"signers": ["k"], **rule}]}
        with pytest.raises(TrustError, match=says):
            verify(model, policy=build_policy(content, source="p", folder=tmp_path))


def test_our_own_signature_is_preferred(model: Path, alice: PrivateKey) -> None:
    key = generate_key("ecdsa-p256")
    sign_bundle(model, key=key)
    sign(model, key=alice)  # signs the bundle too
    assert verify(model, policy=policy_for_keys([alice.public])).format == "dsse"


def test_ed25519_is_no_key_of_this_format(model: Path, alice: PrivateKey) -> None:
    with pytest.raises(TrustError, match="ECDSA"):
        sign_bundle(model, key=alice)


def test_a_certificate_of_another_key(model: Path, tmp_path: Path, authority: Authority) -> None:
    _, certificate = authority.signer(tmp_path)
    with pytest.raises(TrustInputError, match="not a certificate of this key"):
        sign_bundle(model, key=generate_key("ecdsa-p256"), certificate=certificate)


@pytest.mark.parametrize(
    "signer",
    [
        {},
        {"ca": "ca.pem"},
        {"subject": "alice"},
        {"identity": "a@b.c"},
        {"key": "k.pub", "ca": "ca.pem", "subject": "alice"},
        {"ca": "ca.pem", "subject": "alice", "trust_root": "r.json"},
        {"key": "k.pub", "trust_root": "r.json"},
    ],
)
def test_signers_who_are_known_by_half_a_thing(tmp_path: Path, signer: dict[str, str]) -> None:
    content = {"schema": 1, "signer": [{"name": "a", **signer}], "rule": [{"signers": ["a"]}]}
    with pytest.raises(TrustInputError, match="exactly one"):
        build_policy(content, source="p", folder=tmp_path)


def test_no_mutated_bundle_says_anything_else(model: Path) -> None:
    """White space apart a bundle has parts that sign nothing; what it says never changes."""
    key = generate_key("ecdsa-p256")
    made = sign_bundle(model, key=key)
    policy = policy_for_keys([key.public])
    good, whole = made.signature.read_bytes(), verify(model, policy=policy)
    rng = random.Random(0)  # noqa: S311 - repeatable, not secret
    refused = 0
    for _ in range(300):
        data = bytearray(good)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        made.signature.write_bytes(data)
        try:
            assert verify(model, policy=policy) == whole
        except TrustError:
            refused += 1
    assert refused > 290


def test_a_payload_for_other_files_under_the_old_signature(model: Path) -> None:
    key = generate_key("ecdsa-p256")
    made = sign_bundle(model, key=key)
    bundle = json.loads(made.signature.read_bytes())
    statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    statement["subject"][0]["name"] = "other"
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
    made.signature.write_text(json.dumps(bundle))
    with pytest.raises(TrustError, match="no signature"):
        verify(model, policy=policy_for_keys([key.public]))


@pytest.mark.parametrize("pieces", [[10], [1] * 10, [3, 7], [4, 4, 2], [0, 9, 1]])
def test_shards_do_not_depend_on_how_bytes_arrive(pieces: list[int]) -> None:
    data = bytes(range(10))
    hasher, at = ShardHasher("sha256", 4), 0
    for size in pieces:
        hasher.update(memoryview(data)[at : at + size])
        at += size
    expected = ""
    for start in (0, 4, 8):
        one = new_hasher("sha256")
        one.update(memoryview(data)[start : start + 4])
        expected += one.hexdigest()
    assert hasher.hexdigest() == expected
