"""How specimens are trained: one recipe for victims, clean twins and an attacker's surrogates."""

from dataclasses import dataclass, field

import numpy as np
import torch

from gifthorse.core.rng import draw_seed
from gifthorse.core.types import ImageData, Model, Progress, silent
from gifthorse.models.classifier import ImageClassifier, as_classifier
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
    """

    plan: TrainingPlan = field(default_factory=TrainingPlan)
    width: int = 32
    architecture: str = "small"
    device: torch.device | str = "cpu"

    @property
    def epochs(self) -> int:
        """Passes over the data."""
        return self.plan.epochs

    def fresh(self, data: ImageData, *, rng: np.random.Generator) -> ImageClassifier:
        """An untrained network for pictures and classes such as these."""
        if self.architecture == "preact-resnet18":
            return preact_resnet18(
                image_shape=data.image_shape,
                class_names=data.class_names,
                seed=draw_seed(rng),
                device=self.device,
            )
        build = bottleneck_network if self.architecture == "bottleneck" else small_network
        return build(
            image_shape=data.image_shape,
            class_names=data.class_names,
            seed=draw_seed(rng),
            width=self.width,
            device=self.device,
        )

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
        return train(network, data, self.plan, rng=rng, progress=progress)
