"""From a folder to a manifest to a proof that somebody else checks."""

import json
from pathlib import Path

import pytest

from .conftest import Command


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for person in ("alice", "bob"):
        for i in range(5):
            path = tmp_path / "data" / person / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(f"{person} {i}".encode())
    return tmp_path / "data"


def test_manifest_trace_check(command: Command, data: Path, tmp_path: Path) -> None:
    place, proof = tmp_path / "m", tmp_path / "proof.json"
    made = command("manifest", data, "--contributor-part", 0, "--out", place, "--json")
    assert made.code == 0
    root = made.json()["root"]
    assert [part["name"] for part in made.json()["contributors"]] == ["alice", "bob"]

    traced = command("trace", "bob/3.png", "--manifest", place, "--proof", proof)
    assert traced.code == 0
    assert "bob" in traced.out
    by_file = command("trace", data / "bob" / "3.png", "--manifest", place, "--json")
    assert by_file.json()["contributors"][0]["name"] == "bob"
    assert json.loads(proof.read_text())["data_sets"][0]["samples"][0]["id"] == "bob/3.png"

    assert command("trace", "--check", proof, "--root", root).code == 0
    nobody = command("trace", "--check", proof)
    assert nobody.code == 3
    assert "nobody trusted vouched" in nobody.out
    assert command("trace", "--check", proof, "--root", "0" * 64).code == 3


def test_a_forged_proof_is_refused(command: Command, data: Path, tmp_path: Path) -> None:
    place, proof = tmp_path / "m", tmp_path / "proof.json"
    made = command("manifest", data, "--contributor-part", 0, "--out", place, "--json")
    command("trace", "bob/3.png", "--manifest", place, "--proof", proof)
    proof.write_text(proof.read_text().replace("bob/3.png", "bob/4.png"))
    checked = command("trace", "--check", proof, "--root", made.json()["root"])
    assert checked.code == 1
    assert "does not hold" in checked.out
    for content in ("", "{}", "[]", '{"schema_version": 1'):
        proof.write_text(content)
        refused = command("trace", "--check", proof)
        assert refused.code == 2
        assert "holds no proofs" in refused.err


def test_a_manifest_notices_changed_data(command: Command, data: Path, tmp_path: Path) -> None:
    place = tmp_path / "m"
    assert command("manifest", data, "--out", place).code == 0
    assert command("manifest", "--check", place).code == 0
    assert command("manifest", "--check", place, data).code == 0
    (data / "alice" / "0.png").write_bytes(b"other")
    changed = command("manifest", "--check", place, data)
    assert changed.code == 1
    assert "changed: alice/0.png" in changed.out


def test_bad_input(command: Command, data: Path, tmp_path: Path) -> None:
    assert command("manifest").code == 2
    assert command("trace").code == 2
    assert command("manifest", tmp_path / "missing", "--out", tmp_path / "m").code == 2
    assert command("trace", "x", "--manifest", data).code == 2
    assert command("manifest", data, "--out", tmp_path / "m").code == 0
    assert command("manifest", data, "--out", tmp_path / "m").code == 2
    assert command("trace", "missing.png", "--manifest", tmp_path / "m").code == 3
    assert command("trace", "sha256:zz", "--manifest", tmp_path / "m").code == 2
