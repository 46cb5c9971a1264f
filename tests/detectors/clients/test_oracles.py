"""Known answers: brute force, SciPy, and what the papers promise."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from gifthorse.core.clients import Aggregate, Aggregator, Layout, RoundContext, Updates
from gifthorse.core.registry import Spec, build, names
from gifthorse.core.types import ScoreArray, Unit
from gifthorse.detectors.clients.anchored import Anchored, between_quantiles
from gifthorse.detectors.clients.bulyan import Bulyan, mean_around_median
from gifthorse.detectors.clients.clipping import Clipping
from gifthorse.detectors.clients.coordinates import Median, TrimmedMean
from gifthorse.detectors.clients.deepsight import threshold_exceedings, update_energies
from gifthorse.detectors.clients.explained import Explained
from gifthorse.detectors.clients.flame import Flame
from gifthorse.detectors.clients.fltrust import FlTrust
from gifthorse.detectors.clients.foolsgold import FoolsGold, learning_rates
from gifthorse.detectors.clients.krum import Krum, MultiKrum
from gifthorse.detectors.clients.mean import Mean
from gifthorse.detectors.clients.rfa import Rfa, geometric_median
from gifthorse.models.local import span_of

LAYOUT = Layout(
    names=("body", "out.weight", "out.bias"),
    shapes=((7, 3), (4, 3), (4,)),
    output_weight="out.weight",
    output_bias="out.bias",
)
D = LAYOUT.size
EVERY = names("aggregators")
every_defence = pytest.mark.parametrize("name", EVERY)


def updates(deltas: ScoreArray, clients: tuple[str, ...] | None = None) -> Updates:
    return Updates(
        clients=clients or tuple(f"c{i:02d}" for i in range(len(deltas))),
        deltas=deltas,
        weights=np.ones(len(deltas)),
    )


def context(**changes: Any) -> RoundContext:
    known: dict[str, Any] = {
        "round": 0,
        "current": np.linspace(-1, 1, D),
        "layout": LAYOUT,
        "rng": np.random.default_rng(0),
        "root_delta": np.ones(D),
        "span": lambda: np.full((1, D), 1 / np.sqrt(D)),
    }
    return RoundContext(**{**known, **changes})


def crowd(n: int = 20, seed: int = 0, spread: float = 0.3) -> ScoreArray:
    rng = np.random.default_rng(seed)
    return 1.0 + spread * rng.normal(size=(n, D))


def defence(name: str) -> Aggregator:
    found: Aggregator = build("aggregators", Spec(name, {}))
    return found


# ---------------------------------------------------------------- every defence


@every_defence
def test_it_takes_a_crowd_of_honest_clients_where_they_go(name: str) -> None:
    outcome = defence(name).aggregate(updates(crowd()), context())
    step = outcome.delta
    assert step.shape == (D,)
    if name != "crfl":  # which draws the model itself towards zero
        cosine = step @ np.ones(D) / np.linalg.norm(step) / np.sqrt(D)
        assert cosine > 0.9
    assert outcome.fallback is None
    assert outcome.evidence.unit is Unit.CLIENT
    assert set(outcome.evidence.suspects.tolist()) == set(np.flatnonzero(~outcome.accepted))


@every_defence
def test_it_does_not_change_what_it_was_given(name: str) -> None:
    deltas, current = crowd(), np.linspace(-1, 1, D)
    before = deltas.copy(), current.copy()
    defence(name).aggregate(updates(deltas), context(current=current))
    assert (deltas == before[0]).all()
    assert (current == before[1]).all()


@every_defence
@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_few_replies_give_a_step_or_a_named_fallback(name: str, n: int) -> None:
    outcome = defence(name).aggregate(updates(crowd(20)[:n]), context())
    assert outcome.accepted.shape == (n,)
    assert np.isfinite(outcome.delta).all()
    if n == 0:
        assert outcome.fallback is not None
        assert (outcome.delta == 0).all()


@every_defence
def test_identical_and_zero_updates_do_not_break_it(name: str) -> None:
    for rows in (np.zeros((12, D)), np.ones((12, D)), np.eye(12, D)):
        outcome = defence(name).aggregate(updates(rows), context())
        assert np.isfinite(outcome.delta).all()


@every_defence
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_order_of_clients_does_not_matter(name: str, seed: int) -> None:
    deltas = crowd(21, seed=3)
    order = np.random.default_rng(seed).permutation(21)
    labels = tuple(f"c{i:02d}" for i in range(21))
    one = defence(name).aggregate(updates(deltas, labels), context())
    moved = updates(deltas[order], tuple(labels[i] for i in order))
    other = defence(name).aggregate(moved, context())
    np.testing.assert_allclose(one.delta, other.delta, atol=1e-9)
    assert (one.accepted[order] == other.accepted).all()


SCALE_FREE = [
    "mean",
    "clipping",
    "median",
    "trimmed_mean",
    "krum",
    "multikrum",
    "bulyan",
    "foolsgold",
]


@pytest.mark.parametrize("name", SCALE_FREE)
@settings(max_examples=10, deadline=None)
@given(factor=st.floats(1e-3, 1e3))
def test_larger_updates_give_a_larger_step_and_the_same_choice(name: str, factor: float) -> None:
    one = defence(name).aggregate(updates(crowd(seed=5)), context())
    other = defence(name).aggregate(updates(factor * crowd(seed=5)), context())
    np.testing.assert_allclose(factor * one.delta, other.delta, rtol=1e-6)
    assert (one.accepted == other.accepted).all()


@pytest.mark.parametrize(
    "robust",
    [
        Median(),
        TrimmedMean(trim=0.25),
        Krum(),
        MultiKrum(),
        Bulyan(),
        Rfa(iterations=100),
        FlTrust(),
    ],
)
@settings(max_examples=15, deadline=None)
@given(size=st.floats(10, 1e6), seed=st.integers(0, 100))
def test_four_of_twenty_cannot_carry_it_away(robust: Aggregator, size: float, seed: int) -> None:
    deltas = crowd(seed=seed)
    deltas[:4] = -size
    step = robust.aggregate(updates(deltas), context()).delta
    assert np.linalg.norm(step - 1) < 0.5 * np.sqrt(D)


@pytest.mark.parametrize("fragile", [Mean()])
def test_one_of_twenty_carries_the_mean_away(fragile: Aggregator) -> None:
    deltas = crowd()
    deltas[0] = -1e6
    assert np.linalg.norm(fragile.aggregate(updates(deltas), context()).delta) > 1e4


def test_the_median_breaks_at_one_half_and_not_before() -> None:
    deltas = np.ones((21, D))
    deltas[:10] = 1e9
    assert Median().aggregate(updates(deltas), context()).delta.max() == 1
    deltas[:11] = 1e9
    assert Median().aggregate(updates(deltas), context()).delta.min() == 1e9


# ---------------------------------------------------------------- one by one


def test_krum_is_what_brute_force_finds() -> None:
    deltas, f = crowd(11, seed=2, spread=1.0), 3
    best, winner = np.inf, -1
    for i in range(11):
        apart = sorted(float(((deltas[i] - deltas[j]) ** 2).sum()) for j in range(11) if j != i)
        if sum(apart[: 11 - f - 2]) < best:
            best, winner = sum(apart[: 11 - f - 2]), i
    outcome = Krum(assumed=f).aggregate(updates(deltas), context())
    assert np.flatnonzero(outcome.accepted).tolist() == [winner]
    np.testing.assert_allclose(outcome.evidence.scores[winner], best)


def test_krum_with_too_few_clients_says_so() -> None:
    outcome = Krum(assumed=4).aggregate(updates(crowd(10)), context())
    assert outcome.fallback is not None
    assert "fewer than 2·4 + 3" in outcome.fallback


def test_multikrum_in_double_precision_on_updates_admits_no_attacker() -> None:
    """The same updates through ‖x‖² + ‖y‖² − 2xy on whole models in single precision, beside it."""
    d, admitted, single = 100_000, 0, 0
    layout = Layout(names=("w", "b"), shapes=((d - 1, 1), (1,)), output_weight="w", output_bias="b")
    for trial in range(20):
        rng = np.random.default_rng(trial)
        current = rng.normal(size=d)
        current *= 1000 / np.linalg.norm(current)
        deltas = rng.normal(size=(15, d))
        deltas *= 0.05 / np.linalg.norm(deltas, axis=1, keepdims=True)
        shared = rng.normal(size=d)
        deltas[:3] = deltas[:3] * 0.5 + 0.12 * shared / np.linalg.norm(shared) * [[1], [-1], [1]]
        outcome = MultiKrum(assumed=3).aggregate(
            updates(deltas), context(current=current, layout=layout)
        )
        admitted += int(outcome.accepted[:3].any())
        single += int(_single_precision_choice((current + deltas).astype(np.float32), 3)[:3].any())
    assert admitted == 0
    assert single > 0  # the case is one that the careless form gets wrong


def _single_precision_choice(models: np.ndarray, assumed: int) -> np.ndarray:
    squares = (models**2).sum(axis=1)
    apart = squares[:, None] + squares[None] - 2 * models @ models.T
    n = len(models)
    np.fill_diagonal(apart, np.inf)
    scores = np.sort(apart, axis=1)[:, : n - assumed - 2].sum(axis=1)
    out = np.zeros(n, dtype=bool)
    out[np.argsort(scores, kind="stable")[: n - assumed]] = True
    return out


def test_bulyan_is_what_brute_force_finds() -> None:
    deltas, f = crowd(11, seed=7, spread=1.0), 2
    left = list(range(11))
    chosen: list[int] = []
    while len(chosen) < 11 - 2 * f:
        scores = {
            i: sum(
                sorted(float(((deltas[i] - deltas[j]) ** 2).sum()) for j in left if j != i)[
                    : max(1, len(left) - f - 2)
                ]
            )
            for i in left
        }
        chosen.append(min(scores, key=lambda i: (scores[i], i)))
        left.remove(chosen[-1])
    outcome = Bulyan(assumed=f).aggregate(updates(deltas), context())
    assert sorted(chosen) == np.flatnonzero(outcome.accepted).tolist()
    for k in range(0, D, 7):
        column = deltas[chosen, k]
        best = min(
            itertools.combinations(column, len(chosen) - 2 * f),
            key=lambda some: sum(abs(v - np.median(column)) for v in some),
        )
        np.testing.assert_allclose(outcome.delta[k], np.mean(best))


def test_values_around_the_median() -> None:
    rows = np.array([[0.0], [1.0], [2.0], [50.0], [3.0]])
    assert mean_around_median(rows, 3)[0] == 2.0


def test_rfa_is_the_geometric_median_that_scipy_finds() -> None:
    points = np.random.default_rng(1).normal(size=(9, 5)) * [1, 2, 3, 4, 5]
    weights = np.arange(1.0, 10)

    def slope(z: ScoreArray) -> ScoreArray:
        gaps = z - points
        return np.asarray((weights / np.linalg.norm(gaps, axis=1)) @ gaps)

    # Where the gradient of the summed distances is zero.
    best = optimize.root(slope, points.mean(axis=0), tol=1e-12).x
    np.testing.assert_allclose(geometric_median(points, weights, 500), best, atol=1e-5)


def test_sybils_that_push_alike_get_no_weight() -> None:
    rng = np.random.default_rng(0)
    honest = rng.normal(size=(6, D))
    sybils = np.tile(rng.normal(size=D), (4, 1)) + 1e-3 * rng.normal(size=(4, D))
    rates = learning_rates(np.concatenate([honest, sybils]), 1.0)
    assert (rates[6:] == 0).all()
    assert rates[:6].min() > 0.5
    outcome = FoolsGold().aggregate(updates(np.concatenate([honest, sybils])), context())
    assert outcome.evidence.suspects.tolist() == [6, 7, 8, 9] or set(
        outcome.evidence.suspects.tolist()
    ) == {6, 7, 8, 9}


def test_foolsgold_remembers() -> None:
    rng = np.random.default_rng(0)
    memory: Any = {}
    shared = rng.normal(size=D)
    for round_ in range(20):
        deltas = rng.normal(size=(8, D))
        deltas[:2] = 0.5 * shared + 0.8 * deltas[:2]  # alike only in the long run
        outcome = FoolsGold().aggregate(updates(deltas), context(round=round_, memory=memory))
        memory = outcome.memory
    assert set(outcome.evidence.suspects.tolist()) == {0, 1}


def test_fltrust_rejects_who_points_the_other_way_and_sets_the_length() -> None:
    deltas = crowd()
    deltas[:3] *= -100
    deltas[3] *= 100
    root = 0.1 * np.ones(D)
    outcome = FlTrust().aggregate(updates(deltas), context(root_delta=root))
    assert set(outcome.evidence.suspects.tolist()) == {0, 1, 2}
    assert np.linalg.norm(outcome.delta) <= np.linalg.norm(root) + 1e-9
    without = FlTrust().aggregate(updates(deltas), context(root_delta=None))
    assert without.fallback is not None


def test_a_mean_between_quantiles_by_hand() -> None:
    rows = np.array([[0.0], [1.0], [2.0], [100.0]])
    even = between_quantiles(rows, np.ones(4), 0.25)
    np.testing.assert_allclose(even, [1.5])
    np.testing.assert_allclose(between_quantiles(rows, np.ones(4), 0.0), rows.mean(axis=0))
    # Weights .1 to .4 between .25 and .75: .05 of the second, .3 of the third, .15 of the last.
    uneven = between_quantiles(rows, np.array([1.0, 2, 3, 4]), 0.25)
    np.testing.assert_allclose(uneven, [(0.05 * 1 + 0.3 * 2 + 0.15 * 100) / 0.5])


def test_the_anchor_pulls_where_the_server_points() -> None:
    deltas = crowd()
    root = np.linspace(0.5, 1.5, D)
    alone = Anchored(anchor=1.0).aggregate(updates(deltas), context(root_delta=root)).delta
    np.testing.assert_allclose(alone, root)


def test_what_is_explained_is_averaged_and_the_rest_is_trimmed() -> None:
    """Two axes are explained; of twelve clients one alone goes along one of them, one elsewhere."""
    root = np.zeros(D)
    root[:2] = 1
    deltas = np.tile(root, (12, 1))
    deltas[3], deltas[4, 20] = 0, 3.0
    deltas[3, 1] = 1.0  # a client with a rare class
    outcome = Explained(anchor=0, momentum=0, length=1).aggregate(
        updates(deltas), context(root_delta=root, span=lambda: np.eye(2, D))
    )
    bound = np.sqrt(2)
    by_hand = np.zeros(D)
    by_hand[:2] = (10 + bound / np.sqrt(11)) / 12  # ten alike, and the one that goes elsewhere too
    by_hand[1] += bound / 12
    np.testing.assert_allclose(outcome.delta, by_hand, atol=1e-12)
    assert outcome.evidence.scores.argmax() == 4
    np.testing.assert_allclose(np.delete(outcome.evidence.scores, 4), 0, atol=1e-7)
    without = Explained().aggregate(updates(deltas), context(span=None))
    assert without.fallback is not None


def test_steps_are_averaged_over_rounds() -> None:
    first = Explained(momentum=0.5).aggregate(updates(crowd()), context())
    plain = Explained(momentum=0).aggregate(updates(crowd()), context())
    np.testing.assert_allclose(first.delta, plain.delta / 2)
    second = Explained(momentum=0.5).aggregate(updates(crowd()), context(memory=first.memory))
    np.testing.assert_allclose(second.delta, 0.75 * plain.delta)


def test_the_span_of_gradients_is_orthonormal_and_holds_them() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(5, 40)) * np.array([[1], [1e3], [1e-3], [1], [0]])
    rows[3] = 2 * rows[0]
    span = span_of(rows)
    assert span.shape == (3, 40)
    np.testing.assert_allclose(span @ span.T, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(rows @ span.T @ span, rows, rtol=1e-6, atol=1e-9)
    assert span_of(np.zeros((2, 4))).shape == (0, 4)


@settings(max_examples=15, deadline=None)
@given(size=st.floats(10, 1e6), seed=st.integers(0, 100))
def test_an_unexplained_push_of_four_of_twenty_does_not_enter(size: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    deltas = crowd(seed=seed)
    push = rng.normal(size=D)
    push -= push.mean()  # nothing of it lies along the span, which is the diagonal
    deltas[:4] += size * push / np.linalg.norm(push)
    step = Explained(anchor=0, momentum=0).aggregate(updates(deltas), context()).delta
    bound = 2 * np.sqrt(D)  # the length that every update is given
    clean = Explained(anchor=0, momentum=0).aggregate(updates(deltas[4:]), context()).delta
    assert np.linalg.norm(step - step.mean() - (clean - clean.mean())) < 0.2 * bound
    assert step.mean() > 0.7 * clean.mean()


def test_flame_rejects_another_direction_and_clips_to_the_median_norm() -> None:
    rng = np.random.default_rng(0)
    deltas = crowd(spread=0.05)
    deltas[:5] = rng.normal(size=D) * 30 + 0.01 * rng.normal(size=(5, D))
    outcome = Flame(noise=0).aggregate(updates(deltas), context(current=np.zeros(D)))
    assert set(range(5)) <= set(outcome.evidence.suspects.tolist())
    assert np.linalg.norm(outcome.delta) <= np.median(np.linalg.norm(deltas, axis=1)) + 1e-9


def test_clipping_bounds_what_one_client_can_do() -> None:
    deltas = crowd()
    deltas[0] = 1e6
    step = Clipping(bound=1.0, noise=0).aggregate(updates(deltas), context()).delta
    assert np.linalg.norm(step) <= 1 + 1e-9


def test_the_energies_of_the_output_layer_by_hand() -> None:
    delta = np.zeros((1, D))
    delta[0, LAYOUT.place("out.bias")] = [1, 0, -2, 0]
    delta[0, LAYOUT.place("out.weight")] = np.array(
        [[1, 0, 0], [0, 0, 0], [0, -1, 0], [0.1, 0, 0]]
    ).ravel()
    energy = update_energies(updates(delta), context())
    np.testing.assert_allclose(energy[0], np.array([4, 0, 9, 0.01]) / 13.01)
    assert threshold_exceedings(energy).tolist() == [2]


def test_an_outcome_refuses_what_is_not_finite() -> None:
    good = Mean().aggregate(updates(crowd()), context())
    with pytest.raises(ValueError, match="finite"):
        Aggregate(delta=np.full(D, np.nan), accepted=good.accepted, evidence=good.evidence)
    with pytest.raises(ValueError, match="finite"):
        updates(np.full((3, D), np.inf))
