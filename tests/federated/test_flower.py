"""The Flower adapter: runs where flwr is installed, and says so clearly where it is not."""

import importlib.util
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gifthorse.core.errors import GifthorseError
from gifthorse.detectors.clients.krum import MultiKrum
from gifthorse.detectors.clients.mean import Mean
from gifthorse.federated.gate import Reason
from gifthorse.federated.removal import read_rounds

HAS_FLOWER = importlib.util.find_spec("flwr") is not None
needs_flower = pytest.mark.skipif(not HAS_FLOWER, reason="flwr is not installed")

pytestmark = pytest.mark.filterwarnings("ignore")  # flwr and grpc have theirs


@pytest.mark.skipif(HAS_FLOWER, reason="flwr is installed")
def test_without_flower_the_error_names_the_command() -> None:
    with pytest.raises(GifthorseError, match=r"pip install 'gifthorse\[federated\]'"):
        importlib.import_module("gifthorse.federated.flower")


@pytest.fixture(autouse=True)
def _identity() -> None:
    """Flower's messages ask which run they belong to."""
    if HAS_FLOWER:
        identity: Any = importlib.import_module("flwr.supercore.task_identity").TaskIdentity
        identity.run_id, identity.node_id, identity.task_id = 1, 1, 1


SHAPES = {"body.weight": (5, 3), "body.bias": (5,), "out.weight": (4, 5), "out.bias": (4,)}


def start() -> dict[str, Any]:
    arrays: dict[str, Any] = {n: np.zeros(s, np.float32) for n, s in SHAPES.items()}
    arrays["norm.num_batches_tracked"] = np.array(3, np.int64)
    return arrays


class FakeGrid:
    """Ten nodes in this process."""

    def get_node_ids(self) -> list[int]:
        return list(range(1, 11))


Spoil = Callable[[int, dict[str, Any], dict[str, Any]], tuple[Any, Any]]
Meddle = Callable[[int, dict[int, Any], list[Any]], list[Any]]


def play(
    strategy: Any, spoil: Spoil | None = None, rounds: int = 1, meddle: Meddle | None = None
) -> dict[str, Any]:
    """Rounds in which every node adds about 1; ``spoil`` changes what node 1 sends.

    ``meddle(round, questions by node, replies)`` gives the replies that arrive.
    """
    from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

    record = ArrayRecord({n: Array(v) for n, v in start().items()})
    for round_ in range(1, rounds + 1):
        replies: list[Any] = []
        questions: Iterable[Any] = strategy.configure_train(
            round_, record, ConfigRecord(), FakeGrid()
        )
        asked = list(questions)
        for message in asked:
            node = message.metadata.dst_node_id
            rng = np.random.default_rng([node, round_])
            arrays = {
                n: np.asarray(
                    np.round(
                        a.numpy() + 1 + 0.1 * rng.normal(size=a.numpy().shape),
                        2 if a.numpy().ndim else 0,
                    ),
                    a.dtype,
                )
                for n, a in record.items()
            }
            metrics: dict[str, Any] = {"num-examples": 60, "loss": 0.5}
            content: Any = {n: Array(v) for n, v in arrays.items()}
            if spoil and node == 1:
                content, metrics = spoil(node, content, metrics)
            body = RecordDict({"arrays": ArrayRecord(content), "metrics": MetricRecord(metrics)})
            replies.append(Message(body, reply_to=message))
        if meddle is not None:
            replies = meddle(round_, {m.metadata.dst_node_id: m for m in asked}, replies)
        aggregated, _ = strategy.aggregate_train(round_, replies)
        assert aggregated is not None
        record = aggregated
    return {name: array.numpy() for name, array in record.items()}


def guarded(defence: Any = None, **changes: Any) -> Any:
    from gifthorse.federated.flower import GuardedStrategy

    return GuardedStrategy(defence or Mean(), metrics=frozenset({"loss"}), **changes)


