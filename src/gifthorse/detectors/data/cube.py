"""CUBE: in every class only the largest cluster is kept; poison forms one of its own.

Cui et al. 2022, "A Unified Evaluation of Textual Backdoor Learning: Frameworks and Benchmarks"
(arXiv:2206.08514). A network is trained on the suspect data, the last hidden states are narrowed to
ten dimensions and clustered together by HDBSCAN; of every label all clusters but the largest are
dropped if they are less than half of it.

Deviations: principal components take the place of UMAP (which stretches gaps that are hardly there,
and needs a compiler at run time), so clusters are less tight than in the paper; the number of
neighbours is 100 or a fiftieth of the data, whichever is less. Samples that HDBSCAN calls noise are
a cluster of their own in the released code, and mostly dropped; here, too. The paper gives no
verdict: ``statistic`` is the largest studentised residual of the dropped share over the classes.
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
    Subject,
    Unit,
)
from gifthorse.detectors.data.scan_exhibits import (
    class_bars,
    class_scatter,
    null_of,
    samples_shown,
)
from gifthorse.detectors.data.suspicion import Matrix, group_features
from gifthorse.metrics.outliers import standing_out

_LEAST_SPREAD = 0.02
_NEIGHBOURS, _NEIGHBOUR_SHARE = 100, 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Cube:
    """Scan of training data that keeps the largest cluster of every class.

    Attributes:
        components: Dimensions that are clustered, 2 to 64.
        smallest: Samples of the smallest cluster; 0 for a hundredth of the data, at least 5.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.FEATURES, Need.SUSPECT_DATA})
    unit: ClassVar[Unit] = Unit.SAMPLE
    paper: ClassVar[str] = "Cui et al. 2022 (CUBE), arXiv:2206.08514; without UMAP"

    components: int = 10
    smallest: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.components <= 64:
            raise ValueError(f"components must be in 2 … 64, got {self.components}")
        if self.smallest and self.smallest < 5:
            raise ValueError(f"smallest must be 0 or at least 5, got {self.smallest}")

    def inspect(
        self, subject: Subject, *, rng: np.random.Generator, progress: Progress
    ) -> Evidence:
        """Scores are 1 for samples that are dropped and else 0, shape (n,).

        Raises:
            NotApplicableError: Fewer than four classes can be examined.
            DataError: Features and labels do not match.
        """
        groups = group_features(subject)
        assert subject.suspect is not None  # noqa: S101 - held by group_features
        data = subject.suspect
        progress(0, 1, "clusters")
        narrow = principal(np.asarray(groups.values, dtype=np.float64), self.components)
        least = self.smallest or max(5, len(data) // 100)
        near = max(5, min(_NEIGHBOURS, len(data) // _NEIGHBOUR_SHARE))
        dropped = dropped_samples(clusters(narrow, least, near), data.labels)
        progress(1, 1, "clusters")
        shares = np.array([float(dropped[group.indices].mean()) for group in groups.classes])
        residuals = standing_out(shares, least_spread=_LEAST_SPREAD)
        pointed = groups.pointed_to(residuals)
        rows = np.concatenate([groups.classes[k].indices for k in pointed])
        suspects = rows[dropped[rows]].astype(np.int64)
        group = groups.classes[pointed[0]]
        name = data.class_names[group.label]
        return Evidence(
            unit=Unit.SAMPLE,
            scores=dropped.astype(np.float64),
            statistic=float(residuals.max()),
            suspects=suspects,
            exhibits=(
                class_bars(
                    groups,
                    data.class_names,
                    residuals,
                    title="Share of each class outside of its largest cluster",
                    highlight=pointed,
                ),
                class_scatter(
                    name,
                    groups.centred(pointed[0]) @ groups.contrast(pointed[0]),
                    dropped[group.indices],
                    rng=rng,
                ),
                *samples_shown(data, suspects, group.indices[~dropped[group.indices]], rng=rng),
            ),
            notes=(
                *groups.notes,
                f"class {name!r}: {shares[pointed[0]]:.1%} outside of its largest cluster; in all "
                f"classes together {dropped.mean():.1%}, which the paper drops",
            ),
        )

    def null(self, evidence: Evidence) -> Null:
        """The largest of as many studentised residuals as classes were examined."""
        return null_of(evidence)


def principal(values: Matrix, components: int) -> Matrix:
    """Features (n, d) on their first principal components, (n, ≤ components)."""
    centred = values - values.mean(axis=0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    return np.asarray(centred @ vectors[:, ::-1][:, :components])


def clusters(points: Matrix, smallest: int, neighbours: int) -> IntArray:
    """HDBSCAN's cluster of every point, shape (n,); −1 for noise."""
    from sklearn.cluster import HDBSCAN

    found = HDBSCAN(min_cluster_size=smallest, min_samples=neighbours, copy=True)
    return np.asarray(found.fit_predict(points), dtype=np.int64)


def dropped_samples(assignment: IntArray, labels: IntArray) -> BoolArray:
    """What the paper drops, shape (n,).

    Args:
        assignment: Cluster of every sample, shape (n,).
        labels: Class of every sample, shape (n,).
    """
    dropped = np.zeros(len(labels), dtype=np.bool_)
    for label in np.unique(labels):
        mine = labels == label
        names, counts = np.unique(assignment[mine], return_counts=True)
        for cluster in names[np.argsort(counts, kind="stable")][:-1]:
            part = mine & (assignment == cluster)
            if part.sum() < 0.5 * mine.sum():
                dropped |= part
    return dropped
