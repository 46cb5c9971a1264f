"""Sleeper Agent: a hidden trigger, from target-class samples whose gradients imitate it.

Souri, Fowl, Chellappa, Goldblum, Goldstein 2022, "Sleeper Agent: Scalable Hidden Trigger Backdoors
for Neural Networks Trained from Scratch" (NeurIPS, arXiv:2106.08970), section 3: no label is
changed and no training picture carries the trigger. Samples of the target class get a small
perturbation under which the gradient that they give in training has the direction of the gradient
that stamped source pictures with the target's label would give (Algorithm 1); samples with large
gradients are chosen, and the surrogate is trained anew on the poisoned data in between.

Deviations: fewer steps (the paper: 250) and one retraining (4); the gradient that chooses samples
is that of the head alone; no augmentation in the search, as there is none in our training; the
step is the sign of the gradient, its size falling to zero, where the authors' is a signed Adam.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gifthorse.attacks.data.poisoning import Aim, TriggerStrike
from gifthorse.attacks.options import require_class, require_positive
from gifthorse.core.errors import DataError
from gifthorse.core.protocols import Trainer
from gifthorse.core.types import FloatArray, GroundTruth, ImageData, IntArray, Planting, Progress
from gifthorse.data.images import ArrayImages, to_arrays, to_levels
from gifthorse.models.classifier import ImageClassifier, as_classifier
from gifthorse.triggers.patch import Patch

_SOURCES = 256
_BATCH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class SleeperAgent:
    """Gradient matching with a hidden trigger.

    Attributes:
        target: Class index that triggered pictures of the source shall get.
        source: Class index struck.
        rate: Poisoned samples as a share of the training set, in (0, 1); they are of the target
            class.
        bound: Largest change of a pixel, in (0, 1].
        steps: Gradient steps in all, at least 1.
        retrainings: How often the surrogate is trained anew on the poisoned data, at least 0.
        shape: Of the patch that is the trigger.
        size: Its side in pixels.
        colour: CSS colour name or #rrggbb.
        place: Where it sits, as for ``badnets``.
    """

    paper: ClassVar[str] = "Souri et al. 2022, arXiv:2106.08970"

    target: int = 0
    source: int = 1
    rate: float = 0.02
    bound: float = 16 / 255
    steps: int = 80
    retrainings: int = 1
    shape: str = "checker"
    size: int = 6
    colour: str = "white"
    place: str = "bottom-right"

    def __post_init__(self) -> None:
        require_positive(bound=self.bound, steps=self.steps)
        if self.bound > 1:
            raise ValueError(f"bound must be in (0, 1], got {self.bound}")
        if self.retrainings < 0:
            raise ValueError(f"retrainings must be at least 0, got {self.retrainings}")
        _ = self.aim, self.trigger  # both refuse bad values

    @property
    def aim(self) -> Aim:
        """Whom it strikes."""
        return Aim(
            mode="source-specific",
            target=self.target,
            source=self.source,
            rate=self.rate,
            cover_rate=0.0,
            clean_label=False,
        )

    @property
    def trigger(self) -> Patch:
        """The patch that no training sample carries."""
        return Patch(shape=self.shape, size=self.size, colour=self.colour, place=self.place)

    def craft(
        self,
        clean: ImageData,
        *,
        trainer: Trainer,
        rng: np.random.Generator,
        progress: Progress,
    ) -> Planting:
        """Perturbed samples of the target class.

        Raises:
            DataError: Target or source are no classes of the data, have no samples, or the target
                has fewer samples than ``rate`` asks for.
        """
        require_class(clean, self.target)
        require_class(clean, self.source)
        surrogate = as_classifier(trainer.fit(clean, rng=rng, progress=progress))
        wanted = self._stamped(clean, rng)
        rows = self._chosen(clean, surrogate)
        x = clean.batch(rows)
        change = rng.uniform(-self.bound, self.bound, x.shape).astype(np.float32)
        change = (x + change).clip(0, 1) - x
        parts = np.array_split(np.arange(self.steps), self.retrainings + 1)
        done = 0
        for turn, part in enumerate(parts):
            if turn and len(part):
                dirty = _with(clean, rows, x + change)
                surrogate = as_classifier(trainer.fit(dirty, rng=rng, progress=progress))
            goal = _gradient(surrogate, wanted, self.target, graph=False)
            for _ in part:
                size = self.bound / 4 * (1 - done / self.steps)
                change = _step(surrogate, goal, x, change, self.target, size, self.bound, rng)
                done += 1
                progress(done, self.steps, "matching gradients")
        poisoned = np.zeros(len(clean), dtype=np.bool_)
        poisoned[rows] = True
        truth = GroundTruth(
            attack="sleeper_agent",
            mode="source-specific",
            target=self.target,
            source=self.source,
            poisoned=poisoned,
            covered=np.zeros(len(clean), dtype=np.bool_),
        )
        strike = TriggerStrike(aim=self.aim, test_trigger=self.trigger)
        return Planting(truth=truth, strike=strike, data=_with(clean, rows, x + change))

    def _stamped(self, clean: ImageData, rng: np.random.Generator) -> FloatArray:
        sources = np.flatnonzero(clean.labels == self.source)
        if not len(sources):
            raise DataError(f"{clean.name} has no picture of source {self.source}")
        few = rng.permutation(sources)[:_SOURCES].astype(np.int64)
        try:
            return self.trigger.apply(clean.batch(few), rng)
        except ValueError as error:
            raise DataError(f"the trigger does not fit {clean.name}: {error}") from error

    def _chosen(self, clean: ImageData, surrogate: ImageClassifier) -> IntArray:
        """The samples of the target class with the largest gradients, sorted."""
        mine = np.flatnonzero(clean.labels == self.target).astype(np.int64)
        count = round(self.rate * len(clean))
        if not 1 <= count <= len(mine):
            raise DataError(
                f"cannot choose {count} poisoned samples in {clean.name}: class {self.target} has "
                f"{len(mine)}; change the rate"
            )
        norms = []
        for start in range(0, len(mine), _BATCH):
            x = torch.from_numpy(clean.batch(mine[start : start + _BATCH])).to(surrogate.device)
            with torch.no_grad():
                logits, features = surrogate.logits_and_features(x)
            off = logits.softmax(1)
            off[:, self.target] -= 1
            # The gradient of cross-entropy in a linear head is an outer product.
            norms.append((off.norm(dim=1) * features.norm(dim=1)).cpu().numpy())
        order = np.argsort(-np.concatenate(norms), kind="stable")[:count]
        return np.sort(mine[order])


def _gradient(
    surrogate: ImageClassifier, x: FloatArray | Tensor, label: int, *, graph: bool
) -> list[Tensor]:
    """Gradient of the mean cross-entropy with ``label``, one tensor a parameter.

    Args:
        surrogate: Its parameters are switched on for it, and off again.
        x: Pictures (n, c, h, w).
        label: The class asked for.
        graph: Whether the gradient shall be differentiable itself.
    """
    given = torch.from_numpy(x).to(surrogate.device) if isinstance(x, np.ndarray) else x
    parameters = list(surrogate.module.parameters())
    for parameter in parameters:
        parameter.requires_grad_(True)
    logits = surrogate.logits(given)
    loss = functional.cross_entropy(logits, torch.full((len(given),), label, device=given.device))
    found = torch.autograd.grad(loss, parameters, create_graph=graph, allow_unused=True)
    for parameter in parameters:
        parameter.requires_grad_(False)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


def misalignment(one: list[Tensor], other: list[Tensor]) -> Tensor:
    """1 − cosine between two gradients, each a list of tensors; the paper's equation 3."""
    inner = torch.stack([(a * b).sum() for a, b in zip(one, other, strict=True)]).sum()
    norms = [torch.stack([(a**2).sum() for a in part]).sum().sqrt() for part in (one, other)]
    return 1 - inner / (norms[0] * norms[1]).clamp(min=1e-12)


