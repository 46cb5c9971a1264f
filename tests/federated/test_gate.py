"""Every hostile reply is kept out with its reason, and honest ones never are."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gifthorse.core.clients import Layout
from gifthorse.federated.gate import Gate, Reason, Reply, Schema, merge_buffers
from gifthorse.federated.hostile import HOSTILE

LAYOUT = Layout(names=("w", "b"), shapes=((4, 3), (4,)), output_weight="w", output_bias="b")
SCHEMA = Schema(
    layout=LAYOUT,
    types={"w": np.dtype("float32"), "b": np.dtype("float32"), "seen": np.dtype("int64")},
    buffers={"seen": ()},
    metrics=frozenset({"loss"}),
)
CURRENT = np.zeros(LAYOUT.size)


def honest(name: str, round_: int = 1) -> Reply:
    rng = np.random.default_rng([*name.encode(), round_])
    return Reply(
        client=name,
        round=round_,
        arrays={
            "w": rng.normal(size=(4, 3)).astype(np.float32),
            "b": rng.normal(size=4).astype(np.float32),
            "seen": np.array(5, dtype=np.int64),
        },
        examples=60,
        metrics={"loss": 0.3},
    )


CROWD = [honest(f"client-{i}") for i in range(6)]


def admit(replies: list[Reply], **changes: Any) -> Any:
    known: dict[str, Any] = {
        "schema": SCHEMA,
        "current": CURRENT,
        "round_": 1,
        "weights": {**{r.client: 1.0 for r in CROWD}, "bad": 1.0},
    }
    return Gate().admit(replies, **{**known, **changes})


def test_honest_replies_come_in() -> None:
    found = admit(CROWD)
    assert found.updates.clients == tuple(r.client for r in CROWD)
    assert found.quarantined == ()
    assert found.missing == ("bad",)
    np.testing.assert_array_equal(found.updates.deltas[2, :12], CROWD[2].arrays["w"].ravel())


@pytest.mark.parametrize("kind", HOSTILE)
def test_every_hostile_reply_is_kept_out_with_its_reason(kind: str) -> None:
    spoil, reason = HOSTILE[kind]
    first = honest("bad", 0)
    seen = frozenset(admit([first], round_=0).digests.values())
    found = admit([*CROWD, *spoil(honest("bad"), first)], seen=seen)
    assert [r.client for r in CROWD] == [c for c in found.updates.clients if c != "bad"]
    if reason is None:
        assert found.missing == ("bad",)
        return
    assert [q.reason for q in found.quarantined] == [reason]
    assert found.quarantined[0].detail
    assert ("bad" in found.updates.clients) == (reason is Reason.DUPLICATE)


def test_a_copy_of_another_client_is_a_replay() -> None:
    copy = replace(CROWD[0], client="bad")
    found = admit([*CROWD, copy])
    # The first name counts: "bad" sorts before "client-0".
    assert [q.reason for q in found.quarantined] == [Reason.REPLAY]
    assert len(found.updates.clients) == 6


def test_a_round_of_rubbish_only_still_ends() -> None:
    rubbish = [
        reply for spoil, _ in HOSTILE.values() for reply in spoil(honest("bad"), honest("bad", 0))
    ]
    found = admit(rubbish)
    assert len(found.updates) <= 1


@settings(max_examples=60, deadline=None)
@given(
    examples=st.one_of(st.integers(), st.floats(), st.text(max_size=3), st.none(), st.booleans()),
    round_=st.one_of(st.just(1), st.integers()),
    metrics=st.dictionaries(st.text(max_size=5), st.floats(), max_size=2),
    values=st.lists(st.floats(width=32), min_size=4, max_size=4),
)
def test_nothing_that_a_client_sends_raises(
    examples: object, round_: int, metrics: dict[str, float], values: list[float]
) -> None:
    reply = honest("bad")
    arrays = {**reply.arrays, "b": np.array(values, dtype=np.float32)}
    found = admit(
        [
            *CROWD,
            Reply(client="bad", round=round_, arrays=arrays, examples=examples, metrics=metrics),
        ]
    )
    assert len(found.updates) + len(found.quarantined) == 7


def test_the_number_of_examples_that_a_client_claims_never_counts() -> None:
    loud = [replace(r, examples=10_000_000) if i == 0 else r for i, r in enumerate(CROWD)]
    assert admit(loud).updates.weights.tolist() == [1.0] * 6


def test_buffers_keep_their_type_and_no_client_sets_them() -> None:
    current: dict[str, Any] = {"count": np.array(3, np.int64), "mean": np.zeros(2, np.float32)}
    replies: list[dict[str, Any]] = [
        {"count": np.array(4, np.int64), "mean": np.full(2, 0.5, np.float32)}
    ] * 4
    replies.append({"count": np.array(10**9, np.int64), "mean": np.full(2, 1e9, np.float32)})
    merged = merge_buffers(current, replies)
    assert merged["count"].dtype == np.int64
    assert int(merged["count"]) == 4
    assert merged["mean"].dtype == np.float32
    assert merged["mean"].tolist() == [0.5, 0.5]
    assert merge_buffers(current, []) == current
