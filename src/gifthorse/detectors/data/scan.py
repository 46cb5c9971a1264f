"""SCAn: is a class better explained by two groups than by one?

Tang, Wang, Tang & Zhang 2021, "Demon in the Variant: Statistical Analysis of DNNs for Robust
Backdoor Contamination Detection", USENIX Security, arXiv:1908.00686, sections 4.2 and 4.3: features
are an identity (one a class) plus variation with one covariance for all classes. For every class
the likelihood ratio J of two identities against one is taken; a class whose J is far above the
others' is contaminated, and its smaller group is the poison.

Decisions and deviations:

- The covariance of the variation comes from the *other* classes of the suspect data; the paper
  estimates it on clean samples, which are not needed here.
- Under one known covariance J is n₁n₂/n · ‖μ₁ − μ₂‖² in whitened features, so the best two groups
  are those of two-means there, started from several cuts.
- J / n is compared between classes (classes differ in size), as a studentised residual of its
  logarithm with a known null, instead of exceeding e² median absolute deviations.

A class with two natural modes fits the model of a contaminated one, and is flagged like one; look
at the samples. If most of a class is poison, the smaller group is the clean one.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gifthorse.core.types import (
    BoolArray,
    Evidence,
    Need,
    Null,
    Progress,
    ScoreArray,
    Subject,
    Unit,
)
from gifthorse.detectors.data.scan_exhibits import (
    class_bars,
    class_scatter,
    null_of,
    samples_shown,
    score_histogram,
)
from gifthorse.detectors.data.suspicion import (
    Matrix,
    contrast_basis,
    group_features,
    smaller,
    starting_parts,
)
from gifthorse.metrics.outliers import standing_out

_LEAST_SPREAD = 0.1
"""Of log J / n between classes, so 10 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """Statistical contamination analyser.

    Attributes:
        components: Dimensions of largest contrast in which groups are sought, 2 to 256.
        rounds: Most rounds of two-means, 1 to 1000.

    Raises:
        ValueError: An option out of range.
    """

    components: int = 32
    rounds: int = 30

    needs: ClassVar[frozenset[Need]] = frozenset({Need.FEATURES, Need.SUSPECT_DATA})
    unit: ClassVar[Unit] = Unit.SAMPLE
    paper: ClassVar[str] = "Tang et al. 2021, SCAn, arXiv:1908.00686"

    def __post_init__(self) -> None:
        if not 2 <= self.components <= 256:
            raise ValueError(f"components must be in 2 … 256, got {self.components}")
        if not 1 <= self.rounds <= 1000:
            raise ValueError(f"rounds must be in 1 … 1000, got {self.rounds}")

    def inspect(
        self, subject: Subject, *, rng: np.random.Generator, progress: Progress
    ) -> Evidence:
        """Divide every class in two, and find the one that gains most by it.

        Raises:
            NotApplicableError: Fewer than four classes can be examined.
            DataError: Features and labels do not match.
        """
        groups = group_features(subject)
        assert subject.suspect is not None  # noqa: S101 - held by group_features
        data = subject.suspect
        gains, scores, parts = [], np.zeros(len(data)), []
        for k, group in enumerate(groups.classes):
            x = groups.centred(k) @ contrast_basis(groups, k)[:, : self.components]
            part, gain = two_groups(x, self.rounds)
            scores[group.indices] = membership(x, part)
            parts.append(part)
            gains.append(np.log(gain))
            progress(k + 1, len(groups.classes), "SCAn")
        residuals = standing_out(np.array(gains), least_spread=_LEAST_SPREAD)
        pointed = groups.pointed_to(residuals)
        accused = [groups.classes[k].indices[parts[k]] for k in pointed]
        suspects = np.concatenate([at[np.argsort(-scores[at], kind="stable")] for at in accused])
        worst = pointed[0]
        indices = groups.classes[worst].indices
        chosen = parts[worst]
        shown = groups.centred(worst) @ contrast_basis(groups, worst)
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
                    title="How much better two groups explain each class",
                    highlight=pointed,
                ),
                class_scatter(
                    data.class_names[groups.classes[worst].label], shown, chosen, rng=rng
                ),
                score_histogram(scores, suspects, value_name="log-likelihood for the small group"),
                *samples_shown(data, suspects, indices[~chosen], rng=rng),
            ),
            notes=groups.notes,
        )

    def null(self, evidence: Evidence) -> Null:
        """The largest of as many studentised residuals as classes were examined."""
        return null_of(evidence)


def two_groups(x: Matrix, rounds: int) -> tuple[BoolArray, float]:
    """The best two groups of whitened features, and J / n.

    Args:
        x: Shape (n, d), centred.
        rounds: Most rounds of two-means from every start.

    Returns:
        The smaller group (n,), and n₁n₂/n² · ‖μ₁ − μ₂‖², > 0.
    """
    best, gain = np.zeros(len(x), dtype=np.bool_), 1e-12
    for start in starting_parts(x).T:
        part = start
        for _ in range(rounds):
            if not 0 < part.sum() < len(part):
                break
            one, two = x[part].mean(axis=0), x[~part].mean(axis=0)
            now = (x - (one + two) / 2) @ (one - two) > 0
            if (now == part).all():
                break
            part = now
        found = _gain(x, part)
        if found > gain:
            best, gain = smaller(part), found
    return best, gain


def _gain(x: Matrix, part: BoolArray) -> float:
    """J / n of a division."""
    share = float(part.mean())
    if not 0 < share < 1:
        return 0.0
    apart = x[part].mean(axis=0) - x[~part].mean(axis=0)
    return share * (1 - share) * float(apart @ apart)


def membership(x: Matrix, part: BoolArray) -> ScoreArray:
    """Log-likelihood ratio of every sample for the group ``part`` against the rest, (n,)."""
    if not 0 < part.sum() < len(part):
        return np.zeros(len(x))
    one, two = x[part].mean(axis=0), x[~part].mean(axis=0)
    return np.asarray((x - (one + two) / 2) @ (one - two))