@needs_flower
def test_honest_nodes_move_the_model_and_buffers_keep_their_type() -> None:
    strategy = guarded()
    arrays = play(strategy)
    assert arrays["out.weight"].dtype == np.float32
    np.testing.assert_allclose(arrays["out.weight"], 1, atol=0.2)
    assert arrays["norm.num_batches_tracked"].dtype == np.int64
    assert int(arrays["norm.num_batches_tracked"]) == 4
    assert len(strategy.history[0].accepted) == 10
    assert strategy.history[0].quarantined == ()


def _filled(value: float) -> Spoil:
    def spoil(_: int, arrays: dict[str, Any], metrics: dict[str, Any]) -> tuple[Any, Any]:
        from flwr.app import Array

        return {**arrays, "out.bias": Array(np.full(4, value, np.float32))}, metrics

    return spoil


def _bytes(data: bytes) -> Spoil:
    def spoil(_: int, arrays: dict[str, Any], metrics: dict[str, Any]) -> tuple[Any, Any]:
        from flwr.app import Array

        lie = Array(dtype="float32", shape=(4,), stype="numpy.ndarray", data=data)
        return {**arrays, "out.bias": lie}, metrics

    return spoil


def _half(_: int, arrays: dict[str, Any], metrics: dict[str, Any]) -> tuple[Any, Any]:
    from flwr.app import Array

    with np.errstate(over="ignore"):
        return {
            **arrays,
            "out.bias": Array(np.full(4, 1e6, np.float32).astype(np.float16)),
        }, metrics


HUGE_HEADER = (
    b"\x93NUMPY\x01\x00v\x00"
    + b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999,), }".ljust(117)
    + b"\n"
)

CASES: dict[str, tuple[Spoil, Reason]] = {
    "nan": (_filled(np.nan), Reason.NOT_FINITE),
    "inf": (_filled(np.inf), Reason.NOT_FINITE),
    "huge": (_filled(1e30), Reason.HUGE_NORM),
    "missing": (lambda _, a, m: (dict(list(a.items())[1:]), m), Reason.MISSING_ARRAY),
    "extra": (lambda _, a, m: ({**a, "more": a["out.bias"]}, m), Reason.EXTRA_ARRAY),
    "shape": (lambda _, a, m: ({**a, "out.bias": a["body.bias"]}, m), Reason.WRONG_SHAPE),
    "examples": (lambda _, a, m: (a, {**m, "num-examples": -600}), Reason.BAD_EXAMPLES),
    "many": (lambda _, a, m: (a, {**m, "num-examples": 10**12}), Reason.BAD_EXAMPLES),
    "nan examples": (
        lambda _, a, m: (a, {**m, "num-examples": float("nan")}),
        Reason.BAD_EXAMPLES,
    ),
    "no examples": (lambda _, a, m: (a, {"loss": 0.5}), Reason.BAD_EXAMPLES),
    "metric": (lambda _, a, m: (a, {**m, "bonus": 1.0}), Reason.BAD_METRICS),
    "nan metric": (lambda _, a, m: (a, {**m, "loss": float("nan")}), Reason.BAD_METRICS),
    "half": (_half, Reason.WRONG_TYPE),
    "silent": (lambda _, a, m: (a, {"num-examples": 5}), Reason.BAD_METRICS),
    "rubbish": (_bytes(b"rubbish"), Reason.UNREADABLE),
    "empty": (_bytes(b""), Reason.UNREADABLE),
    "terabytes": (_bytes(HUGE_HEADER), Reason.UNREADABLE),
}


@needs_flower
@pytest.mark.parametrize("name", CASES)
def test_a_hostile_reply_is_kept_out_and_the_round_completes(name: str) -> None:
    spoil, reason = CASES[name]
    strategy = guarded()
    arrays = play(strategy, spoil)
    entry = strategy.history[0]
    assert [(q.client, q.reason) for q in entry.quarantined] == [("1", reason)]
    assert len(entry.accepted) == 9
    np.testing.assert_allclose(arrays["out.bias"], 1, atol=0.3)


