"""SPECTRE: whiten a class by what most of it looks like, then look for what is left over.

Hayase, Kong, Somani & Oh 2021, "SPECTRE: Defending Against Backdoor Attacks Using Robust
Statistics", ICML, arXiv:2104.11315, Algorithms 1 and 2: features of a class are projected on its
top singular directions, whitened by a *robust* estimate of mean and covariance, and scored by QUE,
x'Qx with Q = exp(α(Σ − I)/(‖Σ‖ − 1)).

Decisions and deviations:

- The robust estimate is iterative trimming (the ``expected_poison`` · 1.5 samples of largest
  Mahalanobis distance are left out, ``rounds`` times), not the paper's filter algorithm.
- The number of directions is fixed, not chosen by the largest mean QUE score.
- The paper removes samples of a class that is known to be the target. Here ``statistic`` says
  whether any is: the studentised residual, over classes, of the logarithm of the largest variance
  that is left after whitening. The 1.5·ε·n samples of the highest scores are pointed to.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gifthorse.core.types import Evidence, Need, Null, Progress, ScoreArray, Subject, Unit
from gifthorse.detectors.data.scan_exhibits import (
    class_bars,
    class_scatter,
    null_of,
    samples_shown,
    score_histogram,
)
from gifthorse.detectors.data.suspicion import (
    Matrix,
    group_features,
    principal_basis,
)
from gifthorse.metrics.outliers import standing_out

_LEAST_SPREAD = 0.1
_RIDGE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Spectre:
    """Robust whitening and QUE scores.

    Attributes:
        components: Top singular directions of a class, 2 to 256.
        expected_poison: ε, the largest share of a class that may be poisoned, in (0, 0.3].
        alpha: Of QUE, in (0, 100].
        rounds: Of trimming, 1 to 100.

    Raises:
        ValueError: An option out of range.
    """

    components: int = 16
    expected_poison: float = 0.2
    alpha: float = 4.0
    rounds: int = 10

    needs: ClassVar[frozenset[Need]] = frozenset({Need.FEATURES, Need.SUSPECT_DATA})
    unit: ClassVar[Unit] = Unit.SAMPLE
    paper: ClassVar[str] = "Hayase et al. 2021, SPECTRE, arXiv:2104.11315"

    def __post_init__(self) -> None:
        if not 2 <= self.components <= 256:
            raise ValueError(f"components must be in 2 … 256, got {self.components}")
        if not 0 < self.expected_poison <= 0.3:
            raise ValueError(f"expected_poison must be in (0, 0.3], got {self.expected_poison}")
        if not 0 < self.alpha <= 100:
            raise ValueError(f"alpha must be in (0, 100], got {self.alpha}")
        if not 1 <= self.rounds <= 100:
            raise ValueError(f"rounds must be in 1 … 100, got {self.rounds}")

    def inspect(
        self, subject: Subject, *, rng: np.random.Generator, progress: Progress
    ) -> Evidence:
        """QUE score of every sample, and the class in which most is left over.

        Raises:
            NotApplicableError: Fewer than four classes can be examined.
            DataError: Features and labels do not match.
        """
        groups = group_features(subject)
        assert subject.suspect is not None  # noqa: S101 - held by group_features
        data = subject.suspect
        left, scores = [], np.zeros(len(data))
        for k, group in enumerate(groups.classes):
            basis = principal_basis(group.covariance)[:, : self.components]
            white = whitened(
                groups.centred(k) @ basis, trim=1.5 * self.expected_poison, rounds=self.rounds
            )
            scores[group.indices], largest = que_scores(white, self.alpha)
            left.append(np.log(largest))
            progress(k + 1, len(groups.classes), "SPECTRE")
        residuals = standing_out(np.array(left), least_spread=_LEAST_SPREAD)
        pointed = groups.pointed_to(residuals)
        accused = []
        for k in pointed:
            at = groups.classes[k].indices
            count = max(1, round(1.5 * self.expected_poison * len(at)))
            accused.append(at[np.argsort(-scores[at], kind="stable")[:count]])
        suspects = np.concatenate(accused)
        worst = pointed[0]
        indices = groups.classes[worst].indices
        chosen = np.isin(indices, suspects)
        return Evidence(
            unit=Unit.SAMPLE,
            scores=scores,
            statistic=float(residuals.max()),
            suspects=suspects,
            exhibits=(
                class_bars(
                    groups,
                    data.class_names,
                    residuals,
                    title="What robust whitening leaves over in each class",
                    highlight=pointed,
                ),
                class_scatter(
                    data.class_names[groups.classes[worst].label],
                    groups.centred(worst),
                    chosen,
                    rng=rng,
                ),
                score_histogram(scores, suspects, value_name="QUE score"),
                *samples_shown(data, suspects, indices[~chosen], rng=rng),
            ),
            notes=groups.notes,
        )

    def null(self, evidence: Evidence) -> Null:
        """The largest of as many studentised residuals as classes were examined."""
        return null_of(evidence)


def whitened(x: Matrix, *, trim: float, rounds: int) -> Matrix:
    """Features (n, d) in units of the mean and covariance of all but the farthest ``trim``."""
    kept = np.ones(len(x), dtype=np.bool_)
    count = max(x.shape[1] + 1, round((1 - trim) * len(x)))
    for _ in range(rounds):
        white = _standard(x, x[kept])
        far = (white**2).sum(axis=1)
        now = np.zeros(len(x), dtype=np.bool_)
        now[np.argsort(far, kind="stable")[:count]] = True
        if (now == kept).all():
            break
        kept = now
    return _standard(x, x[kept])


def _standard(x: Matrix, inner: Matrix) -> Matrix:
    centre = inner.mean(axis=0)
    covariance = np.cov(inner, rowvar=False, bias=True)
    covariance += _RIDGE * max(float(np.trace(covariance)), 1e-12) * np.eye(len(covariance))
    return np.asarray(np.linalg.solve(np.linalg.cholesky(covariance), (x - centre).T).T)


def que_scores(white: Matrix, alpha: float) -> tuple[ScoreArray, float]:
    """QUE score of every whitened sample, and the largest variance.

    Args:
        white: Shape (n, d).
        alpha: 0 gives the squared norm, a large one the square along the top direction.

    Returns:
        (n,), scaled by the trace of Q; and ‖Σ‖.
    """
    values, vectors = np.linalg.eigh(white.T @ white / len(white))
    largest = float(values[-1])
    # Q has the eigenvectors of Σ; subtracting the largest exponent only scales the scores.
    excess = max(abs(largest - 1), 1e-9)
    weights = np.exp(np.clip(alpha * (values - largest) / excess, -700, 0))
    scores = ((white @ vectors) ** 2 * weights).sum(axis=1) / weights.sum()
    return np.asarray(scores), largest
