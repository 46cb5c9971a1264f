"""`gifthorse keygen`, `sign`, `verify`, `trust explain`: the whole way, and its exit codes."""

import json
from pathlib import Path

import pytest

from .conftest import Command


@pytest.fixture
def place(tmp_path: Path, command: Command) -> Path:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "weights.safetensors").write_bytes(b"\0" * 100)
    for name in ("alice", "bob"):
        assert command("keygen", tmp_path / name, "--type", "ecdsa-p256").code == 0
    return tmp_path


def test_sign_then_verify(place: Path, command: Command) -> None:
    model, key = place / "model", place / "alice"
    signed = command("sign", model, "--key", key, "--name", "acme/m", "--version", "1", "--json")
    assert signed.code == 0
    assert signed.json()["files"] == 2
    result = command("verify", model, "--key", place / "alice.pub", "--json")
    assert result.code == 0
    assert result.json()["verified"] is True
    assert result.json()["digest"] == f"sha256:{signed.json()['digest']}"
    text = command("verify", model, "--key", place / "alice.pub")
    assert "VERIFIED" in text.out
    assert text.code == 0


def test_what_does_not_hold_is_exit_code_1(place: Path, command: Command) -> None:
    model = place / "model"
    unsigned = command("verify", model, "--key", place / "alice.pub")
    assert unsigned.code == 1
    assert "no signature" in unsigned.err
    command("sign", model, "--key", place / "bob")
    stranger = command("verify", model, "--key", place / "alice.pub", "--json")
    assert stranger.code == 1
    assert stranger.json()["verified"] is False
    command("sign", model, "--key", place / "alice", "--add")
    both = ("--key", place / "alice.pub", "--key", place / "bob.pub", "--threshold", 2)
    assert command("verify", model, *both).code == 0
    (model / "config.json").write_text("{ }")
    changed = command("verify", model, *both)
    assert changed.code == 1
    assert "config.json" in changed.err
    assert changed.out == ""


def test_a_policy_and_its_explanation(place: Path, command: Command) -> None:
    policy = place / "trust.toml"
    policy.write_text(
        'schema = 1\n[[signer]]\nname = "alice"\nkey = "alice.pub"\n'
        '[[rule]]\nmodels = "acme/*"\nsigners = ["alice"]\nminimum_version = "2"\n'
    )
    explained = command("trust", "explain", policy)
    assert explained.code == 0
    assert "must be signed by alice" in explained.out
    assert command("trust", "explain", policy, "--name", "acme/m", "--json").code == 0
    assert command("trust", "explain", policy, "--name", "other").code == 1
    model, key = place / "model", place / "alice"
    command("sign", model, "--key", key, "--name", "acme/m", "--version", "1")
    old = command("verify", model, "--policy", policy)
    assert old.code == 1
    assert "older" in old.err
    command("sign", model, "--key", key, "--name", "acme/m", "--version", "2", "--replace")
    assert command("verify", model, "--policy", policy, "--name", "acme/m").code == 0
    assert command("verify", model, "--policy", policy, "--name", "acme/x").code == 1


