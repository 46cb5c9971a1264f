"""Thousands of random changes to signed models: none is accepted."""

import random
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gifthorse.core.errors import TrustError
from gifthorse.provenance.keys import PrivateKey, generate_key
from gifthorse.provenance.policy import policy_for_keys
from gifthorse.provenance.sign import countersign, sign
from gifthorse.provenance.verify import verify

from .authority import Authority
from .tampering import (
    CERTIFIED,
    MUTATIONS,
    NAME,
    REASONS,
    SIGNATURE,
    Scene,
    certify,
    make_scene,
)


@contextmanager
def copied(place: Path, scratch: Path) -> Iterator[Path]:
    copy = scratch / "copy" / "model"
    shutil.copytree(place, copy)
    try:
        yield copy
    finally:
        shutil.rmtree(scratch / "copy")


def tamper(place: Path, scratch: Path, scene: Scene, *, rounds: int, seed: int) -> Counter[str]:
    """Make every kind of change ``rounds`` times; how often each was refused."""
    rng = random.Random(seed)  # noqa: S311 - repeatable, not secret
    refused: Counter[str] = Counter()
    for name, mutation in MUTATIONS.items():
        expected = CERTIFIED if "certificate" in name else NAME
        for _ in range(rounds):
            with copied(place, scratch) as copy:
                if not mutation(copy, rng, scene):
                    continue
                with pytest.raises(TrustError, match=REASONS.get(name)):
                    verify(copy, policy=scene.trust, name=expected)
                refused[name] += 1
    return refused


def accept_the_clean_twins(place: Path, scratch: Path, scene: Scene) -> None:
    """What differs from the changes above by being right is accepted."""
    with copied(place, scratch) as copy:
        verify(copy, policy=scene.trust, name=NAME)
        sign(copy, key=scene.trusted, name=NAME, version="2.0.1", replace=True)
        verify(copy, policy=scene.trust, name=NAME)
    for issuer in (scene.authority, Authority("Between", above=scene.authority)):
        with copied(place, scratch) as copy:
            certify(copy, scene, issuer)
            assert verify(copy, policy=scene.trust, name=CERTIFIED).signers == ("alice",)


def test_no_change_is_accepted(
    model: Path, tmp_path: Path, alice: PrivateKey, bob: PrivateKey
) -> None:
    sign(model, key=alice, name=NAME, version="2.1")
    scene = make_scene(tmp_path, alice, bob)
    refused = tamper(model, tmp_path, scene, rounds=8, seed=0)
    assert set(refused) == set(MUTATIONS)
    accept_the_clean_twins(model, tmp_path, scene)


@pytest.mark.slow
def test_ten_thousand_changes_and_none_accepted(
    model: Path, tmp_path: Path, alice: PrivateKey, bob: PrivateKey
) -> None:
    sign(model, key=alice, name=NAME, version="2.1")
    scene = make_scene(tmp_path, alice, bob)
    refused = tamper(model, tmp_path, scene, rounds=520, seed=1)
    assert set(refused) == set(MUTATIONS)
    assert refused.total() >= 10_000
    print(f"{refused.total()} refused: {dict(refused)}")  # noqa: T201 - for docs/results.md
    accept_the_clean_twins(model, tmp_path, scene)


def test_losing_one_of_two_needed_signatures(
    model: Path, alice: PrivateKey, bob: PrivateKey
) -> None:
    sign(model, key=alice)
    one = (model / SIGNATURE).read_bytes()
    countersign(model, key=bob)
    policy = policy_for_keys([alice.public, bob.public], threshold=2)
    verify(model, policy=policy)
    (model / SIGNATURE).write_bytes(one)
    with pytest.raises(TrustError, match="1 of the 2"):
        verify(model, policy=policy)


def test_an_older_signature_does_not_fit_a_newer_model(model: Path, alice: PrivateKey) -> None:
    sign(model, key=alice, version="1")
    old = (model / SIGNATURE).read_bytes()
    (model / "config.json").write_text("{}")
    sign(model, key=alice, version="2", replace=True)
    (model / SIGNATURE).write_bytes(old)
    with pytest.raises(TrustError, match="changed"):
        verify(model, policy=policy_for_keys([alice.public]))


def test_the_signature_of_another_model_by_the_same_key(
    model: Path, tmp_path: Path, alice: PrivateKey
) -> None:
    other = tmp_path / "other"
    shutil.copytree(model, other)
    (other / "config.json").write_text("{}")
    made = sign(other, key=alice)
    shutil.copy(made.signature, model / SIGNATURE)
    with pytest.raises(TrustError, match="changed"):
        verify(model, policy=policy_for_keys([alice.public]))
    with pytest.raises(TrustError, match="nobody who is trusted"):
        verify(other, policy=policy_for_keys([generate_key().public]))
