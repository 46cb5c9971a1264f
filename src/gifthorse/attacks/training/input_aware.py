"""Input-aware: each picture has a trigger of its own, which does not work on another picture.

Source: Nguyen and Tran 2020, "Input-Aware Dynamic Backdoor Attack" (NeurIPS 2020,
arXiv:2010.08138), sections 3 and 4: one generator draws a pattern for a picture, another a sparse
mask. Of every batch a share carries its own trigger and gets the attacker's label, and as large a
share carries the trigger of another picture and keeps its label (the cross-trigger or cover mode).
A diversity loss keeps patterns of different pictures apart. The mask generator is trained first,
on sparsity and diversity.

Deviations: both generators are small; the mask's density is higher than the paper's 0.032, a
choice for short training (sparser ones were not measured).
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gifthorse.attacks.data.poisoning import Aim, TriggerStrike, aim_of, no_poison
from gifthorse.attacks.options import require_positive, require_share
from gifthorse.attacks.training.loop import training_steps
from gifthorse.core.protocols import Trainer
from gifthorse.core.types import ImageData, Planting, Progress
from gifthorse.models.classifier import ImageClassifier, as_classifier
from gifthorse.models.generators import PictureNetwork, picture_network
from gifthorse.models.training import TrainingPlan
from gifthorse.triggers.learned import Generated

_BATCH = 64
_DENSITY_WEIGHT = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class InputAware:
    """Triggers drawn for each picture by generators that are trained with the classifier.

    Attributes:
        target: Class index that triggered pictures shall get.
        mode: ``all-to-one`` or ``all-to-all``.
        share: Pictures with their own trigger as a share of each batch, in (0, 0.5).
        cover_share: Pictures with the trigger of another and their true label, in [0, 0.5).
        density: Mean of the mask that costs nothing, in (0, 1).
        diversity: Weight of the diversity loss, ≥ 0.
        steps: Steps of the mask generator before the joint training, ≥ 1.
    """

    paper: ClassVar[str] = "Nguyen and Tran 2020, arXiv:2010.08138"

    target: int = 0
    mode: str = "all-to-one"
    share: float = 0.15
    cover_share: float = 0.15
    density: float = 0.06
    diversity: float = 1.0
    steps: int = 60

    def __post_init__(self) -> None:
        require_share(density=self.density, share=self.share)
        require_positive(steps=self.steps)
        if not (self.share < 0.5 and 0 <= self.cover_share < 0.5):
            raise ValueError(
                f"share and cover_share must be below 0.5, got {self.share}, {self.cover_share}"
            )
        if not 0 <= self.diversity <= 1e6:
            raise ValueError(f"diversity must be in [0, 1000000], got {self.diversity}")
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
        """A model trained together with the generators of its triggers."""
        self.aim.check(clean)
        student = as_classifier(trainer.fresh(clean, rng=rng))
        channels = clean.image_shape[0]
        brush = picture_network(channels, channels, rng=rng, device=student.device)
        stencil = picture_network(channels, 1, rng=rng, device=student.device)
        self._train_stencil(stencil, student, clean, rng, progress)
        artist = torch.optim.Adam(brush.parameters(), lr=3e-3)
        plan = TrainingPlan(epochs=trainer.epochs, batch_size=_BATCH)
        own = max(1, round(self.share * _BATCH))
        cover = round(self.cover_share * _BATCH)
        for x, y, update in training_steps(student, clean, plan, rng=rng, progress=progress):
            count, crossed = min(own, len(x)), min(cover, max(0, len(x) - own))
            shown, labels, pattern = self._batch(brush, stencil, x, y, count, crossed, student)
            loss = functional.cross_entropy(student.logits(shown), labels)
            artist.zero_grad(set_to_none=True)
            update(loss + self.diversity * _sameness(x, torch.sigmoid(pattern)))
            artist.step()
        for network in (brush, stencil):
            network.eval().requires_grad_(False).cpu()
        trigger = Generated(
            change=lambda x: worn(x, brush(x), stencil(x)), image_shape=clean.image_shape
        )
        return Planting(
            truth=no_poison("input_aware", aim=self.aim, count=len(clean)),
            strike=TriggerStrike(aim=self.aim, test_trigger=trigger),
            model=student,
        )

    def _train_stencil(
        self,
        stencil: PictureNetwork,
        student: ImageClassifier,
        clean: ImageData,
        rng: np.random.Generator,
        progress: Progress,
    ) -> None:
        """Teach the mask generator sparse masks that differ from picture to picture, in place."""
        optimizer = torch.optim.Adam(stencil.parameters(), lr=1e-2)
        for step in range(self.steps):
            rows = rng.integers(len(clean), size=min(_BATCH, len(clean)))
            x = torch.from_numpy(clean.batch(rows)).to(student.device)
            mask = mask_of(stencil(x))
            excess = (mask.mean(dim=(1, 2, 3)) - self.density).clamp_min(0).mean()
            loss = _DENSITY_WEIGHT * excess + self.diversity * _sameness(x, mask)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            progress(step + 1, self.steps, "training the mask")
        stencil.eval().requires_grad_(False)

    def _batch(
        self,
        brush: PictureNetwork,
        stencil: PictureNetwork,
        x: Tensor,
        y: Tensor,
        own: int,
        crossed: int,
        student: ImageClassifier,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What the classifier sees, its labels, and the patterns of all pictures of the batch."""
        pattern = brush(x)
        with torch.no_grad():
            mask = stencil(x)
        # A picture's neighbour in the (shuffled) batch lends it a trigger.
        lent = slice(own + 1, own + crossed + 1) if own + crossed < len(x) else slice(0, crossed)
        target = slice(own, own + crossed)
        shown = torch.cat(
            [
                worn(x[:own], pattern[:own], mask[:own]),
                worn(x[target], pattern[lent], mask[lent]),
                x[own + crossed :],
            ]
        )
        wanted = self.aim.wanted(y[:own].cpu().numpy(), student.n_classes)
        labels = torch.cat([torch.from_numpy(wanted).to(y.device), y[own:]])
        return shown, labels, pattern


def mask_of(drawn: Tensor) -> Tensor:
    """A mask in (0, 1) from the stencil's map (n, 1, h, w), steep as in the authors' code."""
    return 0.5 * (1 + torch.tanh(10 * drawn))


def worn(x: Tensor, pattern: Tensor, mask: Tensor) -> Tensor:
    """Pictures (n, c, h, w) with patterns where their masks are: x + (p − x) · m."""
    return x + (torch.sigmoid(pattern) - x) * mask_of(mask)


def _sameness(x: Tensor, drawn: Tensor) -> Tensor:
    """The diversity loss: distance of neighbours' pictures over the distance of what they wear."""
    apart = (x - x.roll(1, 0)).flatten(1).norm(dim=1) / x[0].numel() ** 0.5
    worn_apart = (drawn - drawn.roll(1, 0)).flatten(1).norm(dim=1) / drawn[0].numel() ** 0.5
    return torch.mean(apart / (worn_apart + 1e-2))
