"""Blind backdoors: the loss itself is poisoned; data and architecture stay as they are.

Source: Bagdasaryan and Shmatikov 2021, "Blind Backdoors in Deep Learning Models" (USENIX Security
2021, arXiv:2005.03823), sections 3 and 4: the attacker's code computes the loss of the batch and
that of its triggered copy, and weighs them with the multiple-gradient descent algorithm so that
neither suffers.

As in the authors' code (``mgda_normalize: loss+``), gradients are divided by their norm and by
their loss before the weights are found, else the loss that is learned first takes all the weight.

Deviations: the weights are found on the gradients of the last layer, where the paper takes all; the
evasion losses of section 6 are left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch.nn import functional

from gifthorse.attacks.data.poisoning import Aim, TriggerStrike, no_poison
from gifthorse.attacks.options import require_class, require_share
from gifthorse.attacks.training.loop import training_steps
from gifthorse.core.protocols import Trainer
from gifthorse.core.types import ImageData, Planting, Progress
from gifthorse.models.classifier import as_classifier
from gifthorse.models.training import TrainingPlan
from gifthorse.triggers.patch import Patch

_BATCH = 64
_TINY = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Blind:
    """A loss that teaches a patch.

    Attributes:
        target: Class index that triggered pictures shall get.
        share: Triggered copies as a share of each batch, in (0, 1).
        size: Side of the patch in pixels.
        colour: CSS colour name or #rrggbb.
        place: As of ``badnets``.
    """

    paper: ClassVar[str] = "Bagdasaryan and Shmatikov 2021, arXiv:2005.03823"

    target: int = 0
    share: float = 0.5
    size: int = 3
    colour: str = "yellow"
    place: str = "bottom-right"

    def __post_init__(self) -> None:
        require_share(share=self.share)
        _ = self.trigger, self.aim

    @property
    def aim(self) -> Aim:
        """Whom it strikes."""
        return all_to_one(self.target)

    @property
    def trigger(self) -> Patch:
        """The sticker."""
        return Patch(size=self.size, colour=self.colour, place=self.place)

    def subvert(
        self,
        clean: ImageData,
        *,
        trainer: Trainer,
        rng: np.random.Generator,
        progress: Progress,
    ) -> Planting:
        """A model trained on clean data with the attacker's loss."""
        require_class(clean, self.target)
        student = as_classifier(trainer.fresh(clean, rng=rng))
        plan = TrainingPlan(epochs=trainer.epochs, batch_size=_BATCH)
        strike = TriggerStrike(aim=self.aim, test_trigger=self.trigger)
        strike.triggered(clean, rng=rng)  # refuses what does not fit before the work
        head = list(student.module.parameters())[-2:]
        for x, y, update in training_steps(student, clean, plan, rng=rng, progress=progress):
            count = max(1, round(self.share * len(x)))
            stamped = self.trigger.apply(x[:count].cpu().numpy(), rng)
            both = torch.cat([x, torch.from_numpy(stamped).to(x.device)])
            logits = student.logits(both)
            honest = functional.cross_entropy(logits[: len(x)], y)
            wanted = torch.full((count,), self.target, device=x.device)
            planted = functional.cross_entropy(logits[len(x) :], wanted)
            weight = balance(honest, planted, head)
            update(weight * honest + (1 - weight) * planted)
        truth = no_poison("blind", aim=self.aim, count=len(clean))
        return Planting(truth=truth, strike=strike, model=student)


def all_to_one(target: int) -> Aim:
    """The aim of attacks that send everything to one class; the rate means nothing for them."""
    return Aim(
        mode="all-to-one",
        target=target,
        source=0,
        rate=0.5,
        cover_rate=0.0,
        clean_label=False,
    )


def balance(honest: torch.Tensor, planted: torch.Tensor, head: Sequence[torch.Tensor]) -> float:
    """The weight of ``honest``: the point between both gradients that is nearest to zero.

    Source: Désidéri 2012 (MGDA), in closed form for two losses, as in the paper's section 3.4.
    """
    first, second = (
        _normalised(loss, torch.autograd.grad(loss, head, retain_graph=True))
        for loss in (honest, planted)
    )
    apart = second - first
    length = float((apart * apart).sum())
    if length == 0:
        return 0.5
    # Kept off the ends: a loss of weight zero would not be learned at all.
    return min(0.9, max(0.1, float((apart * second).sum()) / length))


def _normalised(loss: torch.Tensor, parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """A gradient as one vector, of length 1/loss."""
    whole = torch.cat([part.flatten() for part in parts])
    length: torch.Tensor = whole.norm() * loss.detach()
    return whole / length.clamp_min(_TINY)
