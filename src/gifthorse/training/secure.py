"""Training in a way that resists backdoors, in one call (our own front; methods in their files)."""

import dataclasses
from dataclasses import dataclass, field

import numpy as np

from gifthorse.core.errors import SpecError
from gifthorse.core.registry import parse_spec
from gifthorse.core.rng import child_rng, draw_seed
from gifthorse.core.types import ImageData, IntArray, Progress, silent
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.networks import small_network
from gifthorse.models.training import TrainingPlan
from gifthorse.training.abl import Abl, Isolated
from gifthorse.training.adversarial import AdversarialTraining
from gifthorse.training.dbd import Dbd, Decoupled

METHODS: dict[str, type[Abl] | type[AdversarialTraining] | type[Dbd]] = {
    "abl": Abl,
    "adversarial": AdversarialTraining,
    "dbd": Dbd,
}

_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Secured:
    """A network trained on data that nobody vouches for.

    Attributes:
        model: The network.
        distrusted: Samples that the method isolated or whose labels it did not use, least credible
            first, shape (k,); empty for a method that names none.
    """

    model: ImageClassifier
    distrusted: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))


def method_of(text: str) -> Abl | AdversarialTraining | Dbd:
    """The method that ``abl``, ``adversarial:kind=patch,side=5`` and the like describe.

    Raises:
        SpecError: Unknown name or option, or a value that the method refuses.
    """
    spec = parse_spec(text)
    if spec.name not in METHODS:
        raise SpecError(f"no way to train is called {spec.name!r}; known: {', '.join(METHODS)}")
    cls = METHODS[spec.name]
    known = {f.name: f.default for f in dataclasses.fields(cls)}
    for option, value in spec.params.items():
        if option not in known:
            raise SpecError(f"{spec.name} has no option {option!r}; known: {', '.join(known)}")
        kind = type(known[option])
        fits = isinstance(value, int | float) if kind is float else isinstance(value, kind)
        if not fits or (isinstance(value, bool) and kind is not bool):
            wanted = _WORDS[kind]
            raise SpecError(f"{spec.name}: {option} must be {wanted}, got {value!r}")
    try:
        return cls(**spec.params)  # type: ignore[arg-type]
    except ValueError as error:
        raise SpecError(f"{spec.name}: {error}") from error


def train_securely(
    data: ImageData,
    *,
    method: str = "abl",
    training: TrainingPlan | None = None,
    width: int = 32,
    seed: int = 0,
    progress: Progress = silent,
) -> Secured:
    """A small network trained on ``data`` in a way that resists backdoors.

    Args:
        data: Training data that nobody vouches for.
        method: Name and options: ``abl``, ``adversarial:kind=patch``, ``dbd:self_epochs=40``.
        training: How to train.
        width: Channels of the network's first stage.
        seed: Of all randomness.
        progress: Called during long work.

    Raises:
        SpecError: No such method or option.
        DataError: The pictures are too few for the method.
        ModelError: The loss became NaN.
    """
    chosen = method_of(method)
    network = small_network(
        image_shape=data.image_shape,
        class_names=data.class_names,
        seed=draw_seed(child_rng(seed, "network")),
        width=width,
    )
    made = chosen.train(
        network, data, training or TrainingPlan(), rng=child_rng(seed, "train"), progress=progress
    )
    if isinstance(made, Isolated):
        return Secured(model=made.model, distrusted=made.isolated)
    if isinstance(made, Decoupled):
        return Secured(model=made.model, distrusted=made.distrusted)
    return Secured(model=made)
