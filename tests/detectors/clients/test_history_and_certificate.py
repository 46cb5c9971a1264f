"""FLDetector's memory, and CRFL's certificate."""

from typing import Any

import numpy as np
import pytest

from gifthorse.core.types import ScoreArray
from gifthorse.detectors.clients.crfl import Crfl, certified_displacement, votes
from gifthorse.detectors.clients.fldetector import FlDetector, hessian_product, outlying

from .test_oracles import D, context, crowd, updates


def test_the_quasi_newton_product_is_exact_along_its_steps() -> None:
    rng = np.random.default_rng(0)
    root = rng.normal(size=(D, D))
    hessian = root @ root.T / D + np.eye(D)
    steps = rng.normal(size=(6, D))
    found = hessian_product(steps, steps @ hessian, steps[-1])
    np.testing.assert_allclose(found, hessian @ steps[-1], rtol=1e-6)


def test_two_groups_of_scores_are_told_apart_and_one_is_left_alone() -> None:
    rng = np.random.default_rng(0)
    two = np.concatenate([0.9 + 0.01 * rng.random(4), 0.1 + 0.01 * rng.random(16)])
    assert np.flatnonzero(outlying(two, rng)).tolist() == [0, 1, 2, 3]
    assert not outlying(np.linspace(0, 1, 20), rng).any()
    assert not outlying(np.ones(20), rng).any()


def _play(bad: int, seed: int) -> set[int]:
    """Honest clients descend a common bowl; the bad ones send another thing every round."""
    rng = np.random.default_rng(seed)
    goal, caught = rng.normal(size=D), set[int]()
    memory: Any = {}
    current: ScoreArray = np.zeros(D)
    for round_ in range(25):
        deltas = 0.1 * (goal - current) + 0.002 * rng.normal(size=(20, D))
        deltas[:bad] = 0.3 * rng.normal(size=(bad, D))
        outcome: Any = FlDetector().aggregate(
            updates(deltas), context(current=current, memory=memory, round=round_)
        )
        memory, current = outcome.memory, current + outcome.delta
        caught |= set(np.flatnonzero(~outcome.accepted).tolist())
    return caught


def test_fldetector_catches_the_unpredictable_and_only_them() -> None:
    assert _play(4, seed=0) == {0, 1, 2, 3}


def test_fldetector_lets_honest_clients_be() -> None:
    assert sum(len(_play(0, seed=seed)) > 0 for seed in range(3)) <= 1


def test_crfl_keeps_the_model_within_its_bound() -> None:
    outcome = Crfl(bound=2.0, growth=0, noise=1e-9).aggregate(
        updates(100 * crowd()), context(current=np.ones(D))
    )
    assert np.linalg.norm(np.ones(D) + outcome.delta) == pytest.approx(2.0)


def test_votes_are_counted_and_certified() -> None:
    def logits(parameters: ScoreArray, x: Any) -> ScoreArray:
        return np.stack([parameters[0] + 0 * x[:, 0], 0 * x[:, 0]], axis=1)

    rng, x = np.random.default_rng(0), np.zeros((3, 1), np.float32)
    sure = votes(logits, np.array([1.0]), x, noise=0.1, rng=rng, count=500)
    assert sure.tolist() == [[500, 0]] * 3
    open_ = votes(logits, np.array([0.0]), x, noise=0.1, rng=rng, count=500)
    defence = Crfl(bound=0.2, growth=0, noise=0.1)
    early = certified_displacement(sure, defence=defence, attacked_round=0, rounds=20)
    late = certified_displacement(sure, defence=defence, attacked_round=19, rounds=20)
    assert (early > late).all()  # every noisy round after the attack forgets some of it
    assert (late > 0).all()
    assert (certified_displacement(open_, defence=defence, attacked_round=19, rounds=20) == 0).all()


def test_the_certificate_holds_where_the_truth_is_known() -> None:
    """One parameter, two classes by its sign: a push below the certificate never turns the vote."""

    def logits(parameters: ScoreArray, x: Any) -> ScoreArray:
        return np.stack([parameters[0] + 0 * x[:, 0], 0 * x[:, 0]], axis=1)

    rng, x = np.random.default_rng(1), np.zeros((1, 1), np.float32)
    defence = Crfl(bound=10, growth=0, noise=0.5)
    for at in (0.3, 0.6, 1.2):
        counts = votes(logits, np.array([at]), x, noise=0.5, rng=rng, count=1000)
        push = certified_displacement(counts, defence=defence, attacked_round=0, rounds=1)[0]
        assert 0 < push < at
