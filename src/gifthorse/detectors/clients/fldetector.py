"""FLDetector: honest updates follow from the last ones, poisoned ones do not.

Source: Zhang, Cao, Jia, Gong 2022, "FLDetector: Defending Federated Learning Against Model
Poisoning Attacks via Detecting Malicious Clients" (KDD; arXiv:2207.09209), algorithms 1 to 3:
L-BFGS Hessian over a window, predicted updates, mean normalised error over the window, gap
statistic, 2-means.

Deviations: gradients are the negative updates of whole local trainings. Caught clients are shut
out from then on; training is not restarted. A client that missed the last round gets no score in
this one (the paper has all clients in every round). The reference of the gap statistic has ten
draws.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gifthorse.core.clients import Aggregate, RoundContext, Updates, client_evidence
from gifthorse.core.types import BoolArray, IntArray, Need, ScoreArray
from gifthorse.detectors.clients.geometry import TINY, fall_back, weighted_mean

_REFERENCES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class FlDetector:
    """Shuts out clients whose updates keep being unpredictable.

    Attributes:
        window: Rounds that scores and the Hessian look back on, ≥ 2.
    """

    paper: ClassVar[str] = "Zhang et al. 2022, arXiv:2207.09209"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.UPDATES})

    window: int = 10

    def __post_init__(self) -> None:
        if not 2 <= self.window <= 10**6:
            raise ValueError(f"window must be ≥ 2, got {self.window}")

    def aggregate(self, updates: Updates, context: RoundContext) -> Aggregate:
        """The mean of all clients that were never caught."""
        memory = dict(context.memory)
        scores = self._scores(updates, context, memory)
        ready = len(memory.get("steps", ())) >= self.window
        if ready and len(scores) >= 4:
            for client in np.asarray(updates.clients)[outlying(scores, context.rng)]:
                memory[f"caught/{client}"] = np.ones(1)
        accepted = np.array([f"caught/{c}" not in memory for c in updates.clients], dtype=np.bool_)
        if not accepted.any():
            back = fall_back(updates, context, "no client is left")
            step, fallback = back.delta, back.fallback
        else:
            step = weighted_mean(updates.deltas[accepted], updates.weights[accepted])
            fallback = None
        self._remember(updates, context, memory, step)
        return Aggregate(
            delta=step,
            accepted=accepted,
            evidence=client_evidence(scores, accepted),
            fallback=fallback,
            memory=memory,
        )

    def _scores(
        self, updates: Updates, context: RoundContext, memory: dict[str, ScoreArray]
    ) -> ScoreArray:
        """Mean normalised prediction error over the window, zeros without history, (n,)."""
        known = [f"last/{c}" in memory for c in updates.clients]
        if "steps" not in memory or len(memory["steps"]) < 2 or not any(known):
            return np.zeros(len(updates))
        moved = context.current - memory["model"]
        turn = hessian_product(memory["steps"], memory["turns"], moved)
        errors = np.array(
            [
                float(np.linalg.norm(memory[f"last/{c}"] + turn + delta)) if seen else np.nan
                for c, delta, seen in zip(updates.clients, updates.deltas, known, strict=True)
            ]
        )
        errors = np.where(np.isnan(errors), np.nanmedian(errors), errors)
        errors = errors / max(float(errors.sum()), TINY)
        scores = np.zeros(len(updates))
        for i, client in enumerate(updates.clients):
            past = memory.get(f"errors/{client}", np.zeros(0))
            memory[f"errors/{client}"] = np.append(past, errors[i])[-self.window :]
            scores[i] = memory[f"errors/{client}"].mean()
        return scores

    def _remember(
        self,
        updates: Updates,
        context: RoundContext,
        memory: dict[str, ScoreArray],
        step: ScoreArray,
    ) -> None:
        if "model" in memory:
            moved = (context.current - memory["model"])[None]
            turned = (-step - memory["gradient"])[None]
            empty = np.zeros((0, len(step)))
            memory["steps"] = np.concatenate([memory.get("steps", empty), moved])[-self.window :]
            memory["turns"] = np.concatenate([memory.get("turns", empty), turned])[-self.window :]
        memory["model"], memory["gradient"] = context.current, -step
        for client, delta in zip(updates.clients, updates.deltas, strict=True):
            memory[f"last/{client}"] = -delta


def hessian_product(steps: ScoreArray, turns: ScoreArray, v: ScoreArray) -> ScoreArray:
    """Compact L-BFGS approximation of H v (Byrd et al. 1994), shape (d,).

    Args:
        steps: Differences of the model, (m, d), oldest first.
        turns: Differences of the gradient, (m, d).
        v: Shape (d,).
    """
    s, y = steps.T, turns.T
    curvature = float(y[:, -1] @ s[:, -1])
    length = float(s[:, -1] @ s[:, -1])
    if length <= TINY:
        return np.zeros_like(v)
    sigma = curvature / length
    cross = s.T @ y
    lower, diagonal = np.tril(cross, -1), np.diag(np.diag(cross))
    block = np.block([[-diagonal, lower.T], [lower, sigma * (s.T @ s)]])
    right = np.concatenate([y.T @ v, sigma * (s.T @ v)])
    p = np.linalg.lstsq(block, right, rcond=None)[0]
    return np.asarray(sigma * v - np.concatenate([y, sigma * s], axis=1) @ p)


def outlying(scores: ScoreArray, rng: np.random.Generator) -> BoolArray:
    """Which scores form a higher group, if the gap statistic finds more than one group, (n,)."""
    spread = scores.max() - scores.min()
    nobody = np.zeros(len(scores), dtype=np.bool_)
    if spread <= TINY:
        return nobody
    unit = (scores - scores.min()) / spread
    most = min(6, len(scores) - 1)
    gaps, errors = [], []
    for k in range(1, most + 1):
        within = np.log(max(_within(unit, _groups(unit, k)), TINY))
        draws = [rng.random(len(unit)) for _ in range(_REFERENCES)]
        reference = np.array([np.log(max(_within(d, _groups(d, k)), TINY)) for d in draws])
        gaps.append(reference.mean() - within)
        errors.append(reference.std() * np.sqrt(1 + 1 / _REFERENCES))
    best = next((k for k in range(most - 1) if gaps[k] >= gaps[k + 1] - errors[k + 1]), most - 1)
    if best == 0:
        return nobody
    two = _groups(unit, 2)
    return np.asarray(two == 1)


def _groups(values: ScoreArray, k: int) -> IntArray:
    """Exact one-dimensional k-means: labels (n,) in increasing order of the groups' means."""
    order = np.argsort(values, kind="stable")
    ordered, n = values[order], len(values)
    one = np.concatenate([[0], np.cumsum(ordered)])
    two = np.concatenate([[0], np.cumsum(ordered**2)])
    count = np.maximum(np.arange(n + 1)[None] - np.arange(n + 1)[:, None], 1)
    cost = (two[None] - two[:, None]) - (one[None] - one[:, None]) ** 2 / count
    cost[np.tril_indices(n + 1)] = np.inf  # a group has at least one member
    best, cuts = cost[0].copy(), []
    for _ in range(1, k):
        table = best[:, None] + cost
        cuts.append(table.argmin(axis=0))
        best = table.min(axis=0)
    labels, end = np.zeros(n, dtype=np.int64), n
    for group in range(k - 1, 0, -1):
        start = int(cuts[group - 1][end])
        labels[order[start:end]] = group
        end = start
    return labels


def _within(values: ScoreArray, groups: IntArray) -> float:
    members = (values[groups == g] for g in set(groups.tolist()))
    return float(sum(((part - part.mean()) ** 2).sum() for part in members))
