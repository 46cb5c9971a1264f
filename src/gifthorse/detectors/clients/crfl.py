"""CRFL: clip and perturb the *model* after every round, vote over noisy copies, certify.

Source: Xie, Chen, Chen, Li 2021, "CRFL: Certifiably Robust Federated Learning against Backdoor
Attacks" (ICML; arXiv:2106.08283), algorithms 1 and 2, theorems 1 to 3.

Deviations: the certificate is stated for the displacement of the aggregated model in the attacked
round, which the paper bounds further by properties of the poisoned data (a Lipschitz constant that
is unknown for a real network). The noise is added in the last round too.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import stats

from gifthorse.core.clients import Aggregate, RoundContext, Updates, client_evidence
from gifthorse.core.types import FloatArray, IntArray, Need, ScoreArray
from gifthorse.detectors.clients.geometry import fall_back, kept, norms, weighted_mean

VOTES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Crfl:
    """Bounds the norm of the global model and adds noise to it.

    Attributes:
        bound: ρ, largest norm of the model in the first round, > 0.
        growth: By how much ρ grows a round, ≥ 0.
        noise: σ of the training noise, > 0.
    """

    paper: ClassVar[str] = "Xie et al. 2021, arXiv:2106.08283"
    needs: ClassVar[frozenset[Need]] = frozenset({Need.UPDATES})

    bound: float = 12.0
    growth: float = 0.1
    noise: float = 0.01

    def __post_init__(self) -> None:
        if not 0 < self.bound < 1e9 or not 0 <= self.growth < 1e9 or not 0 < self.noise < 1e6:
            raise ValueError(
                f"bound, growth and noise must be positive, got {self.bound}, {self.growth}, "
                f"{self.noise}"
            )

    def limit(self, round_: int) -> float:
        """ρ of a round."""
        return self.bound + self.growth * round_

    def aggregate(self, updates: Updates, context: RoundContext) -> Aggregate:
        """The mean, then the model clipped and perturbed."""
        if not len(updates):
            return fall_back(updates, context, "no update")
        model = context.current + weighted_mean(updates.deltas, updates.weights)
        model = model / max(1.0, float(np.linalg.norm(model)) / self.limit(context.round))
        model = model + context.rng.normal(0, self.noise, len(model))
        accepted = kept(len(updates), range(len(updates)))
        return Aggregate(
            delta=model - context.current,
            accepted=accepted,
            evidence=client_evidence(norms(updates.deltas), accepted),
        )


def votes(
    logits: Callable[[ScoreArray, FloatArray], ScoreArray],
    parameters: ScoreArray,
    x: FloatArray,
    *,
    noise: float,
    rng: np.random.Generator,
    count: int = VOTES,
) -> IntArray:
    """How many of ``count`` noisy copies of a model name each class, shape (m, classes)."""
    total: IntArray | None = None
    for _ in range(count):
        answers = logits(parameters + rng.normal(0, noise, len(parameters)), x)
        ballot = np.zeros(answers.shape, dtype=np.int64)
        ballot[np.arange(len(x)), answers.argmax(axis=1)] = 1
        total = ballot if total is None else total + ballot
    if total is None:
        raise ValueError("at least one vote is needed")
    return total


def certified_displacement(
    counts: IntArray,
    *,
    defence: Crfl,
    attacked_round: int,
    rounds: int,
    confidence: float = 0.999,
) -> ScoreArray:
    """By how far the aggregate may be pushed in one round without changing the vote, shape (m,).

    Each picture's two leading classes are bounded by Clopper and Pearson (half of the error each).
    With lower bound p and upper bound q the vote stands as long as the Kullback-Leibler distance
    of the two noisy final models is below −log(1 − (√p − √q)²) (theorem 3). A push of δ in the
    attacked round gives δ²/2σ², and each following clipped and noisy round shrinks it by
    2Φ(ρ/σ) − 1 (theorem 2).

    Args:
        counts: From ``votes`` with the same σ, shape (m, classes).
        defence: The options that the model was trained with.
        attacked_round: When the push happens, counted from 0.
        rounds: Of the whole training.
        confidence: Of each picture's certificate, in (0, 1).

    Returns:
        Largest certified push; 0 where the vote cannot be certified.
    """
    shrink = math.prod(
        2 * float(stats.norm.cdf(defence.limit(t) / defence.noise)) - 1
        for t in range(attacked_round + 1, rounds)
    )
    out = np.zeros(len(counts))
    error = (1 - confidence) / 2
    for row, ballot in enumerate(counts):
        total = int(ballot.sum())
        second, first = np.sort(ballot)[-2:]
        low = float(stats.beta.ppf(error, first, total - first + 1)) if first else 0.0
        high = float(stats.beta.ppf(1 - error, second + 1, max(total - second, 1)))
        if low > high:
            budget = -math.log(1 - (math.sqrt(low) - math.sqrt(high)) ** 2)
            out[row] = defence.noise * math.sqrt(2 * budget / max(shrink, 1e-300))
    return out