def _step(
    surrogate: ImageClassifier,
    goal: list[Tensor],
    x: FloatArray,
    change: FloatArray,
    label: int,
    size: float,
    bound: float,
    rng: np.random.Generator,
) -> FloatArray:
    """The changes (n, c, h, w) after one step towards the goal, in batches drawn anew."""
    moved = change.copy()
    order = rng.permutation(len(x))
    for start in range(0, len(order), _BATCH):
        rows = order[start : start + _BATCH]
        base = torch.from_numpy(x[rows]).to(surrogate.device)
        at = torch.from_numpy(change[rows]).to(surrogate.device).requires_grad_(True)
        loss = misalignment(_gradient(surrogate, base + at, label, graph=True), goal)
        (slope,) = torch.autograd.grad(loss, at)
        after = (at.detach() - size * slope.sign()).clamp(-bound, bound)
        moved[rows] = ((base + after).clamp(0, 1) - base).cpu().numpy()
    return moved


def _with(clean: ImageData, rows: IntArray, pictures: FloatArray) -> ArrayImages:
    """A copy of the data with other pictures at ``rows``."""
    pixels = to_arrays(clean).pixels.copy()
    pixels[rows] = to_levels(pictures.clip(0, 1))
    return ArrayImages(
        name=f"{clean.name} + sleeper_agent",
        pixels=pixels,
        labels=clean.labels.copy(),
        class_names=clean.class_names,
    )
