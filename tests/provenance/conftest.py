"""Keys, a small model directory, and ways to sign it."""

import json
from pathlib import Path

import pytest

from gifthorse.provenance.keys import PrivateKey, generate_key


@pytest.fixture(scope="session")
def alice() -> PrivateKey:
    return generate_key("ed25519")


@pytest.fixture(scope="session")
def bob() -> PrivateKey:
    return generate_key("ecdsa-p256")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A directory like a model: nothing in it is a real weight."""
    place = tmp_path / "model"
    (place / "tokenizer").mkdir(parents=True)
    (place / "config.json").write_text(json.dumps({"model_type": "none"}))
    (place / "model.safetensors").write_bytes(bytes(range(256)) * 40)
    (place / "tokenizer" / "vocab.txt").write_text("a\nb\n")
    (place / "empty.txt").write_bytes(b"")
    return place
