"""Trigger inversion for all classes at once: one perturbation a class, optimised in one batch."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gifthorse.core.types import IntArray
from gifthorse.detectors.models.trusted import Probe
from gifthorse.models.classifier import ImageClassifier

AWAY = -1
"""In place of a class: anywhere but where the model puts the picture."""
IMAGES_AT_ONCE = 1024
"""Pictures in one forward pass, so that memory is bounded whatever the number of classes."""
_PIXELS_AT_ONCE = 1024 * 32 * 32
"""More would leave the processor's cache: 8 pictures of 224×224 take 37 ms each, 80 take 68 ms."""


def images_at_once(shape: Sequence[int]) -> int:
    """Pictures (…, h, w) in one forward pass: fewer if they are larger than 32×32."""
    return max(8, min(IMAGES_AT_ONCE, _PIXELS_AT_ONCE // (shape[-2] * shape[-1])))


class Family(Protocol):
    """One kind of perturbation, with a size. Parameters are tensors with first axis (classes,)."""

    def start(
        self, classes: int, shape: tuple[int, int, int], generator: torch.Generator
    ) -> list[Tensor]:
        """Fresh parameters for pictures of ``shape`` (c, h, w)."""

    def apply(self, parameters: list[Tensor], x: Tensor) -> Tensor:
        """Every perturbation on every picture (n, c, h, w): (classes, n, c, h, w) in [0, 1].

        Pictures may also come as (classes, n, c, h, w): every perturbation has its own.
        """

    def size(self, parameters: list[Tensor]) -> Tensor:
        """How big each perturbation is, shape (classes,), ≥ 0, differentiable."""


class Additive:
    """x + δ, clipped to [0, 1]; the size is the L2 norm of δ."""

    def start(
        self, classes: int, shape: tuple[int, int, int], generator: torch.Generator
    ) -> list[Tensor]:
        """δ close to zero, shape (classes, c, h, w)."""
        return [0.02 * torch.randn((classes, *shape), generator=generator)]

    def apply(self, parameters: list[Tensor], x: Tensor) -> Tensor:
        """Every δ on every picture."""
        return (x + parameters[0][:, None]).clamp(0, 1)

    def size(self, parameters: list[Tensor]) -> Tensor:
        """L2 norms."""
        norms: Tensor = torch.linalg.vector_norm(parameters[0].flatten(1), dim=1)
        return norms


class Masked:
    """x · (1 − m) + p · m with m and p in [0, 1]; the size is the L1 norm of m.

    The parametrisation of Neural Cleanse (Wang et al. 2019, equation 2).

    Args:
        start_opacity: m at the start, in (0, 1).
        cells: m and p are constant on the cells of a grid with at most so many rows and columns,
            which large pictures need: noise as fine as their pixels reaches any class. None gives
            every pixel its own.
    """

    def __init__(self, start_opacity: float, cells: int | None = None) -> None:
        self.start_opacity, self.cells = start_opacity, cells
        self._shape: tuple[int, int] | None = None

    def start(
        self, classes: int, shape: tuple[int, int, int], generator: torch.Generator
    ) -> list[Tensor]:
        """Logits of m (classes, 1, h, w) and of p (classes, c, h, w)."""
        level = float(np.log(self.start_opacity / (1 - self.start_opacity)))
        grid = shape[1:]
        if self.cells is not None:
            self._shape = grid
            grid = (min(grid[0], self.cells), min(grid[1], self.cells))
        mask = level + 0.1 * torch.randn((classes, 1, *grid), generator=generator)
        return [mask, 0.5 * torch.randn((classes, shape[0], *grid), generator=generator)]

    def apply(self, parameters: list[Tensor], x: Tensor) -> Tensor:
        """Every mask and pattern on every picture."""
        mask, pattern = (value[:, None] for value in self.opened(parameters))
        return x * (1 - mask) + pattern * mask

    def size(self, parameters: list[Tensor]) -> Tensor:
        """L1 norms of the masks, in pixels."""
        opacity = parameters[0].sigmoid().flatten(1)
        if self._shape is None:
            return opacity.sum(1)
        return opacity.mean(1) * (self._shape[0] * self._shape[1])

    def opened(self, parameters: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Mask (classes, 1, h, w) and pattern (classes, c, h, w), both in [0, 1]."""
        mask, pattern = parameters[0].sigmoid(), parameters[1].sigmoid()
        if self._shape is None or mask.shape[-2:] == self._shape:
            return mask, pattern
        return (
            functional.interpolate(mask, self._shape),
            functional.interpolate(pattern, self._shape),
        )


class Race:
    """Perturbations towards all classes, moved on together.

    Args:
        classifier: The model.
        probe: Pictures to perturb; those that the model puts in a class already do not count for
            that class.
        family: The kind of perturbation.
        learning_rate: Of Adam, with the betas (0.5, 0.9) of Neural Cleanse.
        generator: For the start.
        classes: Towards these only, shape (k,); None for all. Everything that has a first axis
            (classes,) then follows their order. ``AWAY`` stands for any class but the picture's.
        pools: Which pictures each of them is about, shape (k, m), rows of the probe; None for all.
    """

    def __init__(
        self,
        classifier: ImageClassifier,
        probe: Probe,
        family: Family,
        *,
        learning_rate: float,
        generator: torch.Generator,
        classes: IntArray | None = None,
        pools: IntArray | None = None,
    ) -> None:
        self.classifier, self.probe, self.family = classifier, probe, family
        every = np.arange(classifier.n_classes, dtype=np.int64)
        chosen = every if classes is None else classes
        self.classes = torch.from_numpy(chosen).to(classifier.device)
        self.pools = None if pools is None else torch.from_numpy(pools).to(classifier.device)
        shape = probe.x.shape
        started = family.start(len(chosen), (shape[1], shape[2], shape[3]), generator=generator)
        self.parameters = [p.to(classifier.device).requires_grad_(True) for p in started]
        self.optimizer = torch.optim.Adam(self.parameters, lr=learning_rate, betas=(0.5, 0.9))

    def step(self, rows: IntArray, weights: Tensor) -> tuple[Tensor, Tensor]:
        """One step of Adam on cross-entropy + weight · size, each class on its own.

        Args:
            rows: Which pictures of the probe to use, shape (b,).
            weights: Weight of the size, shape (classes,).

        Returns:
            Before the step: share of pictures sent to the class, and sizes; both (classes,).
        """
        index = torch.from_numpy(rows).to(self.classifier.device)
        self.optimizer.zero_grad(set_to_none=True)
        weights = weights.to(self.classifier.device)
        hits, sizes = [], []
        for part in self._groups(len(index)):
            mine = [p[part] for p in self.parameters]
            x, y = self._pictures(part, index)
            loss, hit, size = self._loss(mine, x, y, self.classes[part], weights[part])
            loss.backward()  # type: ignore[no-untyped-call]
            hits.append(hit)
            sizes.append(size)
        self.optimizer.step()
        return torch.cat(hits), torch.cat(sizes)

    def success(self) -> tuple[Tensor, Tensor]:
        """Share of *all* probe pictures sent to each class, and the sizes; both (classes,)."""
        hits = []
        count = len(self.probe.x) if self.pools is None else self.pools.shape[1]
        every = torch.arange(count, device=self.classifier.device)
        with torch.inference_mode():
            for part in self._groups(count):
                mine = [p[part] for p in self.parameters]
                x, y = self._pictures(part, every)
                hits.append(_hit(self._logits(mine, x), y, self.classes[part]))
            sizes = self.family.size(self.parameters)
        return torch.cat(hits).clone(), sizes.clone()

    def _pictures(self, part: slice, index: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (n, c, h, w) and predictions (1, n) for all, or (k, n, …) with pools."""
        if self.pools is None:
            return self.probe.x[index], self.probe.y[index][None]
        rows = self.pools[part][:, index]
        return self.probe.x[rows], self.probe.y[rows]

    def _loss(
        self, mine: list[Tensor], x: Tensor, y: Tensor, classes: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        out = self._logits(mine, x)
        y = y.expand(out.shape[:2])
        away = classes == AWAY
        goal = torch.where(away, 0, classes)[:, None].expand_as(y)
        loss = functional.cross_entropy(out.flatten(0, 1), goal.flatten(), reduction="none")
        loss = loss.view(y.shape)
        if bool(away.any()):
            loss = torch.where(away[:, None], _own_margin(out, y), loss)
        counts = (y != classes[:, None]).float()
        loss = (loss * counts).sum(1) / counts.sum(1).clamp(min=1)
        size = self.family.size(mine)
        hit = _hit(out.detach(), y, classes)
        return (loss + weights * size).sum(), hit, size.detach()

    def _logits(self, mine: list[Tensor], x: Tensor) -> Tensor:
        """(classes, n, all classes)."""
        stamped = self.family.apply(mine, x)
        return self.classifier.logits(stamped.flatten(0, 1)).view(*stamped.shape[:2], -1)

    def _groups(self, pictures: int) -> list[slice]:
        width = max(1, images_at_once(self.probe.x.shape) // pictures)
        return [slice(i, i + width) for i in range(0, len(self.classes), width)]


def _own_margin(out: Tensor, y: Tensor) -> Tensor:
    """−log of the probability of any class but y, shape (k, n)."""
    own = out.gather(2, y[..., None])[..., 0]
    others = out.scatter(2, y[..., None], float("-inf")).logsumexp(2)
    return functional.softplus(own - others)


def _hit(logits: Tensor, y: Tensor, classes: Tensor) -> Tensor:
    """Share of pictures of other classes that end in each class, shape (classes,)."""
    counts = (y != classes[:, None]).float()
    found = logits.argmax(-1)
    sent = torch.where(classes[:, None] == AWAY, found != y, found == classes[:, None]).float()
    return (sent * counts).sum(1) / counts.expand_as(sent).sum(1).clamp(min=1)


class Batches:
    """Endless shuffled batches of rows; a pass never repeats a picture."""

    def __init__(self, total: int, size: int, rng: np.random.Generator) -> None:
        self.total, self.size, self.rng = total, min(size, total), rng
        self._order: IntArray = rng.permutation(total).astype(np.int64)
        self._next = 0

    def draw(self) -> IntArray:
        """The next batch of rows, shape (size,)."""
        if self._next + self.size > self.total:
            self._order = self.rng.permutation(self.total).astype(np.int64)
            self._next = 0
        rows = self._order[self._next : self._next + self.size]
        self._next += self.size
        return rows
