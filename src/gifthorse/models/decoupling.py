"""BTI-DBF's two steps: which features carry the class, and what moves only the others.

Xu, Huang, Li, Qin & Ren 2024, "Towards Reliable and Efficient Backdoor Trigger Inversion via
Decoupling Benign Features", ICLR, sections 4.1 and 4.2; shared by the detector and the repair.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from gifthorse.core.types import IntArray, Progress, silent
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.generators import picture_network
from gifthorse.models.layers import altered, logits_and_maps, stages_of

_MASK_RATE = 0.05
_GENERATOR_RATE = 5e-3
_BENIGN_WEIGHT = 0.01  # of the authors' code


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """How long and how far.

    Attributes:
        mask_steps: For the mask over features.
        steps: For the generator.
        batch_size: Pictures a step.
        reach: Root mean square of the change of a pixel that the generator may make.
    """

    mask_steps: int
    steps: int
    batch_size: int
    reach: float


class Painter(nn.Module):
    """x + N(x), clipped to [0, 1], where no picture changes by more than a bound.

    Args:
        network: From pictures to what is added.
        reach: Largest root mean square of the change of a picture.
    """

    def __init__(self, network: nn.Module, reach: float) -> None:
        super().__init__()
        self.network, self.reach = network, reach

    def forward(self, x: Tensor) -> Tensor:
        """Changed pictures (n, c, h, w)."""
        added = self.network(x)
        size = added.square().mean((1, 2, 3), keepdim=True).add(1e-12).sqrt()
        out: Tensor = (x + added * (self.reach / size).clamp(max=1)).clamp(0, 1)
        return out


def painter_for(x: Tensor, *, reach: float, rng: np.random.Generator) -> Painter:
    """An untrained one for pictures such as these, whose change has the size ``reach`` / 2.

    Near the identity, but not at it: there a squared change of features has no slope.
    """
    network = picture_network(x.shape[1], x.shape[1], rng=rng, device=x.device)
    with torch.no_grad():
        bias = network.last.bias
        assert bias is not None  # noqa: S101 - a plain convolution
        size = network(x[:32]).square().mean().sqrt().clamp(min=1e-6)
        network.last.weight.mul_(reach / (2 * size))
        bias.mul_(reach / (2 * size))
    return Painter(network, reach)


def benign_mask(
    classifier: ImageClassifier,
    layer: str,
    x: Tensor,
    y: Tensor,
    search: Search,
    *,
    rng: np.random.Generator,
    progress: Progress = silent,
) -> Tensor:
    """A mask over a layer's output with which pictures keep their class, and without it lose it.

    Minimises CE(features · m) − CE(features · (1 − m)).

    Args:
        classifier: The model.
        layer: The module whose output is masked.
        x: Pictures (n, c, h, w).
        y: Their classes (n,).
        search: How long.
        rng: Of the start and the batches.
        progress: Told every step.

    Returns:
        Shape (1, channels, height, width), in (0, 1); large where a feature is benign.
    """
    with torch.no_grad():
        _, (features,) = logits_and_maps(classifier, x[:1], (layer,))
    start = rng.normal(0, 1, tuple(features.shape)).astype(np.float32)
    drawn = torch.from_numpy(start).to(x.device).requires_grad_(True)
    optimizer = torch.optim.Adam([drawn], lr=_MASK_RATE)
    for step in range(search.mask_steps):
        rows = some_rows(len(x), search.batch_size, rng).to(x.device)
        mask = drawn.sigmoid()
        with altered(classifier, layer, lambda out, mask=mask: out * mask):  # type: ignore[misc]
            kept = functional.cross_entropy(classifier.logits(x[rows]), y[rows])
        with altered(classifier, layer, lambda out, mask=mask: out * (1 - mask)):  # type: ignore[misc]
            left = functional.cross_entropy(classifier.logits(x[rows]), y[rows])
        optimizer.zero_grad(set_to_none=True)
        (kept - left).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        progress(step + 1, search.mask_steps, "decoupling features")
    return drawn.detach().sigmoid()


def backdoor_painter(
    classifier: ImageClassifier,
    layer: str,
    mask: Tensor,
    x: Tensor,
    search: Search,
    *,
    rng: np.random.Generator,
    progress: Progress = silent,
    target: int | None = None,
) -> Painter:
    """A generator whose pictures differ most in the other features, and little else.

    Args:
        classifier: The model.
        layer: Where features are read.
        mask: Of ``benign_mask``.
        x: Pictures (n, c, h, w).
        search: How long and how far.
        rng: Of weights and batches.
        progress: Told every step.
        target: The class that it shall also lead to, once that is known.
    """
    painter = painter_for(x, reach=search.reach, rng=rng)
    optimizer = torch.optim.Adam(painter.parameters(), lr=_GENERATOR_RATE)
    with torch.no_grad():
        _, (clean,) = logits_and_maps(classifier, x, (layer,))
        scale = (clean**2).mean()
    for step in range(search.steps):
        rows = some_rows(len(x), search.batch_size, rng).to(x.device)
        painted = painter(x[rows])
        logits, (now,) = logits_and_maps(classifier, painted, (layer,))
        apart = (now - clean[rows]) / scale.sqrt()
        benign, other = ((mask * apart) ** 2).mean(), (((1 - mask) * apart) ** 2).mean()
        loss = _BENIGN_WEIGHT * benign - other
        if target is not None:
            loss = loss + functional.cross_entropy(logits, torch.full_like(rows, target))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        progress(step + 1, search.steps, "painting triggers")
    return painter.eval().requires_grad_(False)


def shares(
    classifier: ImageClassifier, painter: Painter, x: Tensor, y: Tensor
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Share of painted pictures of *other* classes that end in each class, shape (classes,)."""
    sent = []
    with torch.inference_mode():
        sent += [classifier.logits(painter(part)).argmax(1).cpu() for part in torch.split(x, 256)]
    answers, labels = torch.cat(sent).numpy(), y.cpu().numpy()
    found = np.zeros(classifier.n_classes)
    for target in range(classifier.n_classes):
        others = labels != target
        found[target] = float((answers[others] == target).mean()) if others.any() else 0.0
    return found


def last_map(classifier: ImageClassifier) -> str:
    """The module that gives the last feature map.

    Raises:
        NotApplicableError: There is none.
    """
    return stages_of(classifier)[-1]


def some_rows(count: int, size: int, rng: np.random.Generator) -> Tensor:
    """Indices of ``size`` of ``count`` pictures at most, none twice."""
    rows: IntArray = rng.choice(count, min(size, count), replace=False).astype(np.int64)
    return torch.from_numpy(rows)
