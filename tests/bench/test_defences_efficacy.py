"""Defences on a planted signs model and on its clean twin. Only these tests know what is planted.

Methods that do not reach their paper's effect on this small setting are held to their harmlessness;
docs/results/weak-defences.md says which and by how much.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from gifthorse.attacks.data.badnets import BadNets
from gifthorse.auditing.guard import guard
from gifthorse.bench.plant import attack_success, plant
from gifthorse.core.registry import build, parse_spec
from gifthorse.core.rng import child_rng
from gifthorse.core.types import Evidence, ImageData, Subject, silent
from gifthorse.data.signs import signs
from gifthorse.data.splits import split, stratified_sample
from gifthorse.detectors.inputs.calibrated import scores_of
from gifthorse.metrics.rates import agreement, roc_auc
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.passes import extract_features, predict
from gifthorse.models.training import TrainingPlan
from gifthorse.repairs import bti_dbf_u

pytestmark = pytest.mark.slow

TARGET = 3
ATTACK = BadNets(target=TARGET, rate=0.1, size=4)
PLAN = TrainingPlan(epochs=8, batch_size=64)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    planted: ImageClassifier
    twin: ImageClassifier
    training: ImageData
    trusted: ImageData
    test: ImageData

    def accuracy(self, model: ImageClassifier) -> float:
        return agreement(predict(model, self.test), self.test.labels).value

    def attack_success(self, model: ImageClassifier) -> float:
        return attack_success(ATTACK, model, self.test, seed=0)


@pytest.fixture(scope="module")
def world() -> World:
    torch.set_num_threads(1)
    training, held = signs("train", 6000), signs("test", 2000)
    pool, test = split(held, 0.5, child_rng(0, "pool"))
    made = plant(ATTACK, training, test, training=PLAN, with_twin=True, width=16, seed=0)
    assert made.twin is not None
    return World(
        planted=made.classifier,
        twin=made.twin,
        training=training,
        trusted=stratified_sample(pool, 500, child_rng(0, "trusted")),
        test=test,
    )


def repaired(world: World, name: str, model: ImageClassifier) -> ImageClassifier:
    plugin = build("repairs", parse_spec(name))
    subject = Subject(model=model, trusted=world.trusted).granting(plugin.needs)
    fixed = plugin.repair(subject, [], rng=child_rng(0, "repair"), progress=silent)
    assert isinstance(fixed, ImageClassifier)
    return fixed


def test_the_planted_model_is_planted_and_the_twin_is_not(world: World) -> None:
    assert world.attack_success(world.planted) > 0.95
    assert world.attack_success(world.twin) < 0.05
    assert world.accuracy(world.planted) > 0.9


@pytest.fixture(scope="module")
def seeds(world: World) -> list[ImageClassifier]:
    """Planted networks of three seeds: which one a seed gives depends on the processor."""
    more = [
        plant(ATTACK, world.training, world.test, training=PLAN, width=16, seed=seed).classifier
        for seed in (1, 2)
    ]
    return [world.planted, *more]


# BNP left 64, 95 and 57 % on one processor, less than 50 % of the first seed on another.
@pytest.mark.efficacy
@pytest.mark.parametrize(("name", "left"), [("bnp", 0.8), ("sau:learning_rate=0.0005", 0.2)])
def test_these_repairs_remove_the_backdoor_and_leave_the_twin(
    name: str, left: float, world: World, seeds: list[ImageClassifier]
) -> None:
    success = []
    for planted in seeds:
        fixed = repaired(world, name, planted)
        success.append(world.attack_success(fixed))
        assert world.accuracy(fixed) > world.accuracy(planted) - 0.08
    assert np.mean(success) < left, success
    twin = repaired(world, name, world.twin)
    assert world.accuracy(twin) > world.accuracy(world.twin) - 0.08


@pytest.mark.parametrize(
    ("name", "price"),
    [
        ("clp", 0.05),
        ("ft_sam:steps=100", 0.05),
        ("i_bau", 0.06),
        ("anp", 0.1),
        ("rnp", 0.12),
        ("nad", 0.12),
        # Measured: 2.4 and 2.3 points (docs/results.md).
        ("bti_dbf_u", 0.06),
    ],
)
def test_these_repairs_are_at_least_harmless(name: str, price: float, world: World) -> None:
    for model in (world.planted, world.twin):
        fixed = repaired(world, name, model)
        assert world.accuracy(fixed) > world.accuracy(model) - price


class Stamper(torch.nn.Module):
    """In place of what BTI-DBF would paint: the attacker's own trigger, or nothing."""

    def __init__(self, *, real: bool) -> None:
        super().__init__()
        self.real = real

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.real:
            return x
        return torch.from_numpy(ATTACK.trigger.apply(x.numpy(), child_rng(0, "stamp")))


