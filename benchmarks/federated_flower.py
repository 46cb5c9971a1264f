"""Hostile replies and MultiKrum: our strategy beside Flower's own, on the same messages.

    python benchmarks/federated_flower.py [--trials 20]

Needs flwr 1.41.0 (``make flower``). Ten nodes add about 1 to a model of zeros; one of them sends
something else. Then MultiKrum on 20 whole models of a million numbers, 4 of them attackers, a
little longer than the others, that point along one line. Prints two tables in Markdown.
"""

import argparse
import logging
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import strategy as flower
from flwr.supercore.task_identity import TaskIdentity

from gifthorse.core.clients import Layout, RoundContext, Updates
from gifthorse.detectors.clients.krum import MultiKrum
from gifthorse.detectors.clients.mean import Mean
from gifthorse.federated.flower import GuardedStrategy

SHAPES = {"body.weight": (5, 3), "body.bias": (5,), "out.weight": (4, 5), "out.bias": (4,)}
NODES = 10
Spoil = Callable[[dict[str, Any], dict[str, Any]], tuple[dict[str, Any], dict[str, Any]]]
HUGE = (
    b"\x93NUMPY\x01\x00v\x00"
    + b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999,), }".ljust(117)
    + b"\n"
)


def filled(value: float) -> Spoil:
    return lambda a, m: ({**a, "out.bias": Array(np.full(4, value, np.float32))}, m)


def raw(data: bytes) -> Spoil:
    lie = Array(dtype="float32", shape=(4,), stype="numpy.ndarray", data=data)
    return lambda a, m: ({**a, "out.bias": lie}, m)


