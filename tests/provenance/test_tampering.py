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
from gifthorse.provenance.policy import Policy, policy_for_keys
from gifthorse.provenance.sign import countersign, sign
from gifthorse.provenance.verify import verify

from .tampering import MUTATIONS, SIGNATURE


@contextmanager
def copied(place: Path, scratch: Path) -> Iterator[Path]:
    copy = scratch / "copy" / "model"
    shutil.copytree(place, copy)
    try:
        yield copy
    finally:
        shutil.rmtree(scratch / "copy")


def tamper(
    place: Path, scratch: Path, policy: Policy, stranger: PrivateKey, *, rounds: int, seed: int
) -> Counter[str]:
    """Make every kind of change ``rounds`` times; how often each was refused."""
    rng = random.Random(seed)  # noqa: S311 - repeatable, not secret
    refused: Counter[str] = Counter()
    for name, mutation in MUTATIONS.items():
        for _ in range(rounds):
            with copied(place, scratch) as copy:
                if not mutation(copy, rng, stranger):
                    continue
                with pytest.raises(TrustError):
                    verify(copy, policy=policy)
                refused[name] += 1
    return refused


def test_no_change_is_accepted(
    model: Path, tmp_path: Path, alice: PrivateKey, bob: PrivateKey
) -> None:
    sign(model, key=alice)
    policy = policy_for_keys([alice.public])
    refused = tamper(model, tmp_path, policy, bob, rounds=12, seed=0)
    assert set(refused) == set(MUTATIONS)
    with copied(model, tmp_path) as copy:  # the clean twin
        verify(copy, policy=policy)


@pytest.mark.slow
def test_ten_thousand_changes_and_none_accepted(
    model: Path, tmp_path: Path, alice: PrivateKey, bob: PrivateKey
) -> None:
    sign(model, key=alice)
    policy = policy_for_keys([alice.public])
    refused = tamper(model, tmp_path, policy, bob, rounds=650, seed=1)
    assert set(refused) == set(MUTATIONS)
    assert refused.total() >= 10_000
    with copied(model, tmp_path) as copy:
        verify(copy, policy=policy)


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
    with pytest.raises(TrustError, match="anyone that"):
        verify(other, policy=policy_for_keys([generate_key().public]))
