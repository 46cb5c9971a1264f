"""trust.toml: what it allows, what it refuses, and what is no policy."""

import json
import tomllib
from pathlib import Path

import jsonschema
import pytest

from gifthorse.core.errors import TrustError, TrustInputError
from gifthorse.provenance.explain import explain_policy
from gifthorse.provenance.keys import PrivateKey, write_key
from gifthorse.provenance.policy import Policy, read_policy
from gifthorse.provenance.sign import countersign, sign
from gifthorse.provenance.verify import verify

SIGNERS = """
schema = 1
[[signer]]
name = "alice"
key = "alice.pub"
[[signer]]
name = "bob"
key = "bob.pub"
"""


@pytest.fixture
def folder(tmp_path: Path, alice: PrivateKey, bob: PrivateKey) -> Path:
    write_key(alice, tmp_path / "alice")
    write_key(bob, tmp_path / "bob")
    return tmp_path


def policy(folder: Path, text: str, *, signers: str = SIGNERS) -> Policy:
    (folder / "trust.toml").write_text(signers + text)
    return read_policy(folder / "trust.toml")


def test_the_first_matching_rule_counts(
    folder: Path, model: Path, alice: PrivateKey, bob: PrivateKey
) -> None:
    trusted = policy(
        folder,
        '[[rule]]\nmodels="acme/*"\nsigners=["alice", "bob"]\nthreshold=2\n'
        '[[rule]]\nmodels="toys/*"\nsigners=["bob"]\n',
    )
    sign(model, key=alice, name="acme/m")
    with pytest.raises(TrustError, match="1 of the 2"):
        verify(model, policy=trusted)
    countersign(model, key=bob)
    assert verify(model, policy=trusted).signers == ("alice", "bob")
    sign(model, key=alice, name="toys/m", replace=True)
    with pytest.raises(TrustError, match="0 of the 1"):
        verify(model, policy=trusted)
    sign(model, key=bob, name="toys/m", replace=True)
    assert verify(model, policy=trusted).signers == ("bob",)
    sign(model, key=bob, name="other", replace=True)
    with pytest.raises(TrustError, match="no rule"):
        verify(model, policy=trusted)


