"""LIRA: classifier and trigger are learned together; a network draws the trigger, a faint change.

Source: Doan, Lao, Zhao, Li 2021, "LIRA: Learnable, Imperceptible and Robust Backdoor Attacks"
(ICCV 2021), section 4 and algorithm 1: in the first stage generator and classifier are trained
alternately on α · clean loss + (1 − α) · triggered loss; in the second the generator is frozen, and
the classifier is tuned on the same loss.

Deviations: generator and classifier step on the same batch and the same loss, as if alternating
with one step each; the generator is small; the bound is larger than the paper's, a choice for small
pictures and short training (fainter ones were not measured).
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from gifthorse.attacks.data.poisoning import Aim, TriggerStrike, aim_of, no_poison
from gifthorse.attacks.options import require_share
from gifthorse.attacks.training.loop import training_steps
from gifthorse.core.protocols import Trainer
from gifthorse.core.types import ImageData, Planting, Progress
from gifthorse.models.classifier import as_classifier
from gifthorse.models.generators import picture_network
from gifthorse.models.training import TrainingPlan
from gifthorse.triggers.learned import Generated

_FIRST_STAGE = 0.6  # of all steps; the classifier alone is trained afterwards


@dataclass(frozen=True, slots=True, kw_only=True)
class Lira:
    """A trigger that is learned with the classifier.

    Attributes:
        target: Class index that triggered pictures shall get.
        mode: ``all-to-one`` or ``all-to-all``.
        bound: Largest change of a pixel, in (0, 1].
        alpha: Weight of the clean loss, in (0, 1).
    """

    paper: ClassVar[str] = "Doan et al. 2021, ICCV 2021 (LIRA)"

    target: int = 0
    mode: str = "all-to-one"
    bound: float = 0.1
    alpha: float = 0.5

    def __post_init__(self) -> None:
        require_share(alpha=self.alpha)
        if not 0 < self.bound <= 1:
            raise ValueError(f"bound must be in (0, 1], got {self.bound}")
        _ = self.aim

    @property
    def aim(self) -> Aim:
        """Whom it strikes."""
        return aim_of(self.mode, target=self.target)

    def subvert(
        self,
        clean: ImageData,
        *,
        trainer: Trainer,
        rng: np.random.Generator,
        progress: Progress,
    ) -> Planting:
        """A model trained together with its trigger."""
        self.aim.check(clean)
        student = as_classifier(trainer.fresh(clean, rng=rng))
        channels = clean.image_shape[0]
        generator = picture_network(channels, channels, rng=rng, device=student.device)
        artist = torch.optim.Adam(generator.parameters(), lr=3e-3)
        plan = TrainingPlan(epochs=trainer.epochs, batch_size=64)
        total = max(1, len(clean) // plan.batch_size) * plan.epochs
        first = max(1, round(_FIRST_STAGE * total))
        steps = training_steps(student, clean, plan, rng=rng, progress=progress)
        for done, (x, y, update) in enumerate(steps):
            if done == first:
                generator.requires_grad_(False)
            marked = mark(generator, x, self.bound)
            logits = student.logits(torch.cat([x, marked]))
            wanted = torch.from_numpy(self.aim.wanted(y.cpu().numpy(), student.n_classes))
            honest = functional.cross_entropy(logits[: len(x)], y)
            planted = functional.cross_entropy(logits[len(x) :], wanted.to(x.device))
            artist.zero_grad(set_to_none=True)
            update(self.alpha * honest + (1 - self.alpha) * planted)
            if done < first:
                artist.step()
        generator.requires_grad_(False).cpu()
        trigger = Generated(
            change=lambda x: mark(generator, x, self.bound), image_shape=clean.image_shape
        )
        return Planting(
            truth=no_poison("lira", aim=self.aim, count=len(clean)),
            strike=TriggerStrike(aim=self.aim, test_trigger=trigger),
            model=student,
        )


def mark(generator: nn.Module, x: Tensor, bound: float) -> Tensor:
    """Pictures (n, c, h, w) in [0, 1], each changed by at most ``bound`` as the generator says."""
    return (x + bound * torch.tanh(generator(x))).clamp(0, 1)
