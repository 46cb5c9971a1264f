"""Accuracy and attack success, each with its interval. Pure functions on labels."""

from statistics import NormalDist

import numpy as np

from gifthorse.core.record import Rate
from gifthorse.core.types import BoolArray, IntArray, ScoreArray


def rate(count: int, total: int, *, confidence: float = 0.95) -> Rate:
    """A proportion with its Wilson score interval (Wilson 1927).

    Args:
        count: Successes, in [0, total].
        total: Trials, at least 1.
        confidence: In (0, 1).
    """
    if not 0 <= count <= total or total < 1:
        raise ValueError(f"{count} of {total} is no proportion")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    p = count / total
    centre = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z * np.sqrt(p * (1 - p) / total + z * z / (4 * total * total)) / (1 + z * z / total)
    low = 0.0 if count == 0 else float(max(0.0, centre - half))
    high = 1.0 if count == total else float(min(1.0, centre + half))
    return Rate(value=p, low=low, high=high, count=count, total=total)


def agreement(predicted: IntArray, wanted: IntArray) -> Rate:
    """Share of predictions that are the wanted class.

    With true labels this is clean accuracy (or, on triggered samples, robust accuracy); with the
    attacker's labels on triggered samples it is the attack success rate. Both shape (n,), n ≥ 1.
    """
    if predicted.shape != wanted.shape or predicted.ndim != 1:
        raise ValueError(f"shapes {predicted.shape} and {wanted.shape} do not match")
    return rate(int((predicted == wanted).sum()), len(wanted))


def defence_effectiveness(
    *, ca_before: float, ca_after: float, asr_before: float, asr_after: float
) -> float:
    """DER = (max(0, ΔASR) − max(0, ΔCA) + 1) / 2, in [0, 1] (Zhu et al. 2023, section 4.1).

    ΔASR and ΔCA are *drops*: an accuracy lost is subtracted.
    """
    lost_attack = max(0.0, asr_before - asr_after)
    lost_accuracy = max(0.0, ca_before - ca_after)
    return (lost_attack - lost_accuracy + 1) / 2


def rate_change(before: Rate, after: Rate, *, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of ``before − after``: Newcombe's (1998) square-and-add of two Wilson intervals.

    It takes the two rates as independent; on the same samples it is wider than it needs to be.
    """
    one = rate(before.count, before.total, confidence=confidence)
    two = rate(after.count, after.total, confidence=confidence)
    change = one.value - two.value
    down = np.hypot(one.value - one.low, two.high - two.value)
    up = np.hypot(one.high - one.value, two.value - two.low)
    return float(max(-1.0, change - down)), float(min(1.0, change + up))


def defence_effectiveness_bounds(
    *, ca_before: Rate, ca_after: Rate, asr_before: Rate, asr_after: Rate
) -> tuple[float, float]:
    """Bounds that hold DER with at least 95 % confidence.

    DER rises with the drop of ASR and falls with that of CA, so its extremes over the box of two
    97.5 % intervals are at corners (Bonferroni).
    """
    asr = rate_change(asr_before, asr_after, confidence=0.975)
    ca = rate_change(ca_before, ca_after, confidence=0.975)
    low = (max(0.0, asr[0]) - max(0.0, ca[1]) + 1) / 2
    high = (max(0.0, asr[1]) - max(0.0, ca[0]) + 1) / 2
    return low, high


def roc_auc(scores: ScoreArray, positive: BoolArray) -> float:
    """Probability that a positive scores above a negative, ties counting half, in [0, 1].

    Raises:
        ValueError: One of the two groups is empty, or a score is not finite.
    """
    n_pos, n_neg = int(positive.sum()), int((~positive).sum())
    if not np.isfinite(scores).all():
        raise ValueError("ROC-AUC needs finite scores")
    if not n_pos or not n_neg:
        raise ValueError("ROC-AUC needs positives and negatives")
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks = (last - (counts - 1) / 2)[inverse]
    return float((ranks[positive].sum() - n_pos * (n_pos + 1) / 2) / (n_pos * n_neg))


def roc_auc_interval(
    scores: ScoreArray,
    positive: BoolArray,
    *,
    rng: np.random.Generator,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Percentile bootstrap interval of ROC-AUC, positives and negatives resampled apart."""
    pos, neg = scores[positive], scores[~positive]
    truth = np.concatenate([np.ones(len(pos), bool), np.zeros(len(neg), bool)])
    draws = [
        roc_auc(np.concatenate([rng.choice(pos, len(pos)), rng.choice(neg, len(neg))]), truth)
        for _ in range(resamples)
    ]
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)


def true_and_false_positive_rates(flagged: BoolArray, positive: BoolArray) -> tuple[Rate, Rate]:
    """Share of positives flagged (TPR) and of negatives flagged (FPR), each with its interval."""
    return (
        rate(int((flagged & positive).sum()), int(positive.sum())),
        rate(int((flagged & ~positive).sum()), int((~positive).sum())),
    )