def test_a_passphrase_from_the_environment(
    place: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = place / "locked"
    monkeypatch.setenv("GIFTHORSE_PASSPHRASE", "correct horse")
    made = command("keygen", key, "--passphrase", "--json")
    assert made.code == 0
    assert len(made.json()["keyid"]) == 64
    assert command("sign", place / "model", "--key", key).code == 2
    assert command("sign", place / "model", "--key", key, "--passphrase").code == 0
    monkeypatch.setenv("GIFTHORSE_PASSPHRASE", "wrong")
    assert command("sign", place / "model", "--key", key, "--passphrase", "--replace").code == 2
    assert command("verify", place / "model", "--key", place / "locked.pub").code == 0


def test_a_passphrase_that_is_no_text_or_cannot_be_asked_for(
    place: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIFTHORSE_PASSPHRASE", "a\udcff")
    assert command("keygen", place / "odd", "--passphrase").code == 0
    assert command("sign", place / "model", "--key", place / "odd", "--passphrase").code == 0
    monkeypatch.delenv("GIFTHORSE_PASSPHRASE")
    monkeypatch.setattr("gifthorse.cli.keygen._has_terminal", lambda: False)
    asked = command("sign", place / "model", "--key", place / "odd", "--passphrase", "--replace")
    assert asked.code == 2
    assert "GIFTHORSE_PASSPHRASE" in asked.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("verify", "model"),
        ("verify", "absent", "--key", "alice.pub"),
        ("verify", "model", "--key", "absent.pub"),
        ("verify", "model", "--key", "alice"),
        ("verify", "model", "--key", "alice.pub", "--key", "alice.pub"),
        ("verify", "model", "--key", "alice.pub", "--threshold", "2"),
        ("verify", "model", "--policy", "absent.toml"),
        ("verify", "model", "--policy", "model/config.json"),
        ("verify", "model", "--key", "alice.pub", "--policy", "trust.toml"),
        ("sign", "model", "--key", "absent"),
        ("sign", "model", "--key", "alice.pub"),
        ("sign", "absent", "--key", "alice"),
        ("sign", "model", "--key", "alice", "--digest", "md5"),
        ("sign", "model", "--key", "alice", "--name", "two words"),
        ("sign", "model", "--key", "alice", "--name", ""),
        ("sign", "model", "--key", "alice", "--oms", "--name", "a\udcff"),
        ("sign", "model", "--key", "alice", "--version", "the newest"),
        ("sign", "model", "--key", "ed", "--oms"),
        ("keygen", "alice"),
        ("keygen", "new", "--type", "rsa"),
        ("trust", "explain", "absent.toml"),
    ],
)
def test_bad_input_is_exit_code_2(
    place: Path, command: Command, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(place)
    assert command("keygen", "ed").code == 0
    result = command(*arguments)
    assert result.code == 2, result
    assert result.err
    assert "Traceback" not in result.err


def test_links_in_a_circle_are_no_crash(place: Path, command: Command) -> None:
    model, circle = place / "model", place / "circle"
    circle.symlink_to(circle)
    assert command("verify", circle, "--key", place / "alice.pub").code == 1
    assert command("sign", circle, "--key", place / "alice").code == 1
    through = ("--signature", circle)
    assert command("verify", model, "--key", place / "alice.pub", *through).code == 1
    assert command("sign", model, "--key", place / "alice", *through).code == 0
    assert not circle.is_symlink()  # the signature took its place
    (model / "loop").symlink_to(model)
    refused = command("sign", model, "--key", place / "alice", "--replace")
    assert refused.code == 1
    assert "symbolic link" in refused.err


def test_a_misspelt_field_is_named(place: Path, command: Command) -> None:
    policy = place / "trust.toml"
    policy.write_text('schema = 1\ntreshold = 2\n[[signer]]\nname = "a"\nkey = "alice.pub"\n')
    result = command("trust", "explain", policy)
    assert result.code == 2
    policy.write_text(
        'schema = 1\n[[signer]]\nname = "a"\nkey = "alice.pub"\n'
        '[[rule]]\nsigners = ["a"]\ntreshold = 2\n'
    )
    result = command("verify", place / "model", "--policy", policy)
    assert result.code == 2
    assert "rule.0.treshold: there is no such field" in result.err


def test_json_of_a_key_is_parsable(place: Path, command: Command) -> None:
    result = command("keygen", place / "carol", "--json")
    assert json.loads(result.out)["public"].endswith("carol.pub")


def test_an_openssf_bundle(place: Path, command: Command) -> None:
    model, key = place / "model", place / "alice"
    signed = command("sign", model, "--key", key, "--oms", "--json")
    assert signed.code == 0
    assert signed.json()["signature"].endswith("model.sig")
    result = command("verify", model, "--key", place / "alice.pub", "--json")
    assert result.code == 0
    assert result.json()["format"] == "oms"
    (model / "config.json").write_text("[]")
    assert command("verify", model, "--key", place / "alice.pub").code == 1
    assert command("sign", model, "--key", key, "--oms", "--version", "1").code == 2
    assert command("sign", model, "--key", key, "--certificate", key).code == 2
