"""Confusion training: a network that unlearns everything but the backdoor tells who carries it.

Qi, Xie, Wang, Wu, Mahloujifar & Mittal 2023, "Towards A Proactive ML Approach for Detecting
Backdoor Poison Samples", USENIX Security, arXiv:2205.13616, section 4: a network is trained on the
suspect data and, at once, on trusted pictures with labels that are wrong and change all the time.
What the content of a picture says is thereby destroyed; the link from trigger to target, which no
trusted picture contradicts, stays. Suspects that the confused network still fits are poison; the
best fitted share is kept for the next round, which concentrates it.

Decisions and deviations:

- A small network and ``rounds`` 3 instead of 6, shares kept 1/2 and 1/5 as in the authors' first
  rounds; fewer epochs and steps; one learning rate for all rounds.
- The wrong label of a trusted picture is its true one plus an offset that is drawn anew in every
  batch; the authors add a counter to the prediction of a base model.
- The likelihood of one and of two normal distributions over the two main directions of a class is
  taken as in the authors' code (its sums divided by the number of samples), but for a floor under
  the variances that scales with the class. The paper flags every class whose ratio is above 2, and
  the largest above 1.5. Here the logarithm of the ratio is compared between classes, as a
  studentised residual whose spread is never taken to be less than what makes 2 over classes at 1
  just significant at 5 %.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from scipy import stats
from torch.nn import functional

from gifthorse.core.errors import DataError, NotApplicableError
from gifthorse.core.exhibits import BarsExhibit
from gifthorse.core.rng import draw_seed
from gifthorse.core.types import (
    BoolArray,
    Evidence,
    FloatArray,
    ImageData,
    IntArray,
    Need,
    Null,
    Progress,
    ScoreArray,
    Subject,
    Unit,
)
from gifthorse.data.images import subset
from gifthorse.detectors.data.scan_exhibits import samples_shown, score_histogram
from gifthorse.metrics.outliers import MIN_UNITS, StudentisedNull, spread_for, standing_out
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.networks import small_network
from gifthorse.models.passes import extract_features, passes_of, predict_logits, to_tensor
from gifthorse.models.training import TrainingPlan, train

_KEPT = (0.5, 0.2, 0.04, 0.02, 0.01)  # the authors' shares, one a round
_LEAST_KEPT = 1 / 50  # of every class, as in the authors' code
_PAPER_RATIO = 2.0
_RATE = 0.05
_FEWEST = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfusionTraining:
    """A confused network; needs no model.

    Attributes:
        epochs: Of training on the suspect data in the first round, at least 1; half as many in
            each further round, on what was kept.
        confusion_steps: Steps of confusion training in every round, at least 1.
        rounds: 1 to 6.
        batch_size: Trusted pictures a step, and as many suspects, at least 2.
        weight: λ: the confusion counts (λ − 1)/λ and the suspects 1/λ, above 1.
        learning_rate: Of confusion training, in (0, 1].
        width: Channels of the network's first stage, 4 to 1024.

    Raises:
        ValueError: An option out of range.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.TRUSTED, Need.SUSPECT_DATA})
    unit: ClassVar[Unit] = Unit.SAMPLE
    paper: ClassVar[str] = "Qi et al. 2023, Confusion Training, arXiv:2205.13616"

    epochs: int = 6
    confusion_steps: int = 300
    rounds: int = 3
    batch_size: int = 64
    weight: float = 20.0
    learning_rate: float = 0.01
    width: int = 16

    def __post_init__(self) -> None:
        if not (1 <= self.epochs < 2**31 and 1 <= self.confusion_steps < 2**31):
            raise ValueError("epochs and confusion_steps must be at least 1")
        if not 1 <= self.rounds <= len(_KEPT) + 1:
            raise ValueError(f"rounds must be in 1 … {len(_KEPT) + 1}, got {self.rounds}")
        if not 2 <= self.batch_size < 2**31 or not 4 <= self.width <= 1024:
            raise ValueError("batch_size must be at least 2 and width in 4 … 1024")
        if not 1 < self.weight < 1e6 or not 0 < self.learning_rate <= 1:
            raise ValueError("weight must be above 1 and learning_rate in (0, 1]")

    def inspect(
        self, subject: Subject, *, rng: np.random.Generator, progress: Progress
    ) -> Evidence:
        """How well the confused network fits the label of every sample.

        Raises:
            NotApplicableError: No suspect pictures, fewer than 60 trusted ones or than four
                classes.
            DataError: Suspect and trusted pictures differ in shape or classes.
        """
        suspect, trusted = _checked(subject)
        networks = self._confused(suspect, trusted, rng, progress)
        confused = networks[-1]
        logits = predict_logits(confused, suspect, progress=progress).astype(np.float64)
        fit = -functional.cross_entropy(
            torch.from_numpy(logits), torch.from_numpy(suspect.labels), reduction="none"
        ).numpy()
        features = extract_features(confused, suspect)
        stuck = np.asarray(features.predictions == suspect.labels)
        names, labels = suspect.class_names, suspect.labels
        ratios = np.zeros(len(names))
        for label in range(len(names)):
            rows = labels == label
            ratios[label] = two_cluster_gain(features.values[rows], stuck[rows])
        floor = spread_for(np.log(_PAPER_RATIO), n=len(names), false_alarm_rate=_RATE)
        residuals = standing_out(ratios, least_spread=floor)
        worst = int(residuals.argmax())
        accused = np.flatnonzero(stuck & (labels == worst))
        accused = accused[np.argsort(-fit[accused], kind="stable")]
        others = np.flatnonzero(~stuck & (labels == worst))
        return Evidence(
            unit=Unit.SAMPLE,
            scores=fit,
            statistic=float(residuals.max()),
            suspects=accused.astype(np.int64),
            exhibits=(
                BarsExhibit(
                    title="What the confused network still holds in two groups",
                    caption="Residual of the log likelihood ratio of every class.",
                    labels=tuple(names),
                    values=tuple(float(f"{v:.5g}") for v in residuals),
                    value_name="residual",
                    highlight=(worst,),
                    judged=True,
                ),
                score_histogram(fit, accused, value_name="log probability of the given label"),
                *samples_shown(suspect, accused, others, rng=rng),
            ),
            notes=(
                f"{names[worst]}: {len(accused)} of {int((labels == worst).sum())} samples keep "
                f"their label under confusion, likelihood ratio {np.exp(ratios[worst]):.2f}",
            ),
            own=passes_of(*networks),
        )

    def null(self, evidence: Evidence) -> Null:
        """Largest of as many studentised residuals as there are classes."""
        bars = next(e for e in evidence.exhibits if isinstance(e, BarsExhibit))
        return StudentisedNull(len(bars.values))

    def _confused(
        self, suspect: ImageData, trusted: ImageData, rng: np.random.Generator, progress: Progress
    ) -> list[ImageClassifier]:
        """Every network that was trained; the last is the confused one of the last round."""
        base = small_network(
            image_shape=suspect.image_shape,
            class_names=suspect.class_names,
            seed=draw_seed(rng),
            width=self.width,
            name="the confused network",
        )
        kept = np.arange(len(suspect), dtype=np.int64)
        networks: list[ImageClassifier] = []
        for turn in range(self.rounds):
            plan = TrainingPlan(
                epochs=self.epochs if turn == 0 else max(1, self.epochs // 2),
                batch_size=min(64, len(kept)),
                learning_rate=0.1 if turn == 0 else 0.02,
            )
            base = train(base, subset(suspect, kept), plan, rng=rng, progress=progress)
            confused = self._confuse(base, subset(suspect, kept), trusted, rng)
            networks += [base, confused]
            progress(turn + 1, self.rounds, "confusion training")
            if turn + 1 < self.rounds:
                kept = best_fitted(sample_losses(confused, suspect), suspect.labels, _KEPT[turn])
        return networks

    def _confuse(
        self,
        base: ImageClassifier,
        kept: ImageData,
        trusted: ImageData,
        rng: np.random.Generator,
    ) -> ImageClassifier:
        """A copy of ``base`` that fits wrong labels of trusted pictures, and kept suspects."""
        student = base.replaced(base.module)
        student.module.requires_grad_(True).train()
        optimizer = torch.optim.SGD(
            student.module.parameters(), lr=self.learning_rate, momentum=0.9, weight_decay=1e-4
        )
        count = len(kept.class_names)
        share = np.bincount(kept.labels, minlength=count) / len(kept)
        rarity = torch.from_numpy(1 / np.sqrt(share + 0.001)).float().to(student.device)
        with torch.random.fork_rng():
            torch.manual_seed(draw_seed(rng))
            for _ in range(self.confusion_steps):
                ours = _some(len(trusted), self.batch_size, rng)
                theirs = _some(len(kept), self.batch_size, rng)
                shift = int(rng.integers(1, count))
                wrong = torch.from_numpy((trusted.labels[ours] + shift) % count).to(student.device)
                given = torch.from_numpy(kept.labels[theirs]).to(student.device)
                pixels = np.concatenate([trusted.batch(ours), kept.batch(theirs)])
                out = student.logits(to_tensor(student, pixels))
                confusion = functional.cross_entropy(out[: len(ours)], wrong)
                fit = functional.cross_entropy(out[len(ours) :], given, weight=rarity)
                loss = ((self.weight - 1) * confusion + fit) / self.weight
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
        student.module.eval().requires_grad_(False)
        return student


def sample_losses(classifier: ImageClassifier, data: ImageData) -> ScoreArray:
    """Cross-entropy of every sample with its label, shape (n,)."""
    logits = torch.from_numpy(predict_logits(classifier, data)).double()
    losses = functional.cross_entropy(logits, torch.from_numpy(data.labels), reduction="none")
    return np.asarray(losses.numpy())


def best_fitted(losses: ScoreArray, labels: IntArray, share: float) -> IntArray:
    """Indices of the ``share`` of smallest losses, and of at least a few of every class, sorted."""
    order = np.argsort(losses, kind="stable")
    chosen = np.zeros(len(losses), dtype=np.bool_)
    chosen[order[: max(2, round(share * len(losses)))]] = True
    for label in np.unique(labels):
        mine = order[labels[order] == label]
        chosen[mine[: max(2, int(_LEAST_KEPT * len(mine)))]] = True
    return np.flatnonzero(chosen).astype(np.int64)


def two_cluster_gain(features: FloatArray, stuck: BoolArray) -> float:
    """Mean log-likelihood of two normal distributions over one, in the two main directions, ≥ 0.

    Args:
        features: Of the samples of one class, shape (n, d).
        stuck: Which of them the confused network still gives their label, shape (n,).

    Returns:
        0 where either group has fewer than three samples.
    """
    if min(stuck.sum(), (~stuck).sum()) < 3:
        return 0.0
    x = features.astype(np.float64)
    _, _, directions = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    flat = x @ directions[:2].T
    floor = 1e-3 * max(float(np.trace(np.cov(flat.T).reshape(flat.shape[1], -1))), 1e-12)

    def normal(rows: BoolArray) -> ScoreArray:
        part = flat[rows]
        covariance = np.cov(part.T).reshape(flat.shape[1], -1) + floor * np.eye(flat.shape[1])
        return np.asarray(stats.multivariate_normal.logpdf(flat, part.mean(axis=0), covariance))

    one, other = normal(~stuck), normal(stuck)
    return max(0.0, float((np.where(stuck, other, one) - one).mean()))


def _some(count: int, size: int, rng: np.random.Generator) -> IntArray:
    return np.asarray(rng.integers(count, size=size), dtype=np.int64)


def _checked(subject: Subject) -> tuple[ImageData, ImageData]:
    suspect, trusted = subject.suspect, subject.trusted
    if not isinstance(suspect, ImageData) or trusted is None:
        raise NotApplicableError("needs the suspect pictures and trusted ones")
    if suspect.image_shape != trusted.image_shape:
        raise DataError(
            f"{suspect.name} has pictures of shape {suspect.image_shape} and {trusted.name} of "
            f"{trusted.image_shape}; expected the same"
        )
    if len(suspect.class_names) < MIN_UNITS:
        raise NotApplicableError(
            f"{suspect.name} has {len(suspect.class_names)} classes; comparing classes with each "
            f"other needs at least {MIN_UNITS}"
        )
    if int(trusted.labels.max()) >= len(suspect.class_names):
        raise DataError(
            f"{trusted.name} has label {int(trusted.labels.max())} and {suspect.name} only "
            f"{len(suspect.class_names)} classes"
        )
    if len(trusted) < _FEWEST:
        raise NotApplicableError(
            f"{len(trusted)} trusted pictures; confusion training needs at least {_FEWEST}"
        )
    return suspect, trusted
