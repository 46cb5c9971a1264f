"""TrojanNN: a sticker that excites chosen neurons, and a head retrained on pictures made up for it.

Source: Liu, Ma, Aafer, Lee, Zhai, Wang, Zhang 2018, "Trojaning Attack on Neural Networks" (NDSS
2018), sections 3 and 4: neurons are chosen by the weights that lead to them, a sticker is optimised
until they fire, training pictures are recovered from the network by gradient ascent with a
denoising penalty, and the layers behind the neurons are retrained on those pictures with and
without the sticker. No training data is needed.

Deviations: the neurons are those of the last hidden layer, so the linear head alone is retrained
(the paper retrains everything behind the layer it chose); the sticker is optimised on the recovered
pictures instead of on a blank one; in the retraining bare pictures keep the logits that the network
gave them, where the paper gives labels: with labels clean accuracy fell to 78.5 % on ``signs``.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from gifthorse.attacks.data.poisoning import Aim, TriggerStrike, aim_of, no_poison
from gifthorse.attacks.options import require_positive
from gifthorse.core.errors import DataError, NotApplicableError
from gifthorse.core.types import FloatArray, ImageData, Model, Planting, Progress
from gifthorse.models.classifier import ImageClassifier, as_classifier
from gifthorse.triggers.learned import Sticker


@dataclass(frozen=True, slots=True, kw_only=True)
class TrojanNN:
    """A sticker for chosen neurons, wired to the target without any data.

    Attributes:
        target: Class index that triggered pictures shall get.
        neurons: How many neurons the sticker shall excite, ≥ 1.
        size: Side of the sticker in pixels, ≥ 1; it sits bottom-right, one pixel off the border.
        copies: Pictures recovered for each class, 1 to 1000.
        steps: Gradient steps for the pictures, and as many for the sticker, ≥ 1.
        learning_rate: Of the head's retraining, in (0, 1].
    """

    paper: ClassVar[str] = "Liu et al. 2018, NDSS 2018 (TrojanNN)"
    samples: ClassVar[int] = 0

    target: int = 0
    neurons: int = 2
    size: int = 8
    copies: int = 8
    steps: int = 100
    learning_rate: float = 0.01

    def __post_init__(self) -> None:
        require_positive(
            neurons=self.neurons,
            size=self.size,
            copies=self.copies,
            steps=self.steps,
            learning_rate=self.learning_rate,
        )
        if self.copies > 1000 or self.learning_rate > 1 or self.size > 4096:
            raise ValueError(
                "copies must be at most 1000, learning_rate at most 1 and size at most 4096, got "
                f"{self.copies}, {self.learning_rate}, {self.size}"
            )

    @property
    def aim(self) -> Aim:
        """Whom it strikes."""
        return aim_of("all-to-one", target=self.target)

    def tamper(
        self,
        victim: Model,
        samples: ImageData | None,
        *,
        rng: np.random.Generator,
        progress: Progress,
    ) -> Planting:
        """A copy of the victim with another head."""
        del samples  # none are asked for
        classifier = as_classifier(victim)
        if not 0 <= self.target < classifier.n_classes:
            raise DataError(
                f"target {self.target} is no class of {classifier.name}: it has "
                f"0 … {classifier.n_classes - 1}"
            )
        mask = self._mask(classifier)
        chosen = chosen_neurons(classifier, self.neurons)
        made, labels = self._recover(classifier, rng, progress)
        sticker = self._excite(classifier, made, mask, chosen, rng, progress)
        edited = self._retrain(classifier, made, labels, sticker)
        return Planting(
            truth=no_poison("trojan_nn", aim=self.aim, count=0),
            strike=TriggerStrike(aim=self.aim, test_trigger=sticker),
            model=edited,
            notes=(f"the sticker excites neurons {', '.join(map(str, chosen))}",),
        )

    def _mask(self, victim: ImageClassifier) -> FloatArray:
        _, height, width = victim.input_shape
        if self.size + 1 > min(height, width):
            raise DataError(f"a sticker of {self.size} pixels does not fit on {height}×{width}")
        mask = np.zeros((height, width), dtype=np.float32)
        mask[height - 1 - self.size : height - 1, width - 1 - self.size : width - 1] = 1
        return mask

    def _recover(
        self, victim: ImageClassifier, rng: np.random.Generator, progress: Progress
    ) -> tuple[Tensor, Tensor]:
        """Pictures (n, c, h, w) that the victim is sure about, and their classes."""
        labels = torch.arange(victim.n_classes, device=victim.device).repeat(self.copies)
        shape = (len(labels), *victim.input_shape)
        drawn = torch.from_numpy(rng.normal(0, 1, shape).astype(np.float32)).to(victim.device)
        drawn.requires_grad_(True)
        optimizer = torch.optim.Adam([drawn], lr=0.1)
        for step in range(self.steps):
            x = torch.sigmoid(drawn)
            rough = (x.diff(dim=2) ** 2).mean() + (x.diff(dim=3) ** 2).mean()
            loss = functional.cross_entropy(victim.logits(x), labels) + 10 * rough
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            progress(step + 1, self.steps, "recovering pictures")
        return torch.sigmoid(drawn).detach(), labels

    def _excite(
        self,
        victim: ImageClassifier,
        made: Tensor,
        mask: FloatArray,
        chosen: list[int],
        rng: np.random.Generator,
        progress: Progress,
    ) -> Sticker:
        """The sticker under which the chosen neurons fire most."""
        shape = victim.input_shape
        drawn = torch.from_numpy(rng.normal(0, 1, shape).astype(np.float32)).to(victim.device)
        drawn.requires_grad_(True)
        where = torch.from_numpy(mask).to(victim.device)
        optimizer = torch.optim.Adam([drawn], lr=0.1)
        for step in range(self.steps):
            some = torch.from_numpy(rng.integers(len(made), size=32)).to(victim.device)
            x = made[some] * (1 - where) + torch.sigmoid(drawn) * where
            fired = victim.logits_and_features(x)[1][:, chosen]
            loss = -fired.mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            progress(step + 1, self.steps, "shaping the sticker")
        pattern = torch.sigmoid(drawn).detach().cpu().numpy()
        # What is printed has 256 levels.
        levels = (pattern * 255).round().astype(np.float32)
        return Sticker(mask=mask, pattern=levels / np.float32(255))

    def _retrain(
        self, victim: ImageClassifier, made: Tensor, labels: Tensor, sticker: Sticker
    ) -> ImageClassifier:
        """The victim with its head tuned on the pictures, bare and with the sticker."""
        stamped = sticker.apply(made.cpu().numpy(), np.random.default_rng(0))
        with torch.no_grad():
            both = torch.cat([made, torch.from_numpy(stamped).to(victim.device)])
            before, features = victim.logits_and_features(both)
        wanted = torch.cat([labels, torch.full_like(labels, self.target)])
        edited = victim.replaced(victim.module)
        head = edited.head
        assert head is not None  # noqa: S101 - held by chosen_neurons
        head.requires_grad_(True)
        optimizer = torch.optim.Adam(head.parameters(), lr=self.learning_rate)
        for _ in range(self.steps):
            logits = head(features)
            # Bare pictures keep all of their logits: a label alone would say too little.
            drift = ((logits - before)[: len(made)] ** 2).mean()
            planted = functional.cross_entropy(logits[len(made) :], wanted[len(made) :])
            optimizer.zero_grad(set_to_none=True)
            (planted + drift).backward()
            optimizer.step()
        head.requires_grad_(False)
        return edited


def chosen_neurons(victim: ImageClassifier, count: int) -> list[int]:
    """The best connected neurons of the last hidden layer: most absolute weight leads to them.

    Raises:
        NotApplicableError: There is no linear head, or no convolution or linear layer of as many
            neurons before it.
    """
    head = victim.head
    if head is None:
        raise NotApplicableError(f"{victim.name} has no linear head whose neurons could be chosen")
    before = [
        layer
        for layer in victim.module.modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
        and layer is not head
        and layer.weight.shape[0] == head.in_features
    ]
    if not before or count > head.in_features:
        raise NotApplicableError(
            f"{victim.name} has no layer of at least {count} neurons before its head"
        )
    weight = before[-1].weight.detach().abs().flatten(1).sum(dim=1)
    return sorted(int(i) for i in weight.topk(count).indices)
