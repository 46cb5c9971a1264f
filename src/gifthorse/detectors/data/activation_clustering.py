"""Activation clustering: poisoned and clean samples of one label form two clusters.

Chen et al. 2018, "Detecting Backdoor Attacks on Deep Neural Networks by Activation Clustering"
(arXiv:1811.03728). For every label: reduce the last hidden layer's activations to ten dimensions,
cluster with 2-means, and judge the clusters by silhouette and relative size.

Deviations, all declared:

- The default ``space="contrast"`` clusters in the ten directions in which a class varies most *in
  units of the other classes' spread* (``suspicion.py``). ``space="published"`` stands for the
  paper's ten independent components, and changes ``scores`` and ``suspects`` only. FastICA
  whitens ten principal components and rotates them; distances, hence 2-means, do not depend on the
  rotation, so it is left out. In that space a clean class with a few odd samples has a higher
  silhouette than a poisoned one, so no verdict rests on it.
- 2-means is run from cuts along the first five dimensions rather than from random points; the run
  with the best silhouette is kept, not the one with the least inertia.
- The paper looks at silhouettes and sizes by eye. ``statistic`` is the largest studentised residual
  of the silhouette over classes (in the contrast space), so the other classes say what is normal.
  A class whose smaller cluster is not small by the paper's relative size (``small``) cannot stand
  out: a natural mode can be half of a class, poison that size would be noticed otherwise.
- ``refine`` sharpens the smaller cluster of a class that stands out by Fisher's direction in all
  dimensions. Exclusionary reclassification (section 4.3) is not done: it needs a second training.

``scores`` are one minus the share of a sample's cluster in its class: the paper's relative size.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gifthorse.core.types import (
    BoolArray,
    Evidence,
    IntArray,
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
    Groups,
    Matrix,
    group_features,
    principal_basis,
    refined,
    smaller,
    starting_parts,
)
from gifthorse.metrics.outliers import standing_out

_SPACES = ("contrast", "published")
_SEARCH_SIZE = 2000
_ROUNDS = 20
_LEAST_SPREAD = 0.03
"""Of the silhouette between classes; 0.05 is usual on Fashion-MNIST."""


def cluster_shares(assignment: IntArray, clusters: int = 2) -> ScoreArray:
    """Share of samples in every cluster, shape (clusters,); ``assignment`` has shape (n,)."""
    return np.asarray(np.bincount(assignment, minlength=clusters) / len(assignment))


def suspicious_clusters(assignment: IntArray, *, below: float = 0.35) -> IntArray:
    """Clusters whose share of a class is below a size that is normal for half of it.

    Relative size comparison (Chen et al. 2018, section 4.3).

    Args:
        assignment: Cluster of every sample of one class, shape (n,), values 0 and 1.
        below: Shares under this are suspicious, in (0, 0.5].
    """
    return np.flatnonzero(cluster_shares(assignment) < below).astype(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationClustering:
    """Scan of training data by two clusters in every class.

    Attributes:
        space: Which clusters give scores and suspects: ``contrast`` or ``published``.
        components: Dimensions of that space, 2 to 64.
        silhouette_samples: Samples of a class that its silhouette is computed on, at least 100.
        small: Only clusters with a smaller share of their class can be suspicious, in (0, 0.5].
        refine: Sharpen the cluster that is pointed to.

    Raises:
        ValueError: An option out of range.
    """

    space: str = "contrast"
    components: int = 10
    silhouette_samples: int = 1000
    small: float = 0.35
    refine: bool = True

    needs: ClassVar[frozenset[Need]] = frozenset({Need.FEATURES, Need.SUSPECT_DATA})
    unit: ClassVar[Unit] = Unit.SAMPLE
    paper: ClassVar[str] = "Chen et al. 2018, arXiv:1811.03728"

    def __post_init__(self) -> None:
        if self.space not in _SPACES:
            raise ValueError(f"space must be one of {', '.join(_SPACES)}, got {self.space!r}")
        if not 2 <= self.components <= 64:
            raise ValueError(f"components must be in 2 … 64, got {self.components}")
        if self.silhouette_samples < 100:
            raise ValueError(f"silhouette_samples must be ≥ 100, got {self.silhouette_samples}")
        if not 0 < self.small <= 0.5:
            raise ValueError(f"small must be in (0, 0.5], got {self.small}")

    def inspect(
        self, subject: Subject, *, rng: np.random.Generator, progress: Progress
    ) -> Evidence:
        """Cluster every class, and find the one whose clusters stand apart unlike the others'.

        Raises:
            NotApplicableError: Fewer than four classes can be examined.
            DataError: Features and labels do not match.
        """
        groups = group_features(subject)
        assert subject.suspect is not None  # noqa: S101 - held by group_features
        data = subject.suspect
        scores, silhouettes, parts = self._examine(groups, len(data), rng, progress)
        residuals = standing_out(silhouettes, least_spread=_LEAST_SPREAD)
        # A class that falls in two halves has two natural modes; poison is the smaller part.
        small = np.array([part.mean() < self.small for part in parts])
        residuals = np.where(small, residuals, np.minimum(residuals, 0.0))
        pointed = groups.pointed_to(residuals)
        suspects = np.concatenate([self._suspects(groups, k, parts[k]) for k in pointed])
        worst = pointed[0]
        x = groups.centred(worst) @ groups.contrast(worst)
        group = groups.classes[worst]
        chosen = np.isin(group.indices, suspects)
        name = data.class_names[group.label]
        share = float(parts[worst].mean())
        note = (
            f"class {name!r}: silhouette {silhouettes[worst]:.2f}, smaller cluster {share:.1%} "
            f"({'small' if share < self.small else 'not small'} by the paper's relative size)"
        )
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
                    title="How far apart the two clusters of each class stand",
                    highlight=pointed,
                ),
                class_scatter(name, x, chosen, rng=rng),
                score_histogram(
                    scores, suspects, value_name="1 − share of the cluster in its class"
                ),
                *samples_shown(data, suspects, group.indices[~chosen], rng=rng),
            ),
            notes=(*groups.notes, note),
        )

    def null(self, evidence: Evidence) -> Null:
        """The largest of as many studentised residuals as classes were examined."""
        return null_of(evidence)

    def _examine(
        self, groups: Groups, n: int, rng: np.random.Generator, progress: Progress
    ) -> tuple[ScoreArray, ScoreArray, list[BoolArray]]:
        """Scores (n,), silhouette of every class, and its smaller cluster."""
        scores, silhouettes, parts = np.zeros(n), [], []
        for k, group in enumerate(groups.classes):
            x = groups.centred(k) @ groups.contrast(k)[:, : self.components]
            part = smaller(two_means(x, rng=rng))
            silhouettes.append(silhouette(x, part, self.silhouette_samples, rng=rng))
            if self.space == "published":
                part = smaller(two_means(self._whitened(groups, k), rng=rng))
            share = float(part.mean())
            scores[group.indices] = np.where(part, 1 - share, share)
            parts.append(part)
            progress(k + 1, len(groups.classes), "activation clustering")
        return scores, np.array(silhouettes), parts

    def _whitened(self, groups: Groups, k: int) -> Matrix:
        """The k-th class on its principal components with unit variance, (n_k, ≤ components)."""
        basis = principal_basis(groups.classes[k].covariance)[:, : self.components]
        x = groups.centred(k) @ basis
        scale = x.std(axis=0)
        # Directions without variance hold rounding errors, which whitening would blow up.
        return np.asarray(np.divide(x, scale, out=np.zeros_like(x), where=scale > 1e-6 * scale[0]))

    def _suspects(self, groups: Groups, k: int, part: BoolArray) -> IntArray:
        """Samples of the k-th class pointed to, worst first."""
        indices = groups.classes[k].indices
        sharp, margin = refined(groups.centred(k), part)
        if not self.refine:
            sharp = part
        return np.asarray(indices[sharp][np.argsort(-margin[sharp], kind="stable")])


def two_means(x: Matrix, *, rng: np.random.Generator) -> BoolArray:
    """Lloyd's algorithm with two centres, from many starts at once; the best by silhouette.

    Searches on at most 2,000 samples, and assigns all. The choice among the runs is by the
    silhouette with distances to the centres (Vendramin et al. 2010, "simplified silhouette").

    Args:
        x: Shape (n, r), n ≥ 50, by decreasing variance.
        rng: Chooses the samples.

    Returns:
        Membership of one of the clusters, shape (n,).
    """
    seen = x[rng.permutation(len(x))[:_SEARCH_SIZE]]
    one, other = _centres(seen, starting_parts(seen))
    lengths = (seen**2).sum(axis=1)[:, None]
    to_one = lengths - 2 * seen @ one + (one**2).sum(axis=0)
    to_other = lengths - 2 * seen @ other + (other**2).sum(axis=0)
    near = np.sqrt(np.minimum(to_one, to_other).clip(0))
    far = np.sqrt(np.maximum(to_one, to_other).clip(1e-300))
    best = int((1 - near / far).mean(axis=0).argmax())
    return _nearer(x, one[:, [best]], other[:, [best]])[:, 0]


def _centres(x: Matrix, parts: BoolArray) -> tuple[Matrix, Matrix]:
    """Lloyd's fixed points from all starts (n, s) at once: both centres, (r, s) each."""
    n, starts = parts.shape
    total = x.sum(axis=0)[:, None]
    one, other = np.zeros((x.shape[1], starts)), np.zeros((x.shape[1], starts))
    moving = np.arange(starts)
    for _ in range(_ROUNDS):
        inside = np.count_nonzero(parts, axis=0).clip(1, n - 1)
        sums = x.T @ parts.astype(np.float64)
        one[:, moving], other[:, moving] = sums / inside, (total - sums) / (n - inside)
        moved = _nearer(x, one[:, moving], other[:, moving])
        still = (moved != parts).any(axis=0)
        if not still.any():
            break
        parts, moving = moved[:, still], moving[still]
    return one, other