def test_bti_dbf_u_unlearns_the_trigger_once_that_is_what_is_painted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its unlearning works here; the trigger that it should unlearn is what it does not find."""

    def left(*, real: bool) -> float:
        stamper = Stamper(real=real)
        monkeypatch.setattr(bti_dbf_u, "backdoor_painter", lambda *_, **__: stamper)
        fixed = repaired(world, "bti_dbf_u:mask_steps=1", world.planted)
        assert world.accuracy(fixed) > world.accuracy(world.planted) - 0.06
        return world.attack_success(fixed)

    assert left(real=True) < 0.1
    assert left(real=False) > 0.9


@pytest.mark.efficacy
@pytest.mark.parametrize(("name", "most"), [("linear_weights", 0.1), ("mm_bd", 0.5)])
def test_data_free_detectors_rank_the_target_first_and_leave_the_twin(
    name: str, most: float, world: World
) -> None:
    # MM-BD's null fits its gamma anew in every draw, which at twelve classes costs most of the
    # power: p = .02 and .35 on two seeds of this world (docs/results.md). Its order is held to.
    plugin = build("detectors", parse_spec(name))

    def seen(model: ImageClassifier) -> tuple[Evidence, float]:
        found = plugin.inspect(Subject(model=model), rng=child_rng(0, "audit"), progress=silent)
        return found, plugin.null(found).p_value(found.statistic)

    planted, p_planted = seen(world.planted)
    _, p_twin = seen(world.twin)
    assert planted.suspects.tolist() == [TARGET]
    assert p_planted < most
    assert p_twin > max(0.1, p_planted)


@pytest.mark.efficacy
@pytest.mark.parametrize("name", ["scale_up", "ted", "strip:overlays=20"])
def test_triggered_inputs_score_higher_before_the_planted_model_only(
    name: str, world: World
) -> None:
    plugin = build("detectors", parse_spec(name))
    clean = stratified_sample(world.test, 200, child_rng(0, "inputs"))
    stamped, _ = ATTACK.triggered(clean, rng=child_rng(0, "triggered"))
    truth = np.r_[np.zeros(len(clean), bool), np.ones(len(stamped), bool)]

    def auc(model: ImageClassifier) -> float:
        score, _ = plugin.scorer(model, world.trusted, child_rng(0, "inputs"), silent)
        found = [scores_of(model, data, score, silent) for data in (clean, stamped)]
        return roc_auc(np.concatenate(found), truth)

    assert auc(world.planted) > 0.85
    assert 0.35 < auc(world.twin) < 0.65


def test_the_guard_keeps_its_rate_and_flags_triggers(world: World) -> None:
    watch = guard(world.planted, trusted=world.trusted, detector="scale_up", false_alarm_rate=0.02)
    clean = stratified_sample(world.test, 400, child_rng(0, "inputs"))
    stamped, _ = ATTACK.triggered(clean, rng=child_rng(0, "triggered"))

    def flagged(data: ImageData) -> float:
        x = torch.from_numpy(data.batch(np.arange(len(data))))
        return float(watch(x).flagged.float().mean())

    assert flagged(clean) < 0.06
    assert flagged(stamped) > 0.8


@pytest.mark.efficacy
@pytest.mark.parametrize("name", ["scan", "spectre"])
def test_poisoned_samples_are_found_at_two_percent_and_the_clean_data_is_not_worse(
    name: str, world: World, few: tuple[Subject, np.ndarray[tuple[int], np.dtype[np.bool_]]]
) -> None:
    plugin = build("detectors", parse_spec(name))
    subject, poisoned = few
    found = plugin.inspect(subject, rng=child_rng(0, "scan"), progress=silent)
    p = plugin.null(found).p_value(found.statistic)
    assert p < 0.05
    assert poisoned[found.suspects].sum() > 0.8 * poisoned.sum()
    assert roc_auc(found.scores, poisoned) > 0.9
    clean = Subject(suspect=world.training, features=extract_features(world.twin, world.training))
    other = plugin.inspect(clean, rng=child_rng(0, "scan"), progress=silent)
    assert plugin.null(other).p_value(other.statistic) > 0.05


@pytest.fixture(scope="module")
def few(world: World) -> tuple[Subject, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """Two per cent poison; with ten, most of the target class is poison and all is reversed."""
    attack = dataclasses.replace(ATTACK, rate=0.02)
    made = plant(attack, world.training, world.test, training=PLAN, width=16, seed=0)
    truth = made.specimen.truth
    assert truth is not None
    features = extract_features(made.classifier, made.training_data)
    return Subject(suspect=made.training_data, features=features), truth.poisoned
