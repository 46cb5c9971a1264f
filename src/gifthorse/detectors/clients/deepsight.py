"""DeepSight: what a client's data looked like, read from its output layer.

Source: Rieger et al. 2022, "DeepSight: Mitigating Backdoor Attacks in Federated Learning Through
Deep Model Inspection" (NDSS; arXiv:2201.00763), sections IV and V: normalised update energies
(NEUPs), threshold exceedings, division differences (DDifs) on random inputs with three seeds,
cosine distances of output biases; an ensemble of HDBSCAN clusterings; clusters with at least a
third of suspicious members are rejected; clipping to the median norm.

Deviations: 200 random inputs a seed instead of 20,000. min_cluster_size is 2, which the paper
leaves open. A client that no cluster takes is judged by its own label. Without a server that can
run the model the DDifs are left out and the notes say so.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gifthorse.core.clients import Aggregate, RoundContext, Updates, client_evidence
from gifthorse.core.types import BoolArray, IntArray, Need, ScoreArray
from gifthorse.detectors.clients.flame import cluster
from gifthorse.detectors.clients.geometry import clipped, cosines, fall_back, norms

_SEEDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class DeepSight:
    """Clusters clients by what they learned, and rejects suspicious clusters.

    Attributes:
        inputs: Random pictures for the DDifs, a seed, ≥ 1.
        suspicious: A cluster with at least this share of suspicious members is out, in (0, 1].
    """

    paper: ClassVar[str] = "Rieger et al. 2022, arXiv:2201.00763"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.UPDATES})

    inputs: int = 200
    suspicious: float = 1 / 3

    def __post_init__(self) -> None:
        if not 1 <= self.inputs <= 10**6:
            raise ValueError(f"inputs must be in [1, 1000000], got {self.inputs}")
        if not 0 < self.suspicious <= 1:
            raise ValueError(f"suspicious must be in (0, 1], got {self.suspicious}")

    def aggregate(self, updates: Updates, context: RoundContext) -> Aggregate:
        """Mean of the clipped updates of unsuspicious clusters."""
        n = len(updates)
        if n < 3:
            return fall_back(updates, context, f"{n} updates cannot be clustered")
        energies = update_energies(updates, context)
        exceedings = threshold_exceedings(energies)
        labelled = exceedings <= np.median(exceedings) / 2
        groups = self._ensemble(updates, context, energies)
        accepted = _judged(groups, labelled, self.suspicious)
        if not accepted.any():
            return fall_back(updates, context, "every cluster is suspicious")
        bound = float(np.median(norms(updates.deltas)))
        notes = () if context.logits else ("no DDifs: the server cannot run the model",)
        return Aggregate(
            delta=clipped(updates.deltas, bound)[accepted].mean(axis=0),
            accepted=accepted,
            evidence=client_evidence(-exceedings.astype(np.float64), accepted, notes),
        )

    def _ensemble(self, updates: Updates, context: RoundContext, energies: ScoreArray) -> IntArray:
        _, biases = context.layout.output(updates.deltas)
        distances = [
            _apart(cluster(_cosine_distances(biases), smallest=2, single=False)),
            _apart(cluster(_euclidean(energies), smallest=2, single=False)),
        ]
        if context.logits is not None and context.image_shape is not None:
            parts = [
                _apart(cluster(_euclidean(row), smallest=2, single=False))
                for row in self._division_differences(updates, context)
            ]
            distances.append(np.mean(parts, axis=0))
        return cluster(np.mean(distances, axis=0), smallest=2, single=False)

    def _division_differences(self, updates: Updates, context: RoundContext) -> list[ScoreArray]:
        assert context.logits is not None  # noqa: S101 - the caller looked
        assert context.image_shape is not None  # noqa: S101
        found = []
        for _ in range(_SEEDS):
            x = context.rng.random((self.inputs, *context.image_shape)).astype(np.float32)
            before = np.maximum(_softmax(context.logits(context.current, x)), 1e-30)
            rows = [
                (_softmax(context.logits(context.current + delta, x)) / before).mean(axis=0)
                for delta in updates.deltas
            ]
            found.append(np.clip(np.stack(rows), 0, 1e30))
        return found


def update_energies(updates: Updates, context: RoundContext) -> ScoreArray:
    """NEUPs: each output neuron's share of the squared update magnitude, shape (n, classes)."""
    weight, bias = context.layout.output(updates.deltas)
    energy = (np.abs(bias) + np.abs(weight).sum(axis=2)) ** 2
    total = energy.sum(axis=1, keepdims=True)
    return np.asarray(np.divide(energy, total, out=np.zeros_like(energy), where=total > 0))


def threshold_exceedings(energies: ScoreArray) -> IntArray:
    """How many neurons exceed max(1 %, 1/P) of a client's largest energy, shape (n,)."""
    share = max(0.01, 1 / energies.shape[1])
    limit = share * energies.max(axis=1, keepdims=True)
    return np.asarray((energies > limit).sum(axis=1), dtype=np.int64)


def _judged(groups: IntArray, labelled: BoolArray, most: float) -> BoolArray:
    accepted = ~labelled
    for group in range(int(groups.max()) + 1):
        members = groups == group
        accepted[members] = labelled[members].mean() < most
    return np.asarray(accepted)


def _apart(groups: IntArray) -> ScoreArray:
    """0 for two clients of one cluster, 1 otherwise; noise is with nobody."""
    same = (groups[:, None] == groups[None]) & (groups >= 0)[:, None]
    np.fill_diagonal(same, True)
    return np.asarray(1.0 - same)


def _cosine_distances(rows: ScoreArray) -> ScoreArray:
    out = np.clip(1 - cosines(rows, rows), 0, 2)
    np.fill_diagonal(out, 0)
    return np.asarray(out)


def _euclidean(rows: ScoreArray) -> ScoreArray:
    return np.asarray(np.sqrt(((rows[:, None] - rows[None]) ** 2).sum(axis=2)))


def _softmax(logits: ScoreArray) -> ScoreArray:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))