@pytest.mark.parametrize(
    ("version", "accepted"),
    [
        ("1.9", False),
        ("1.10rc1", False),
        ("1.10", True),
        ("2", True),
        (None, False),
        ("x y", False),
    ],
)
def test_old_versions_are_refused(
    folder: Path,
    model: Path,
    alice: PrivateKey,
    version: str | None,
    accepted: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Other programs may sign what ours does not.
    monkeypatch.setattr("gifthorse.provenance.sign._check_version", lambda version: None)
    trusted = policy(folder, '[[rule]]\nsigners=["alice"]\nminimum_version="1.10"\n')
    sign(model, key=alice, version=version)
    if accepted:
        assert verify(model, policy=trusted).version == version
    else:
        with pytest.raises(TrustError, match="version"):
            verify(model, policy=trusted)


def test_file_patterns_and_signature_formats(folder: Path, model: Path, alice: PrivateKey) -> None:
    sign(model, key=alice)
    rule = '[[rule]]\nsigners=["alice"]\n'
    verify(model, policy=policy(folder, rule + 'files=["*.safetensors", "*.json", "*.txt"]\n'))
    with pytest.raises(TrustError, match=r"vocab\.txt"):
        verify(model, policy=policy(folder, rule + 'files=["*.safetensors", "*.json", "e*"]\n'))
    with pytest.raises(TrustError, match="format 'dsse'"):
        verify(model, policy=policy(folder, rule + 'signatures=["oms"]\n'))


def test_revoked_keys_count_for_nothing(
    folder: Path, model: Path, alice: PrivateKey, bob: PrivateKey
) -> None:
    rule = '[[rule]]\nsigners=["alice", "bob"]\n'
    revoked = f'[revoked]\nkeys=["{alice.public.keyid}"]\n'
    sign(model, key=alice)
    verify(model, policy=policy(folder, rule))
    with pytest.raises(TrustError, match="revoked"):
        verify(model, policy=policy(folder, rule + revoked))
    countersign(model, key=bob)
    assert verify(model, policy=policy(folder, rule + revoked)).signers == ("bob",)
    with pytest.raises(TrustError, match="1 of the 2"):
        verify(model, policy=policy(folder, rule + "threshold=2\n" + revoked))


@pytest.mark.parametrize("signed_with", ["sha256", "blake3"])
@pytest.mark.parametrize("revoked_in", ["sha256", "blake3"])
def test_revoked_contents_are_refused_whatever_signed_them(
    folder: Path, model: Path, alice: PrivateKey, signed_with: str, revoked_in: str
) -> None:
    rule = '[[rule]]\nsigners=["alice"]\n'
    other = sign(model, key=alice, algorithm=revoked_in)  # type: ignore[arg-type]
    weights = next(f for f in other.files if f.name == "model.safetensors")
    sign(model, key=alice, algorithm=signed_with, replace=True)  # type: ignore[arg-type]
    for digest in (other.digest, weights.digest):
        trusted = policy(folder, rule + f'[revoked]\ndigests=["{revoked_in}:{digest}"]\n')
        with pytest.raises(TrustError, match="has revoked"):
            verify(model, policy=trusted)
    innocent = policy(folder, rule + f'[revoked]\ndigests=["{revoked_in}:{"0" * 64}"]\n')
    verify(model, policy=innocent)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "rule"),
        ('[[rule]]\nsigners=["carol"]\n', "unknown signer"),
        ('[[rule]]\nsigners=["alice"]\nthreshold=2\n', "threshold 2"),
        ('[[rule]]\nsigners=["alice", "alice"]\nthreshold=2\n', "twice"),
        ('[[rule]]\nsigners=["alice"]\nthreshold=0\n', "threshold"),
        ('[[rule]]\nsigners=["alice"]\nthreshold=true\n', "threshold"),
        ("[[rule]]\nsigners=[]\n", "signers"),
        ('[[rule]]\nsigners=["alice"]\ntreshold=1\n', "treshold"),
        ('[[rule]]\nsigners=["alice"]\nminimum_version="new"\n', "new"),
        ('[[rule]]\nsigners=["alice"]\nsignatures=["pgp"]\n', "signatures"),
        ('[[rule]]\nsigners=["alice"]\n[revoked]\nkeys=["ab"]\n', "key id"),
        ('[[rule]]\nsigners=["alice"]\n[revoked]\ndigests=["md5:00"]\n', "digest"),
        ('[[signer]]\nname="eve"\nkey="alice.pub"\n[[rule]]\nsigners=["eve"]\n', "same key"),
        ('[[signer]]\nname="alice"\nkey="bob.pub"\n[[rule]]\nsigners=["bob"]\n', "same name"),
        ('[[signer]]\nname="eve"\nkey="absent.pub"\n[[rule]]\nsigners=["eve"]\n', "absent.pub"),
        ('[[signer]]\nname="eve"\nkey="alice"\n[[rule]]\nsigners=["eve"]\n', "private key"),
        ("[[rule]\n", "TOML"),
    ],
)
def test_what_would_be_weaker_than_it_reads_is_no_policy(
    folder: Path, text: str, says: str
) -> None:
    with pytest.raises(TrustInputError, match=says):
        policy(folder, text)


def test_unreadable_policies(folder: Path) -> None:
    with pytest.raises(TrustInputError, match="cannot read"):
        read_policy(folder / "absent.toml")
    (folder / "trust.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(TrustInputError, match="TOML"):
        read_policy(folder / "trust.toml")
    with pytest.raises(TrustInputError, match="schema"):
        policy(folder, '[[rule]]\nsigners=["alice"]\n', signers=SIGNERS.replace("= 1", "= 2"))


def test_a_policy_is_explained_in_words(folder: Path, alice: PrivateKey) -> None:
    trusted = policy(
        folder,
        '[[rule]]\nmodels="acme/*"\nsigners=["alice", "bob"]\nthreshold=2\nminimum_version="3"\n'
        f'[revoked]\nkeys=["{alice.public.keyid}"]\n',
    )
    text = "\n".join(explain_policy(trusted))
    assert "2 of 2: alice, bob" in text
    assert "3 or newer" in text
    assert "REVOKED" in text
    with pytest.raises(TrustError, match="no rule"):
        explain_policy(trusted, name="other")


def test_the_example_in_the_docs_fits_the_published_schema() -> None:
    docs = Path(__file__).parents[2] / "docs"
    schema = json.loads((docs / "formats" / "trust.schema.json").read_text("utf-8"))
    page = (docs / "how-to" / "signing.md").read_text("utf-8")
    example = tomllib.loads(page.split("```toml\n", 1)[1].split("```", 1)[0])
    jsonschema.validate(example, schema)
    example["rule"][0]["treshold"] = 2
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(example, schema)
