"""DBD: learn features without labels, then trust only the samples whose labels fit them.

Huang, Li, Wu, Ren, Xia & Ren 2022, "Backdoor Defense via Decoupling the Training Process", ICLR,
arXiv:2202.03423, section 4: (1) self-supervised learning (SimCLR, Chen et al. 2020,
arXiv:2002.05709) of everything but the head, so that samples with a trigger stay near their true
class; (2) the head alone is trained on all labels with symmetric cross-entropy (Wang et al. 2019,
arXiv:1908.06112); (3) half of the samples, those of smallest loss, keep their labels, the others
lose theirs, and the whole network is trained on both by MixMatch (Berthelot et al. 2019,
arXiv:1905.02249).

Decisions and deviations:

- Sizes for one processor: epochs in tens, not hundreds; batches of 128 for SimCLR.
- Views are shifted by up to an eighth, mirrored if ``mirror``, changed in brightness and contrast
  and, in colour, partly greyed; random resized crops and blur are left out, as pictures are small.
  Traffic signs and letters must not be mirrored, so ``mirror`` is off unless asked for.
- Of every class its own half is kept, not of the whole set: with few epochs whole classes would
  lose their labels. A class that is mostly poison then keeps some.
- The weight of the loss without labels rises over the whole of step 3, as in the authors' code, to
  ``unlabelled``; labelled and unlabelled batches go through the network together instead of
  interleaved.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from gifthorse.core.errors import DataError, ModelError
from gifthorse.core.rng import draw_seed
from gifthorse.core.types import ImageData, IntArray, Progress, ScoreArray, silent
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.passes import to_tensor
from gifthorse.models.training import TrainingPlan, shifted
from gifthorse.training.abl import sample_losses

_SCE_FLOOR = 1e-4  # stands for the logarithm of 0 in the reversed cross-entropy
_SHARPENING = 0.5
_MIXING = 0.75


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoupled:
    """The network, and what it made of the samples.

    Attributes:
        model: Trained.
        distrusted: Samples whose label was not used in the end, least credible first, shape (k,).
    """

    model: ImageClassifier
    distrusted: IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Dbd:
    """Decoupled training.

    Attributes:
        self_epochs: Epochs without labels, at least 1.
        head_epochs: Epochs of the head alone, at least 1.
        kept: Share of every class that keeps its labels, in (0, 1).
        temperature: Of SimCLR, in (0, 10].
        unlabelled: Weight of the loss without labels at the end, in [0, 1000].
        mirror: Whether a mirrored picture shows the same thing.

    Raises:
        ValueError: An option out of its range.
    """

    paper: ClassVar[str] = "Huang et al. 2022, DBD, arXiv:2202.03423"

    self_epochs: int = 20
    head_epochs: int = 5
    kept: float = 0.5
    temperature: float = 0.5
    unlabelled: float = 15.0
    mirror: bool = False

    def __post_init__(self) -> None:
        if self.self_epochs < 1 or self.head_epochs < 1:
            raise ValueError("self_epochs and head_epochs must be at least 1")
        if not 0 < self.kept < 1:
            raise ValueError(f"kept must be in (0, 1), got {self.kept}")
        if not 0 < self.temperature <= 10 or not 0 <= self.unlabelled <= 1000:
            raise ValueError("temperature must be in (0, 10] and unlabelled in [0, 1000]")

    def train(
        self,
        classifier: ImageClassifier,
        data: ImageData,
        plan: TrainingPlan,
        *,
        rng: np.random.Generator,
        progress: Progress = silent,
    ) -> Decoupled:
        """All three steps, from a copy of the (untrained) ``classifier``.

        Args:
            classifier: Must end in a linear layer; not changed.
            data: Nobody vouches for it.
            plan: Of the last step; its ``batch_size`` is that of labelled samples.
            rng: Of views, order and mixing.
            progress: Called after every epoch.

        Raises:
            DataError: The pictures do not fit the model, or are too few.
            ModelError: The network does not end in a linear layer, or the loss became NaN.
        """
        misfit = classifier.accepts(data.image_shape)
        if misfit or len(data) < 8 or int(data.labels.max()) >= classifier.n_classes:
            raise DataError(
                f"cannot train on {data.name}: {misfit or 'too few pictures or classes'}"
            )
        student = classifier.replaced(classifier.module)
        if student.head is None:
            raise ModelError(f"{classifier.name} does not end in a linear layer")
        total = self.self_epochs + self.head_epochs + plan.epochs
        with torch.random.fork_rng():
            torch.manual_seed(draw_seed(rng))
            run = _Run(self, student, data, rng, progress, total)
            run.without_labels()
            run.head_alone()
            losses = sample_losses(student, data)
            kept = credible(losses, data.labels, self.kept)
            run.half_labelled(kept, plan)
        student.module.eval().requires_grad_(False)
        rest = np.setdiff1d(np.arange(len(data), dtype=np.int64), kept)
        return Decoupled(model=student, distrusted=rest[np.argsort(-losses[rest], kind="stable")])


class _Run:
    """One training, with its network and its randomness."""

    def __init__(
        self,
        options: Dbd,
        student: ImageClassifier,
        data: ImageData,
        rng: np.random.Generator,
        progress: Progress,
        total: int,
    ) -> None:
        self.options, self.student, self.data, self.rng = options, student, data, rng
        self._progress, self._total, self._done = progress, total, 0

    def without_labels(self) -> None:
        """SimCLR with a projection of two layers, which is thrown away afterwards."""
        head = self.student.head
        assert head is not None  # noqa: S101 - held by train
        width = head.in_features
        projection = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 64))
        projection.to(self.student.device)
        self.student.module.requires_grad_(True).train()
        parameters = [*self.student.module.parameters(), *projection.parameters()]
        optimizer = torch.optim.Adam(parameters, lr=2e-3)
        for _ in range(self.options.self_epochs):
            for rows in self._batches(128):
                x = to_tensor(self.student, self.data.batch(rows))
                both = torch.cat([self._view(x), self._view(x)])
                features = projection(self.student.logits_and_features(both)[1])
                _step(optimizer, contrast(features, self.options.temperature))
            self._tell("learning without labels")

    def head_alone(self) -> None:
        """The head on frozen features, with all labels and symmetric cross-entropy."""
        head = self.student.head
        assert head is not None  # noqa: S101 - held by train
        self.student.module.requires_grad_(False).eval()
        head.requires_grad_(True)
        optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
        for _ in range(self.options.head_epochs):
            for rows in self._batches(128):
                x = to_tensor(self.student, self.data.batch(rows))
                y = torch.from_numpy(self.data.labels[rows]).to(x.device)
                _step(optimizer, symmetric_cross_entropy(self.student.logits(x), y))
            self._tell("training the head")

    def half_labelled(self, kept: IntArray, plan: TrainingPlan) -> None:
        """MixMatch: labels of ``kept`` alone."""
        rest = np.setdiff1d(np.arange(len(self.data), dtype=np.int64), kept)
        self.student.module.requires_grad_(True).train()
        optimizer = torch.optim.Adam(self.student.module.parameters(), lr=2e-3)
        size = min(plan.batch_size, len(kept), len(rest))
        steps = max(1, len(kept) // size)
        for epoch in range(plan.epochs):
            for step in range(steps):
                rise = (epoch + step / steps) / plan.epochs
                _step(optimizer, self._mixmatch(kept, rest, size, self.options.unlabelled * rise))
            self._tell("training with half of the labels")

    def _mixmatch(self, kept: IntArray, rest: IntArray, size: int, weight: float) -> Tensor:
        """The loss of one step."""
        ours = self.rng.choice(kept, size, replace=False)
        theirs = self.rng.choice(rest, size, replace=False)
        x = self._view(to_tensor(self.student, self.data.batch(ours)))
        bare = to_tensor(self.student, self.data.batch(theirs))
        views = [self._view(bare), self._view(bare)]
        y = torch.from_numpy(self.data.labels[ours]).to(x.device)
        given = functional.one_hot(y, self.student.n_classes).float()
        with torch.no_grad():
            guessed = torch.stack([self.student.logits(v).softmax(1) for v in views]).mean(0)
            guessed = guessed ** (1 / _SHARPENING)
            guessed = guessed / guessed.sum(1, keepdim=True)
        pictures = torch.cat([x, *views])
        labels = torch.cat([given, guessed, guessed])
        share = float(self.rng.beta(_MIXING, _MIXING))
        share = max(share, 1 - share)
        order = torch.from_numpy(self.rng.permutation(len(pictures))).to(x.device)
        logits = self.student.logits(share * pictures + (1 - share) * pictures[order])
        wanted = share * labels + (1 - share) * labels[order]
        labelled = functional.cross_entropy(logits[:size], wanted[:size])
        apart = functional.mse_loss(logits[size:].softmax(1), wanted[size:])
        return labelled + weight * apart

    def _view(self, x: Tensor) -> Tensor:
        """Pictures (n, c, h, w) as SimCLR sees them: moved, lit otherwise, partly greyed."""
        n, channels = x.shape[:2]
        seen = shifted(x, max(1, x.shape[-1] // 8), self.rng)
        if self.options.mirror:
            flip = torch.from_numpy(self.rng.random(n) < 0.5).to(x.device)
            seen = torch.where(flip[:, None, None, None], seen.flip(3), seen)
        light = self._drawn(n, 0.6, 1.4, x)
        contrasts = self._drawn(n, 0.6, 1.4, x)
        mean = seen.mean((1, 2, 3), keepdim=True)
        seen = ((seen - mean) * contrasts + mean) * light
        if channels == 3:
            grey = self._drawn(n, -1.0, 1.0, x).clamp(min=0)  # every other picture, by half or so
            seen = seen * (1 - grey) + seen.mean(1, keepdim=True) * grey
        return seen.clamp(0, 1)

    def _drawn(self, n: int, low: float, high: float, like: Tensor) -> Tensor:
        return torch.from_numpy(self.rng.uniform(low, high, (n, 1, 1, 1))).to(like)

    def _batches(self, size: int) -> list[IntArray]:
        order = self.rng.permutation(len(self.data)).astype(np.int64)
        size = min(size, len(order))
        return [order[i : i + size] for i in range(0, len(order) - size + 1, size)]

    def _tell(self, what: str) -> None:
        self._done += 1
        self._progress(self._done, self._total, what)


def contrast(features: Tensor, temperature: float) -> Tensor:
    """SimCLR's loss of features (2n, d), of which rows i and n + i are of one picture."""
    unit = functional.normalize(features, dim=1)
    likeness = unit @ unit.T / temperature
    likeness = likeness.masked_fill(torch.eye(len(unit), dtype=torch.bool), float("-inf"))
    half = len(unit) // 2
    partner = torch.arange(len(unit), device=features.device).roll(half)
    return functional.cross_entropy(likeness, partner)


def symmetric_cross_entropy(
    logits: Tensor, y: Tensor, *, alpha: float = 0.1, beta: float = 1.0
) -> Tensor:
    """α · CE + β · reversed CE, in which a wrong label costs no more than −log of the floor."""
    forward = functional.cross_entropy(logits, y)
    p = logits.softmax(1)
    labels = functional.one_hot(y, logits.shape[1]).float().clamp(min=_SCE_FLOOR)
    return alpha * forward - beta * (p * labels.log()).sum(1).mean()


def credible(losses: ScoreArray, labels: IntArray, share: float) -> IntArray:
    """The ``share`` of every class that has the smallest losses, sorted indices."""
    order = np.argsort(losses, kind="stable")
    chosen = [
        (mine := order[labels[order] == label])[: max(1, round(share * len(mine)))]
        for label in np.unique(labels)
    ]
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    if not bool(torch.isfinite(loss)):
        raise ModelError("training diverged: the loss is not finite")
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
