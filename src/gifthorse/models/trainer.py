"""How specimens are trained: one recipe for victims, clean twins and an attacker's surrogates."""

from dataclasses import dataclass, field

import numpy as np
import torch

from gifthorse.core.rng import draw_seed
from gifthorse.core.types import ImageData, Model, Progress, silent
from gifthorse.models.classifier import ImageClassifier, PassMeter, as_classifier
from gifthorse.models.networks import bottleneck_network, preact_resnet18, small_network
from gifthorse.models.training import TrainingPlan, train


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallTrainer:
    """Trains one of the networks of ``gifthorse.models.networks``.

    Attributes:
        plan: How to train.
        width: Channels of the first stage of a small or bottleneck network.
        architecture: ``small``, ``bottleneck`` or ``preact-resnet18``.
        device: Where it runs.
        meter: Counts the passes through every network that comes from here, so that an attacker's
            surrogates are on the bill. Loops of an attack's own on copies are not.
    """

    plan: TrainingPlan = field(default_factory=TrainingPlan)
    width: int = 32
    architecture: str = "small"
    device: torch.device | str = "cpu"
    meter: PassMeter = field(default_factory=PassMeter, compare=False, repr=False)

    @property
    def epochs(self) -> int:
        """Passes over the data."""
        return self.plan.epochs

    def fresh(self, data: ImageData, *, rng: np.random.Generator) -> ImageClassifier:
        """An untrained network for pictures and classes such as these."""
        network = self._network(data, draw_seed(rng))
        network.meter = self.meter
        return network

    def fit(
        self,
        data: ImageData,
        *,
        rng: np.random.Generator,
        progress: Progress = silent,
        start: Model | None = None,
    ) -> ImageClassifier:
        """A network trained on ``data``: a fresh one, or a copy of ``start``.

        Raises:
            DataError: The pictures or labels do not fit the model.
            ModelError: The loss became NaN.
        """
        network = self.fresh(data, rng=rng) if start is None else as_classifier(start)
        trained = train(network, data, self.plan, rng=rng, progress=progress)
        self.meter.forward += trained.meter.forward
        self.meter.backward += trained.meter.backward
        trained.meter = self.meter
        return trained

    def _network(self, data: ImageData, seed: int) -> ImageClassifier:
        shape, names = data.image_shape, data.class_names
        if self.architecture == "preact-resnet18":
            return preact_resnet18(
                image_shape=shape, class_names=names, seed=seed, device=self.device
            )
        build = bottleneck_network if self.architecture == "bottleneck" else small_network
        return build(
            image_shape=shape, class_names=names, seed=seed, width=self.width, device=self.device
        )