@needs_flower
@pytest.mark.parametrize(
    ("what", "reason"),
    [("replay", Reason.REPLAY), ("duplicate", Reason.DUPLICATE), ("dropped", None)],
)
def test_who_repeats_doubles_or_drops_a_reply_stops_no_round(
    what: str, reason: Reason | None
) -> None:
    from flwr.app import Message

    kept: list[Any] = []

    def meddle(round_: int, asked: dict[int, Any], replies: list[Any]) -> list[Any]:
        (own,) = (r for r in replies if r.metadata.src_node_id == 1)
        others = [r for r in replies if r is not own]
        if round_ == 1:
            kept.append(own.content)
            return replies
        if what == "replay":
            return [*others, Message(kept[0], reply_to=asked[1])]
        if what == "duplicate":
            return [*replies, Message(own.content, reply_to=asked[1])]
        return others

    strategy = guarded()
    arrays = play(strategy, rounds=2, meddle=meddle)
    entry = strategy.history[1]
    assert [(q.client, q.reason) for q in entry.quarantined] == (
        [("1", reason)] if reason is not None else []
    )
    assert ("1" in entry.missing) == (reason is None)
    assert len(entry.accepted) == (10 if reason is Reason.DUPLICATE else 9)
    np.testing.assert_allclose(arrays["out.bias"], 2, atol=0.3)


@needs_flower
def test_a_defence_rejects_an_attacker_that_the_gate_lets_pass() -> None:
    strategy = guarded(MultiKrum(assumed=2))
    play(strategy, _filled(-40.0))
    assert strategy.history[0].quarantined == ()
    assert "1" in strategy.history[0].rejected


@needs_flower
def test_a_restarted_server_goes_on_where_it_was(tmp_path: Path) -> None:
    from flwr.app import Array, ArrayRecord

    from gifthorse.federated.server_place import ServerPlace

    place = ServerPlace(folder=tmp_path / "server", keep_updates=True)
    last = play(guarded(place=place), rounds=3)
    again = guarded(place=place)
    record, done = again.resume(ArrayRecord({n: Array(v) for n, v in start().items()}))
    assert done == 3
    for name, array in record.items():
        np.testing.assert_array_equal(array.numpy(), last[name])
    play(again)
    assert again.history[0].round == 4
    rounds = list(place.rounds())
    assert [entry.round for entry in rounds] == [1, 2, 3, 4]
    assert all(a.after == b.before for a, b in pairwise(rounds[:3]))
    assert rounds[-1] == again.history[0]
    stored = list(read_rounds(place.folder))
    assert [one.round for one in stored] == [1, 2, 3, 4]
    assert dict(zip(stored[3].clients, stored[3].digests, strict=True)) == rounds[3].replies


@needs_flower
def test_the_mod_replaces_the_update_of_those_who_attack() -> None:
    from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict

    from gifthorse.attacks.clients.model_replacement import ModelReplacement
    from gifthorse.core.clients import AttackTask
    from gifthorse.core.rounds_record import TrialSpec
    from gifthorse.federated.flower import attack_mod
    from gifthorse.federated.world import build_world

    here = build_world(TrialSpec(data="digits"))
    flat = here.learner.initial(np.random.default_rng(0))
    sent = {n: v.astype(np.float32) for n, v in here.learner.layout.split(flat).items()}
    x, y = here.held["client-000"]
    task = AttackTask(
        learner=here.learner, current=here.learner.layout.join(sent), previous=0 * flat, x=x, y=y,
        plan=replace(here.plan, epochs=1), backdoor=here.backdoor, position=0, attackers=1,
        replies=4,
    )  # fmt: skip

    def content() -> Any:
        arrays = ArrayRecord({n: Array(v) for n, v in sent.items()})
        return RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": 5})})

    def honest(message: Any, context: Any) -> Any:
        return Message(content(), reply_to=message)

    message = Message(content(), message_type="train", dst_node_id=7)
    for asked, changed in ((task, True), (None, False)):
        mod = attack_mod(ModelReplacement(epochs=1), lambda *_, asked=asked: asked)
        reply = mod(message, None, honest)
        answer = {n: a.numpy() for n, a in reply.content["arrays"].items()}
        assert all(answer[n].dtype == sent[n].dtype for n in sent)
        assert any((answer[n] != sent[n]).any() for n in sent) == changed
