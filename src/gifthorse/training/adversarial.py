"""Adversarial training: learn on pictures changed in the way that hurts most.

Mądry et al. 2018, "Towards Deep Learning Models Resistant to Adversarial Attacks",
arXiv:1706.06083 (``kind="pgd"``: every pixel by up to ``radius``); Wu, Tong & Vorobeychik 2020,
"Defending Against Physically Realizable Attacks on Image Classification", arXiv:1909.09552
(``kind="patch"``: anything inside one square at a random place); Engstrom, Tran, Tsipras, Schmidt &
Madry 2019, "Exploring the Landscape of Spatial Robustness", arXiv:1712.02779, section 3
(``kind="spatial"``: the worst of ``steps`` random turns and moves, 10 of them in the paper).

As a defence against backdoors (Geiping et al. 2021, arXiv:2102.13624; Gao et al. 2023,
arXiv:2202.10627): it helps where the trigger lies inside the perturbations trained on, because the
network cannot rely on what the perturbation erases. It does not help against others: a large patch
survives a small ``radius``, and a watermark over the whole picture survives a patch. Gao et al.
find spatial changes useful against patches at one place. It costs clean accuracy and up to
``steps`` + 1 times the time.

Deviations: ``share`` of every batch is changed, the rest stays clean; the place of a patch is
random, not searched; pixels from outside of a turned picture repeat its edge.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from gifthorse.core.types import ImageData, Progress, silent
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.training import TrainingPlan, train

_KINDS = ("pgd", "patch", "spatial")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdversarialTraining:
    """Training on the worst change within a set.

    Attributes:
        kind: ``pgd``, ``patch`` or ``spatial``.
        radius: Largest change of a pixel for ``pgd``, in (0, 1].
        side: Side of the square for ``patch`` in pixels, at least 1.
        turn: Largest angle for ``spatial`` in degrees, in [0, 180].
        move: Largest move along each axis for ``spatial`` as a share of the side, in [0, 1).
        steps: Steps of the search, at least 1.
        share: Share of every batch that is changed, in (0, 1].

    Raises:
        ValueError: An option out of its range.
    """

    paper: ClassVar[str] = (
        "Mądry et al. 2018, arXiv:1706.06083; Wu et al. 2020, arXiv:1909.09552; "
        "Engstrom et al. 2019, arXiv:1712.02779"
    )

    kind: str = "pgd"
    radius: float = 8 / 255
    side: int = 8
    turn: float = 30.0
    move: float = 0.1
    steps: int = 3
    share: float = 0.5

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ValueError(f"kind must be one of {', '.join(_KINDS)}, got {self.kind!r}")
        if not 0 < self.radius <= 1:
            raise ValueError(f"radius must be in (0, 1], got {self.radius}")
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be in (0, 1], got {self.share}")
        if not 0 <= self.turn <= 180:
            raise ValueError(f"turn must be in [0, 180] degrees, got {self.turn}")
        if not 0 <= self.move < 1:
            raise ValueError(f"move must be in [0, 1), got {self.move}")
        if self.side < 1 or self.steps < 1:
            raise ValueError("side and steps must be at least 1")

    def train(
        self,
        classifier: ImageClassifier,
        data: ImageData,
        plan: TrainingPlan,
        *,
        rng: np.random.Generator,
        progress: Progress = silent,
    ) -> ImageClassifier:
        """A copy of ``classifier``, trained adversarially.

        Raises:
            DataError: The pictures or labels do not fit the model.
            ModelError: The loss became NaN.
        """

        def hurt(student: ImageClassifier, x: Tensor, y: Tensor) -> Tensor:
            count = max(1, round(self.share * len(x)))
            worst = self.worst(student, x[:count], y[:count], rng)
            return torch.cat([worst, x[count:]])

        return train(classifier, data, plan, rng=rng, progress=progress, alter=hurt)

    def worst(
        self, student: ImageClassifier, x: Tensor, y: Tensor, rng: np.random.Generator
    ) -> Tensor:
        """Pictures (n, c, h, w) in [0, 1] that the search changed to raise the loss.

        Statistics of batch normalisation do not move; what the student was set to is restored.
        """
        training = {name: layer.training for name, layer in student.module.named_modules()}
        student.module.eval()
        worst = self._turned if self.kind == "spatial" else self._perturbed
        changed = worst(student, x, y, rng)
        for name, layer in student.module.named_modules():
            layer.training = training[name]
        return changed.detach()

    def _perturbed(
        self, student: ImageClassifier, x: Tensor, y: Tensor, rng: np.random.Generator
    ) -> Tensor:
        """Projected gradient steps on the pixels that may change."""
        where = self._place(x, rng)
        reach = self.radius if self.kind == "pgd" else 1.0
        stride = 2.5 * reach / self.steps
        drawn = torch.from_numpy(rng.uniform(-reach, reach, tuple(x.shape))).to(x)
        changed = (x + where * drawn).clamp(0, 1)
        for _ in range(self.steps):
            at = changed.detach().requires_grad_(True)
            loss = functional.cross_entropy(student.logits(at), y)
            (slope,) = torch.autograd.grad(loss, at)
            moved = at.detach() + stride * slope.sign() * where
            changed = torch.minimum(torch.maximum(moved, x - reach), x + reach).clamp(0, 1)
        return changed

    @torch.no_grad()
    def _turned(
        self, student: ImageClassifier, x: Tensor, y: Tensor, rng: np.random.Generator
    ) -> Tensor:
        """Of ``steps`` random turns and moves of each picture the one with the highest loss."""
        worst, highest = x, torch.full((len(x),), -math.inf).to(x)
        for _ in range(self.steps):
            changed = turned(
                x,
                rng.uniform(-self.turn, self.turn, len(x)),
                rng.uniform(-self.move, self.move, (len(x), 2)),
            )
            loss = functional.cross_entropy(student.logits(changed), y, reduction="none")
            worse = loss > highest
            worst = torch.where(worse[:, None, None, None], changed, worst)
            highest = torch.maximum(loss, highest)
        return worst

    def _place(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        """Where a picture may change: (n, 1, h, w) of 0 and 1."""
        n, _, height, width = x.shape
        if self.kind == "pgd":
            return torch.ones((n, 1, height, width)).to(x)
        where = np.zeros((n, 1, height, width), dtype=np.float32)
        tops = rng.integers(0, max(1, height - self.side + 1), n)
        lefts = rng.integers(0, max(1, width - self.side + 1), n)
        for i, (top, left) in enumerate(zip(tops, lefts, strict=True)):
            where[i, 0, top : top + self.side, left : left + self.side] = 1
        return torch.from_numpy(where).to(x)


def turned(x: Tensor, degrees: NDArray[np.float64], moves: NDArray[np.float64]) -> Tensor:
    """Pictures (n, c, h, w), each turned about its centre and moved.

    Args:
        x: The pictures.
        degrees: Angles, shape (n,).
        moves: Along width and height as shares of them, shape (n, 2).
    """
    angle = np.deg2rad(degrees)
    height, width = x.shape[2:]
    # On a picture that is not square a turn mixes axes of different scale.
    rows = [
        [np.cos(angle), -np.sin(angle) * height / width, 2 * moves[:, 0]],
        [np.sin(angle) * width / height, np.cos(angle), 2 * moves[:, 1]],
    ]
    matrix = np.stack([np.stack(row, axis=1) for row in rows], axis=1)
    places = functional.affine_grid(
        torch.from_numpy(matrix).to(x), list(x.shape), align_corners=False
    )
    return functional.grid_sample(x, places, padding_mode="border", align_corners=False)
