"""Spectral signatures: poisoned samples are large along the top singular direction of their class.

Tran, Li & Mądry 2018, "Spectral Signatures in Backdoor Attacks" (arXiv:1811.00636), Algorithm 1.

``scores`` are the paper's: the squared projection of a sample's features, centred by class, on the
top right singular vector of its class.

Beyond the paper:

- The paper removes a fixed share of *every* class and never says whether a data set is poisoned.
  ``statistic`` does: it is the largest studentised residual over classes of the logarithm of how
  cleanly a class falls in two (see ``suspicion.py``).
- ``removal="split"`` (the default) points to the smaller part of the class that stands out, and to
  that of the rest for as long as it stands out too (see ``peeling.py``);
  ``removal="published"`` to the 1.5·ε·n highest scores in it, which needs a guess of ε. The
  paper does the latter in all classes, as it does not know which one is poisoned.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gifthorse.core.types import (
    Evidence,
    IntArray,
    Need,
    Null,
    Progress,
    ScoreArray,
    Subject,
    Unit,
)
from gifthorse.detectors.data.peeling import Divided, divided, divisions_for, peeled
from gifthorse.detectors.data.scan_exhibits import (
    class_bars,
    class_scatter,
    null_of,
    samples_shown,
    score_histogram,
)
from gifthorse.detectors.data.suspicion import (
    Groups,
    Matrix,
    group_features,
    principal_basis,
    stands_out_above,
)
from gifthorse.metrics.outliers import standing_out

_REMOVALS = ("split", "published")
_LEAST_SPREAD = 0.1
"""Of the log separation between classes, so 10 %; 0.15 to 0.2 is usual on Fashion-MNIST."""


def spectral_scores(features: Matrix) -> ScoreArray:
    """Squared projection of every sample on the top right singular vector of one class.

    The features are centred first, as in the paper; without that, poison that *lowers* activations
    hides behind the mean. The vector is the exact eigenvector of the (d, d) covariance.

    Args:
        features: Shape (n, d), of one class.

    Returns:
        Shape (n,), at least 0; higher is more suspect.
    """
    centred = features - features.mean(axis=0)
    top = principal_basis(centred.T @ centred)[:, 0]
    return np.asarray((centred @ top) ** 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpectralSignatures:
    """Scan of training data by the top singular direction of every class.

    Attributes:
        removal: Which samples of a class that stands out are pointed to: ``split`` or
            ``published``.
        expected_poison: ε, the share of the data set that may be poisoned, in (0, 0.5]; used by
            ``removal="published"`` only.
        components: Dimensions searched for a clean split, 2 to 64.

    Raises:
        ValueError: An option out of range.
    """

    removal: str = "split"
    expected_poison: float = 0.01
    components: int = 8

    needs: ClassVar[frozenset[Need]] = frozenset({Need.FEATURES, Need.SUSPECT_DATA})
    unit: ClassVar[Unit] = Unit.SAMPLE
    paper: ClassVar[str] = "Tran et al. 2018, arXiv:1811.00636"

    def __post_init__(self) -> None:
        if self.removal not in _REMOVALS:
            raise ValueError(f"removal must be one of {', '.join(_REMOVALS)}, got {self.removal!r}")
        if not 0 < self.expected_poison <= 0.5:
            raise ValueError(f"expected_poison must be in (0, 0.5], got {self.expected_poison}")
        if not 2 <= self.components <= 64:
            raise ValueError(f"components must be in 2 … 64, got {self.components}")

    def inspect(
        self, subject: Subject, *, rng: np.random.Generator, progress: Progress
    ) -> Evidence:
        """Score every sample, and find the class that falls in two unlike the others.

        Raises:
            NotApplicableError: Fewer than four classes can be examined.
            DataError: Features and labels do not match.
        """
        groups = group_features(subject)
        assert subject.suspect is not None  # noqa: S101 - held by group_features
        data = subject.suspect
        scores, parted = self._examine(groups, len(data), rng, progress)
        cleanness = np.array([one.cleanness for one in parted])
        residuals = standing_out(cleanness, least_spread=_LEAST_SPREAD)
        pointed = groups.pointed_to(residuals)
        suspects = np.concatenate(
            [self._suspects(groups, k, parted, scores, rng=rng) for k in pointed]
        )
        worst = pointed[0]
        x = groups.centred(worst) @ groups.contrast(worst)
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
                    title="How cleanly each class falls in two",
                    highlight=pointed,
                ),
                class_scatter(data.class_names[groups.classes[worst].label], x, chosen, rng=rng),
                score_histogram(scores, suspects, value_name="squared projection"),
                *samples_shown(data, suspects, indices[~chosen], rng=rng),
            ),
            notes=groups.notes,
        )

    def null(self, evidence: Evidence) -> Null:
        """The largest of as many studentised residuals as classes were examined."""
        return null_of(evidence)

    def _examine(
        self, groups: Groups, n: int, rng: np.random.Generator, progress: Progress
    ) -> tuple[ScoreArray, list[Divided]]:
        """Published scores (n,), and how every class divides."""
        scores, parted, times = np.zeros(n), [], divisions_for(groups)
        for k, group in enumerate(groups.classes):
            centred = groups.centred(k)
            scores[group.indices] = spectral_scores(centred)
            basis = groups.contrast(k)[:, : self.components]
            parted.append(divided(centred @ basis, times, rng=rng))
            progress(k + 1, len(groups.classes), "spectral signatures")
        return scores, parted

    def _suspects(
        self,
        groups: Groups,
        k: int,
        parted: list[Divided],
        scores: ScoreArray,
        *,
        rng: np.random.Generator,
    ) -> IntArray:
        """Samples of the k-th class pointed to, worst first."""
        indices = groups.classes[k].indices
        if self.removal == "published":
            count = min(len(indices), round(1.5 * self.expected_poison * len(scores)))
            return np.asarray(indices[np.argsort(-scores[indices], kind="stable")[:count]])
        cleanness = np.array([one.cleanness for one in parted])

        def stands(value: float) -> bool:
            cleanness[k] = value
            residuals = standing_out(cleanness, least_spread=_LEAST_SPREAD)
            return bool(residuals[k] > stands_out_above(len(residuals)))

        return peeled(groups, k, parted[k], stands, components=self.components, rng=rng)
