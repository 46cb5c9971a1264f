"""What a trial starts from: the network, who holds which pictures, who attacks, what is tested."""

from dataclasses import dataclass

import numpy as np

from gifthorse.attacks.clients.backdoors import PatchBackdoor, TailBackdoor
from gifthorse.core.clients import Backdoor, Learner, LocalPlan
from gifthorse.core.errors import DataError, SpecError
from gifthorse.core.rng import child_rng
from gifthorse.core.rounds_record import TrialSpec
from gifthorse.core.types import FloatArray, ImageData, IntArray, ScoreArray
from gifthorse.data.sources import load
from gifthorse.data.splits import split, stratified_sample
from gifthorse.federated.partition import partition
from gifthorse.models.flat import PerceptronLearner, small_cnn
from gifthorse.triggers.patch import Patch

HIDDEN = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Everything that does not change during a trial.

    Attributes:
        learner: The network.
        plan: How clients train.
        held: Pictures and labels of every client, by name.
        trusted: Pictures and labels of the server; None if it has none.
        test: Clean pictures and labels.
        struck: Test pictures as the attacker wants them answered with the target.
        backdoor: What the attackers want.
        image_shape: (c, h, w).
        class_names: A name for every class.
    """

    learner: Learner
    plan: LocalPlan
    held: dict[str, tuple[FloatArray, IntArray]]
    trusted: tuple[FloatArray, IntArray] | None
    test: tuple[FloatArray, IntArray]
    struck: FloatArray
    backdoor: Backdoor
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]

    def clean_accuracy(self, parameters: ScoreArray) -> float:
        """Share of clean test pictures answered right."""
        x, y = self.test
        return float((self.learner.logits(parameters, x).argmax(axis=1) == y).mean())

    def attack_success(self, parameters: ScoreArray) -> float:
        """Share of struck test pictures answered with the target."""
        answers = self.learner.logits(parameters, self.struck).argmax(axis=1)
        return float((answers == self.backdoor.target).mean())


def client_name(number: int) -> str:
    """Name of a simulated client."""
    return f"client-{number:03d}"


def build_world(spec: TrialSpec) -> World:
    """The world of a trial; it depends on the data, the split and the seed alone.

    Raises:
        DataError: The data is not there, or too small.
        SpecError: A setting does not fit the data.
    """
    data, test = load(spec.data, split="train"), load(spec.data, split="test")
    _check(spec, data)
    if spec.samples:
        data = stratified_sample(data, spec.samples, child_rng(spec.seed, "samples"))
        test = stratified_sample(test, max(500, spec.samples // 6), child_rng(spec.seed, "test"))
    trusted = None
    if spec.trusted:
        if spec.trusted >= len(data):
            raise DataError(f"{spec.trusted} trusted pictures of {len(data)} leave none to clients")
        own, data = split(data, spec.trusted / len(data), child_rng(spec.seed, "trusted"))
        trusted = _arrays(own)
    x, y = _arrays(data)
    parts = partition(y, spec.clients, spec.alpha, child_rng(spec.seed, "partition"))
    backdoor = _backdoor(spec)
    test_x, test_y = _arrays(test)
    struck = backdoor.poison(test_x, test_y, part=0, parts=1)
    if not len(struck):
        raise DataError(f"{test.name} has no test picture that the attack is about")
    shape, classes = data.image_shape, len(data.class_names)
    learner: Learner = (
        small_cnn(shape, classes)
        if spec.network == "cnn"
        else PerceptronLearner(inputs=int(np.prod(shape)), hidden=HIDDEN, classes=classes)
    )
    return World(
        learner=learner,
        plan=LocalPlan(
            epochs=spec.epochs, batch_size=spec.batch_size, learning_rate=spec.learning_rate
        ),
        held={client_name(i): (x[rows], y[rows]) for i, rows in enumerate(parts)},
        trusted=trusted,
        test=(test_x, test_y),
        struck=struck,
        backdoor=backdoor,
        image_shape=shape,
        class_names=data.class_names,
    )


def _arrays(data: ImageData) -> tuple[FloatArray, IntArray]:
    return data.batch(np.arange(len(data), dtype=np.int64)), data.labels


def _backdoor(spec: TrialSpec) -> Backdoor:
    if spec.backdoor == "tail":
        return TailBackdoor(target=spec.target, source=spec.source)
    patch = Patch(
        size=spec.trigger_size,
        colour="white",
        place=spec.trigger_place,
        margin=spec.trigger_margin,
    )
    return PatchBackdoor(target=spec.target, patch=patch)


def _check(spec: TrialSpec, data: ImageData) -> None:
    """What the type of a spec cannot hold.

    Raises:
        SpecError: A setting contradicts another, or the data.
    """
    classes = len(data.class_names)
    faults = {
        f"target and source must be two classes below {classes}": not (
            0 <= spec.target < classes
            and 0 <= spec.source < classes
            and (spec.backdoor == "patch" or spec.target != spec.source)
        ),
        "per_round must be in [1, clients]": not 1 <= spec.per_round <= spec.clients,
        "attackers must be in [0, clients]": not 0 <= spec.attackers <= spec.clients,
        "with pool = 'frequency' the honest clients must fill a round": spec.pool == "frequency"
        and (spec.clients - spec.attackers < spec.per_round or spec.attackers > spec.per_round),
        "rounds, every and trusted must be positive, zero at least for trusted": spec.rounds < 1
        or spec.every < 1
        or spec.trusted < 0,
        "window must be two rounds, the first before the second, within the rounds": not (
            0 <= spec.window[0] < spec.window[1] <= spec.rounds
        ),
        "alpha must be positive, or 0 for IID": not 0 <= spec.alpha < 1e6,
        "samples must be 0 for all, or positive": spec.samples < 0,
    }
    for text, wrong in faults.items():
        if wrong:
            raise SpecError(f"{text}; got {spec.model_dump(exclude_defaults=True)}")
    try:
        _backdoor(spec)
        LocalPlan(epochs=spec.epochs, batch_size=spec.batch_size, learning_rate=spec.learning_rate)
        if spec.backdoor == "patch":
            _backdoor(spec).poison(
                np.zeros((1, *data.image_shape), np.float32),
                np.array([spec.target + 1]),
                part=0,
                parts=1,
            )
    except ValueError as error:
        raise SpecError(str(error)) from error
