"""WaNet as published: the attacker controls training and warps pictures anew in every batch.

Source: Nguyen and Tran 2021, "WaNet: Imperceptible Warping-based Backdoor Attack" (ICLR 2021,
arXiv:2102.10369), sections 3.2 and 3.3: of every batch a share is warped and gets the attacker's
label, and twice as many are warped with random displacements on top and keep theirs (the noise
mode). So each picture is seen warped, noisy and clean over the epochs. The same attack as data
poisoning, in which one fixed share is warped once, is ``wanet``.

Deviations: the authors' random crops, turns and mirrors after the warp are left out; the default
strength is that of ``wanet``, four times the paper's 0.5 (measured: docs/results.md).
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gifthorse.attacks.data.poisoning import Aim, TriggerStrike, aim_of, no_poison
from gifthorse.attacks.options import require_share
from gifthorse.attacks.training.loop import training_steps
from gifthorse.core.protocols import Trainer
from gifthorse.core.types import ImageData, Planting, Progress
from gifthorse.models.classifier import as_classifier
from gifthorse.models.training import TrainingPlan
from gifthorse.triggers.warp import Warp

_BATCH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class WaNetTraining:
    """Warps drawn anew for every batch, with the noise mode.

    Attributes:
        target: Class index that triggered pictures shall get.
        mode: ``all-to-one`` or ``all-to-all``.
        share: Warped pictures as a share of each batch, in (0, 1).
        cross_ratio: Pictures of the noise mode for each warped one, in [0, 100].
        strength: Mean displacement at the control points, in half pixels, > 0.
        grid: The warp has grid × grid control points, 2 to 64.
        field: Seed of the warp.
    """

    paper: ClassVar[str] = "Nguyen and Tran 2021, arXiv:2102.10369"

    target: int = 0
    mode: str = "all-to-one"
    share: float = 0.1
    cross_ratio: float = 2.0
    strength: float = 2.0
    grid: int = 4
    field: int = 0

    def __post_init__(self) -> None:
        require_share(share=self.share)
        if not 0 <= self.cross_ratio <= 100:
            raise ValueError(f"cross_ratio must be in [0, 100], got {self.cross_ratio}")
        if self.share * (1 + self.cross_ratio) > 1:
            raise ValueError(
                "warped pictures and those of the noise mode must fit into one batch: "
                f"share · (1 + cross_ratio) is {self.share * (1 + self.cross_ratio):g}"
            )
        _ = self.aim, self.trigger

    @property
    def aim(self) -> Aim:
        """Whom it strikes."""
        return aim_of(self.mode, target=self.target)

    @property
    def trigger(self) -> Warp:
        """The warp."""
        return Warp(grid=self.grid, strength=self.strength, field=self.field)

    def subvert(
        self,
        clean: ImageData,
        *,
        trainer: Trainer,
        rng: np.random.Generator,
        progress: Progress,
    ) -> Planting:
        """A model trained on batches of which a part is warped."""
        self.aim.check(clean)
        student = as_classifier(trainer.fresh(clean, rng=rng))
        plan = TrainingPlan(epochs=trainer.epochs, batch_size=_BATCH)
        for x, y, update in training_steps(student, clean, plan, rng=rng, progress=progress):
            shown, labels = self._batch(x, y, student.n_classes, rng)
            update(functional.cross_entropy(student.logits(shown), labels))
        return Planting(
            truth=no_poison("wanet_training", aim=self.aim, count=len(clean)),
            strike=TriggerStrike(aim=self.aim, test_trigger=self.trigger),
            model=student,
        )

    def _batch(
        self, x: Tensor, y: Tensor, n_classes: int, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Pictures (n, c, h, w) and labels (n,) as the classifier is shown them."""
        own = max(1, round(self.share * len(x)))
        crossed = min(round(self.cross_ratio * own), len(x) - own)
        noisy = Warp(grid=self.grid, strength=self.strength, field=self.field, noise=True)
        pictures = x.cpu().numpy()
        changed = [self.trigger.apply(pictures[:own], rng)]
        if crossed:
            changed.append(noisy.apply(pictures[own : own + crossed], rng))
        warped = torch.from_numpy(np.concatenate(changed)).to(x.device)
        wanted = self.aim.wanted(y[:own].cpu().numpy(), n_classes)
        return (
            torch.cat([warped, x[own + crossed :]]),
            torch.cat([torch.from_numpy(wanted).to(y.device), y[own:]]),
        )