def half(a: dict[str, Any], m: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    with np.errstate(over="ignore"):
        return {**a, "out.bias": Array(np.full(4, 1e6, np.float32).astype(np.float16))}, m


CASES: dict[str, Spoil] = {
    "NaN": filled(np.nan),
    "Inf": filled(np.inf),
    "1e30": filled(1e30),
    "float16 overflow": half,
    "wrong shape": lambda a, m: ({**a, "out.bias": a["body.bias"]}, m),
    "missing array": lambda a, m: (dict(list(a.items())[1:]), m),
    "extra array": lambda a, m: ({**a, "more": a["out.bias"]}, m),
    "missing metric": lambda a, _: (a, {"num-examples": 60}),
    "extra metric": lambda a, m: (a, {**m, "bonus": 1.0}),
    "1e12 examples": lambda a, m: ({n: _moved(v, 50) for n, v in a.items()}, _claims(m, 10**12)),
    "-600 examples": lambda a, m: (a, _claims(m, -600)),
    "NaN examples": lambda a, m: (a, {**m, "num-examples": float("nan")}),
    "no examples": lambda a, _: (a, {"loss": 0.5}),
    "NaN metric": lambda a, m: (a, {**m, "loss": float("nan")}),
    "rubbish bytes": raw(b"rubbish"),
    "terabytes": raw(HUGE),
}
EXTRA = ("replay", "duplicate", "dropped")


def _moved(array: Any, by: float) -> Any:
    value = array.numpy()
    return Array((value + by).astype(value.dtype))


def _claims(metrics: dict[str, Any], count: int) -> dict[str, Any]:
    return {**metrics, "num-examples": count}


class Nodes:
    """Ten nodes in this process."""

    def get_node_ids(self) -> list[int]:
        return list(range(1, NODES + 1))


def strategies() -> dict[str, Any]:
    plain = {"fraction_evaluate": 0.0}
    return {
        "guarded, mean": GuardedStrategy(Mean(), metrics=frozenset({"loss"})),
        "guarded, MultiKrum": GuardedStrategy(MultiKrum(assumed=2), metrics=frozenset({"loss"})),
        "FedAvg": flower.FedAvg(**plain),
        "FedMedian": flower.FedMedian(**plain),
        "FedTrimmedAvg": flower.FedTrimmedAvg(**plain),
        "Krum": flower.Krum(num_malicious_nodes=2, **plain),
        "MultiKrum": flower.MultiKrum(num_malicious_nodes=2, num_nodes_to_select=8, **plain),
        "Bulyan": flower.Bulyan(num_malicious_nodes=1, **plain),
    }


def answer(message: Any, record: Any, round_: int, spoil: Spoil | None) -> Any:
    node = message.metadata.dst_node_id
    rng = np.random.default_rng([node, round_])
    content: dict[str, Any] = {
        n: Array((a.numpy() + 1 + 0.1 * rng.normal(size=a.numpy().shape)).astype(np.float32))
        for n, a in record.items()
    }
    metrics: dict[str, Any] = {"num-examples": 60, "loss": 0.5}
    if spoil and node == 1:
        content, metrics = spoil(content, metrics)
    body = RecordDict({"arrays": ArrayRecord(content), "metrics": MetricRecord(metrics)})
    return Message(body, reply_to=message)


def reply_with(arrays: dict[str, Any], message: Any) -> Any:
    content = ArrayRecord({n: Array(a.copy()) for n, a in arrays.items()})
    metrics = MetricRecord({"num-examples": 60, "loss": 0.5})
    return Message(RecordDict({"arrays": content, "metrics": metrics}), reply_to=message)


def play(strategy: Any, case: str) -> str:
    """Two rounds; what came of the second."""
    record = ArrayRecord({n: Array(np.zeros(s, np.float32)) for n, s in SHAPES.items()})
    kept: dict[str, Any] = {}
    for round_ in (1, 2):
        asked = list(strategy.configure_train(round_, record, ConfigRecord(), Nodes()))
        spoil = CASES.get(case) if round_ == 2 else None
        replies = [answer(message, record, round_, spoil) for message in asked]
        first = next(i for i, m in enumerate(asked) if m.metadata.dst_node_id == 1)
        if round_ == 1:
            kept = {n: a.numpy() for n, a in replies[first].content["arrays"].items()}
        elif case == "replay":
            replies[first] = reply_with(kept, asked[first])
        elif case == "duplicate":
            arrays = replies[first].content["arrays"]
            replies.append(reply_with({n: a.numpy() for n, a in arrays.items()}, asked[first]))
        elif case == "dropped":
            replies.pop(first)
        try:
            found, _ = strategy.aggregate_train(round_, replies)
        except Exception as error:  # noqa: BLE001 - what it raises is the finding
            return f"**raises** {type(error).__name__.removesuffix('MessageReplies')}"
        if found is None:
            return "no model"
        record = found
    return verdict(strategy, {n: a.numpy() for n, a in record.items()})


def verdict(strategy: Any, arrays: dict[str, Any]) -> str:
    """Two honest rounds lead to 2."""
    if set(arrays) != set(SHAPES) or any(arrays[n].shape != s for n, s in SHAPES.items()):
        return "**another model**"
    if not all(np.isfinite(value).all() for value in arrays.values()):
        return "**not finite**"
    gap = max(float(np.abs(value - 2).max()) for value in arrays.values())
    state = "fine" if gap < 0.75 else f"**off by {gap:.2g}**"
    if not isinstance(strategy, GuardedStrategy):
        return state
    last = strategy.history[-1]
    reasons = [one.reason for one in last.quarantined] + ["missing"] * len(last.missing)
    return f"{state}: {', '.join(reasons) or 'admitted'}"


def hostile() -> None:
    names = list(strategies())
    print("| reply | " + " | ".join(names) + " |\n|" + "---|" * (len(names) + 1))
    for case in ("none", *CASES, *EXTRA):
        cells = [play(strategy, case) for strategy in strategies().values()]
        print(f"| {case} | " + " | ".join(cells) + " |", flush=True)


def multikrum(trials: int, d: int = 1_000_000) -> None:
    """How often an attacker is among those selected: ‖w‖ = 100, ‖δ‖ = .1, 4 of 20 attack."""
    ours = theirs = 0
    for trial in range(trials):
        rng = np.random.default_rng(trial)
        current = rng.normal(size=d)
        current = (current * (100 / np.linalg.norm(current))).astype(np.float32)
        deltas = rng.normal(size=(20, d))
        deltas *= 0.1 / np.linalg.norm(deltas, axis=1, keepdims=True)
        shared = rng.normal(size=d)
        signs = np.array([[1], [-1], [1], [-1]])
        deltas[:4] = 0.5 * deltas[:4] + 0.1 * signs * shared / np.linalg.norm(shared)
        models = (current + deltas).astype(np.float32)
        ours += admitted_by_ours(current.astype(np.float64), models.astype(np.float64), d)
        theirs += admitted_by_flower(current, models)
    print(
        "\n| MultiKrum on the same 20 models | an attacker was selected |\n|---|---|"
        f"\n| gifthorse, double precision, on updates | {ours} of {trials} |"
        f"\n| Flower 1.41.0, single precision, on models | {theirs} of {trials} |"
    )


def admitted_by_ours(current: Any, models: Any, d: int) -> bool:
    layout = Layout(names=("w", "b"), shapes=((d - 1, 1), (1,)), output_weight="w", output_bias="b")
    updates = Updates(
        clients=tuple(f"c{i:02d}" for i in range(20)), deltas=models - current, weights=np.ones(20)
    )
    context = RoundContext(round=0, current=current, layout=layout, rng=np.random.default_rng(0))
    return bool(MultiKrum(assumed=4).aggregate(updates, context).accepted[:4].any())


def admitted_by_flower(current: Any, models: Any) -> bool:
    """Flower tells the average only; the selection is read off it by least squares."""
    strategy = flower.MultiKrum(num_malicious_nodes=4, num_nodes_to_select=16, fraction_evaluate=0)
    record = ArrayRecord({"w": Array(current)})

    class Twenty:
        def get_node_ids(self) -> list[int]:
            return list(range(1, 21))

    replies = []
    for message in strategy.configure_train(1, record, ConfigRecord(), Twenty()):
        row = message.metadata.dst_node_id - 1
        body = RecordDict(
            {
                "arrays": ArrayRecord({"w": Array(models[row])}),
                "metrics": MetricRecord({"num-examples": 60}),
            }
        )
        replies.append(Message(body, reply_to=message))
    found, _ = strategy.aggregate_train(1, replies)
    mean = found["w"].numpy().astype(np.float64) - current
    weights = np.linalg.lstsq((models - current.astype(np.float64)).T, mean, rcond=None)[0]
    return bool((weights[:4] > 0.5 / 16).any())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=20)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
    hostile()
    multikrum(options.trials)


if __name__ == "__main__":
    main()