def _nearer(x: Matrix, one: Matrix, other: Matrix) -> BoolArray:
    """Which samples (n, r) are nearer to ``one`` (r, s) than to ``other``, shape (n, s)."""
    level = ((one**2).sum(axis=0) - (other**2).sum(axis=0)) / 2
    return np.asarray(x @ (one - other) > level)


def silhouette(x: Matrix, part: BoolArray, most: int, *, rng: np.random.Generator) -> float:
    """Mean silhouette of a division, on at most ``most`` samples; 0 if a side is nearly empty.

    Rousseeuw 1987. By one matrix product in single precision: scikit-learn's takes three times as
    long, and the scan is measured beside a bare forward pass.

    Args:
        x: Shape (n, r), centred.
        part: Shape (n,).
        most: Its time and memory grow with the square of this.
        rng: Chooses the samples.
    """
    chosen = rng.permutation(len(x))[:most]
    inside = part[chosen]
    sizes = np.array([len(chosen) - inside.sum(), inside.sum()])
    if sizes.min() < 2:
        return 0.0
    seen = x[chosen].astype(np.float32)
    lengths = (seen**2).sum(axis=1)
    distances = lengths[:, None] + lengths - 2 * seen @ seen.T
    np.sqrt(distances.clip(0), out=distances)
    np.fill_diagonal(distances, 0)
    sums = (distances @ np.stack([~inside, inside], axis=1).astype(np.float32)).astype(np.float64)
    at, own = np.arange(len(chosen)), inside.astype(np.int64)
    cohesion = sums[at, own] / (sizes[own] - 1)
    to_other = sums[at, 1 - own] / sizes[1 - own]
    larger = np.maximum(cohesion, to_other)
    return float(np.divide(to_other - cohesion, larger, out=larger * 0, where=larger > 0).mean())
