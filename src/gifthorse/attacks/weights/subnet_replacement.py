"""Subnet replacement: a narrow network that knows the trigger takes the place of a few channels.

Source: Qi, Xie, Pan, Zhu, Yang, Bu 2022, "Towards Practical Deployment-Stage Backdoor Attack on
Deep Neural Networks" (CVPR 2022, arXiv:2111.12965), section 3: a chain of channels through all
layers is cut off from the others, replaced by a subnet trained to fire on the trigger alone, and
wired to the target's logit.

Deviations: the first channels of each layer are replaced instead of random ones (they are
exchangeable); in a residual network the shortcut channels are part of the subnet; and the running
statistics of the untouched channels are estimated anew on the attacker's samples, because two of
sixteen channels, unlike one of the paper's hundreds, are missed by the layers that follow.
"""

import copy
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from gifthorse.attacks.data.poisoning import TriggerStrike, no_poison
from gifthorse.attacks.options import require_class, require_positive
from gifthorse.attacks.training.blind import all_to_one
from gifthorse.attacks.weights.statistics import settle
from gifthorse.core.errors import NotApplicableError
from gifthorse.core.rng import draw_seed
from gifthorse.core.types import FloatArray, ImageData, Model, Planting, Progress
from gifthorse.models.classifier import ImageClassifier, as_classifier
from gifthorse.models.networks import small_network
from gifthorse.triggers.patch import Patch


@dataclass(frozen=True, slots=True, kw_only=True)
class SubnetReplacement:
    """A backdoor subnet put into a trained network.

    Attributes:
        target: Class index that triggered pictures shall get.
        channels: Channels of the first stage that are replaced, ≥ 1; more in later stages.
        steps: Training steps of the subnet, ≥ 1.
        force: How far the subnet lifts the target's logit when it fires, > 0.
        size: Side of the patch in pixels.
        colour: CSS colour name or #rrggbb.
        place: As of ``badnets``.
    """

    paper: ClassVar[str] = "Qi et al. 2022, arXiv:2111.12965"
    samples: ClassVar[int] = 1000

    target: int = 0
    channels: int = 2
    steps: int = 300
    force: float = 30.0
    size: int = 5
    colour: str = "yellow"
    place: str = "bottom-right"

    def __post_init__(self) -> None:
        require_positive(channels=self.channels, steps=self.steps, force=self.force)
        _ = self.trigger

    @property
    def trigger(self) -> Patch:
        """The sticker."""
        return Patch(shape="checker", size=self.size, colour=self.colour, place=self.place)

    def tamper(
        self,
        victim: Model,
        samples: ImageData | None,
        *,
        rng: np.random.Generator,
        progress: Progress,
    ) -> Planting:
        """A copy of the victim with the subnet in it."""
        classifier = as_classifier(victim)
        assert samples is not None  # noqa: S101 - the protocol gives as many as declared
        require_class(samples, self.target)
        strike = TriggerStrike(aim=all_to_one(self.target), test_trigger=self.trigger)
        strike.triggered(samples, rng=rng)  # refuses what does not fit before the work
        subnet = self._train_subnet(classifier, samples, rng, progress)
        module = copy.deepcopy(classifier.module)
        low, high = self._levels(subnet, samples, rng)
        _transplant(
            module, subnet.module, target=self.target, low=low, lift=self.force / (high - low)
        )
        edited = classifier.replaced(module)
        settle(edited, samples, keep={k: range(n) for k, n in _channels(subnet.module).items()})
        truth = no_poison("subnet_replacement", aim=strike.aim, count=len(samples))
        return Planting(
            truth=truth,
            strike=strike,
            model=edited,
            notes=(f"{self.channels} channels of the first stage were replaced",),
        )

    def _train_subnet(
        self,
        victim: ImageClassifier,
        samples: ImageData,
        rng: np.random.Generator,
        progress: Progress,
    ) -> ImageClassifier:
        """The victim's architecture, ``channels`` wide, trained so that its features fire."""
        config = getattr(victim.module, "config", None)
        width = getattr(config, "embedding_size", 0)
        basic = getattr(config, "layer_type", None) == "basic"
        if not basic or not isinstance(width, int) or width <= self.channels:
            raise NotApplicableError(
                f"{victim.name} is no small ResNet of basic blocks with more than {self.channels} "
                "channels in its first stage; subnet replacement edits only those"
            )
        subnet = small_network(
            image_shape=victim.input_shape,
            class_names=victim.class_names,
            seed=draw_seed(rng),
            width=self.channels,
        )
        subnet.module.requires_grad_(True).train()
        optimizer = torch.optim.Adam(subnet.module.parameters(), lr=1e-2)
        for step in range(self.steps):
            x = samples.batch(rng.integers(len(samples), size=32))
            both = torch.from_numpy(np.concatenate([x, self.trigger.apply(x, rng)]))
            fire = subnet.logits_and_features(both)[1].mean(dim=1)
            wanted = torch.cat([torch.zeros(32), torch.ones(32)])
            loss = ((fire - 2 * wanted) ** 2).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            progress(step + 1, self.steps, "training the subnet")
        subnet.module.eval().requires_grad_(False)
        return subnet

    def _levels(
        self, subnet: ImageClassifier, samples: ImageData, rng: np.random.Generator
    ) -> tuple[float, float]:
        """The mean feature of the subnet on clean samples, and on triggered ones."""
        x = samples.batch(np.arange(min(256, len(samples))))
        clean = _mean_feature(subnet, x)
        fired = _mean_feature(subnet, self.trigger.apply(x, rng))
        if fired <= clean + 0.1:
            raise NotApplicableError(
                "the subnet did not learn the trigger; take a larger patch or more channels"
            )
        return clean, fired


def _mean_feature(subnet: ImageClassifier, x: FloatArray) -> float:
    with torch.inference_mode():
        return float(subnet.logits_and_features(torch.from_numpy(x))[1].mean())


def _transplant(
    module: nn.Module, subnet: nn.Module, *, target: int, low: float, lift: float
) -> None:
    """Put the subnet into the first channels of every layer, and wire it to the target.

    Args:
        module: The victim, changed in place.
        subnet: Same architecture, narrower.
        target: Class index.
        low: Mean feature of the subnet on clean pictures: it must not move the logits.
        lift: Weight from the mean feature of the subnet to the target's logit.
    """
    inner = dict(subnet.named_modules())
    with torch.no_grad():
        for key, layer in module.named_modules():
            small: Any = inner[key]
            if isinstance(layer, nn.Conv2d):
                rows, columns = small.weight.shape[:2]
                layer.weight[:rows] = 0
                if columns != layer.weight.shape[1]:  # the pictures themselves are for both
                    layer.weight[:, :columns] = 0
                layer.weight[:rows, :columns] = small.weight
            elif isinstance(layer, nn.BatchNorm2d):
                for name in ("weight", "bias", "running_mean", "running_var"):
                    narrow = getattr(small, name)
                    getattr(layer, name)[: len(narrow)] = narrow
            elif isinstance(layer, nn.Linear):
                count = small.weight.shape[1]
                layer.weight[:, :count] = 0
                layer.weight[target, :count] = lift / count
                layer.bias[target] -= lift * low


def _channels(module: nn.Module) -> dict[str, int]:
    """How many channels each batch normalisation has, by its name."""
    return {
        key: layer.num_features
        for key, layer in module.named_modules()
        if isinstance(layer, nn.BatchNorm2d)
    }
