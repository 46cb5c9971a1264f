"""The client: honest training, and a mod that makes some nodes attack."""

from typing import Any

from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from digits_app.task import arrays_of, world
from gifthorse.attacks.clients.model_replacement import TrainAndScale
from gifthorse.core.clients import AttackTask
from gifthorse.core.rng import child_rng
from gifthorse.federated.flower import attack_mod
from gifthorse.federated.world import client_name
from gifthorse.models.local import train_locally

app = ClientApp()


def _place(context: Context) -> tuple[Any, int]:
    here = world(int(context.node_config["num-partitions"]), float(context.run_config["alpha"]))
    return here, int(context.node_config["partition-id"])


def _task(message: Message, context: Context, arrays: dict[str, NDArray[Any]]) -> AttackTask | None:
    here, number = _place(context)
    round_ = int(message.content["config"]["server-round"])
    attackers = int(context.run_config["attackers"])
    if number >= attackers or round_ < int(context.run_config["start"]):
        return None
    x, y = here.held[client_name(number)]
    current = here.learner.layout.join(arrays)
    return AttackTask(
        learner=here.learner,
        current=current,
        previous=0 * current,
        x=x,
        y=y,
        plan=here.plan,
        backdoor=here.backdoor,
        position=number,
        attackers=attackers,
        replies=len(here.held),
    )


@app.train(mods=[attack_mod(TrainAndScale(bound=2.0), _task)])
def train(message: Message, context: Context) -> Message:
    """Plain local training."""
    here, number = _place(context)
    x, y = here.held[client_name(number)]
    arrays = {name: array.numpy() for name, array in message.content["arrays"].items()}
    round_ = int(message.content["config"]["server-round"])
    local = train_locally(
        here.learner,
        here.learner.layout.join(arrays),
        x,
        y,
        here.plan,
        rng=child_rng(0, "round", round_, client_name(number)),
    )
    record = ArrayRecord({name: Array(v) for name, v in arrays_of(here, local).items()})
    metrics = MetricRecord({"num-examples": len(y)})
    return Message(RecordDict({"arrays": record, "metrics": metrics}), reply_to=message)
