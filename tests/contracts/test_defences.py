"""What every installed repair and detector of models keeps, whoever wrote it, on a small model."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from gifthorse.auditing.mend import mend
from gifthorse.core.errors import NotApplicableError
from gifthorse.core.registry import Spec, build, names, plugin_class
from gifthorse.core.types import Evidence, Need, RecoveredTrigger, Subject, Unit, silent
from gifthorse.data.images import ArrayImages
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.networks import small_network
from gifthorse.models.training import TrainingPlan, train

CLASSES = ("north-west", "north-east", "south-west", "south-east")
SHORT = {
    "steps": 4,
    "passes": 2,
    "epochs": 1,
    "min_steps": 4,
    "teacher_steps": 4,
    "unlearning_steps": 4,
    "recovering_steps": 4,
    "inner_steps": 2,
}
MODEL_NEEDS = {Need.LOGITS, Need.GRADIENTS, Need.WEIGHTS}


def quarters(count: int, seed: int) -> ArrayImages:
    """Noisy 12×12 pictures with one bright quarter."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int64) % 4
    pixels = rng.random((count, 1, 12, 12)) * 0.5
    for i, label in enumerate(labels):
        row, column = 6 * (label // 2), 6 * (label % 2)
        pixels[i, 0, row : row + 6, column : column + 6] += 0.3
    return ArrayImages.from_floats(pixels, labels, name="quarters", class_names=CLASSES)


@pytest.fixture(scope="module")
def trusted() -> ArrayImages:
    return quarters(80, seed=1)


@pytest.fixture(scope="module")
def model() -> ImageClassifier:
    torch.set_num_threads(1)
    untrained = small_network(image_shape=(1, 12, 12), class_names=CLASSES, seed=0, width=4)
    plan = TrainingPlan(epochs=8, batch_size=32, learning_rate=0.1)
    return train(untrained, quarters(400, seed=0), plan, rng=np.random.default_rng(0))


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    mask = np.zeros((12, 12), dtype=np.float32)
    mask[-3:, -3:] = 1
    trigger = RecoveredTrigger(target=0, mask=mask, pattern=np.ones((1, 12, 12), np.float32))
    return Evidence(
        unit=Unit.CLASS, scores=np.array([3.0, 0, 0, 0]), statistic=3.0, triggers=(trigger,)
    )


def short(kind: str, name: str) -> Any:
    known = {field.name for field in dataclasses.fields(plugin_class(kind, name))}
    return build(kind, Spec(name, {k: v for k, v in SHORT.items() if k in known}))


def of_models(name: str) -> bool:
    needs = plugin_class("detectors", name).needs
    return not needs & {Need.SUSPECT_DATA, Need.FEATURES} and bool(needs & MODEL_NEEDS)


every_repair = pytest.mark.parametrize("name", names("repairs"))
every_detector = pytest.mark.parametrize("name", [n for n in names("detectors") if of_models(n)])


def offered(plugin: Any, model: ImageClassifier, trusted: ArrayImages) -> Subject:
    return Subject(model=model, trusted=trusted).granting(plugin.needs)


def test_what_is_not_needed_is_not_granted(model: ImageClassifier, trusted: ArrayImages) -> None:
    subject = Subject(model=model, trusted=trusted, suspect=trusted)
    assert subject.granting(frozenset({Need.WEIGHTS})).offers == model.offers
    assert subject.granting(frozenset({Need.TRUSTED})).offers == {Need.TRUSTED}
    everything = frozenset({Need.LOGITS, Need.TRUSTED, Need.SUSPECT_DATA})
    assert subject.granting(everything) == subject


@every_repair
def test_a_repair_changes_a_copy_and_a_seed_decides_it(
    name: str, model: ImageClassifier, trusted: ArrayImages, evidence: Evidence
) -> None:
    repair = short("repairs", name)
    before, pixels = model.digest(), trusted.pixels.copy()
    digests = []
    for noise in (1, 99):
        torch.manual_seed(noise)  # the global generator does not matter
        subject = offered(repair, model, trusted)
        fixed = repair.repair(subject, [evidence], rng=np.random.default_rng(3), progress=silent)
        assert isinstance(fixed, ImageClassifier)
        assert fixed is not model
        assert not fixed.module.training
        assert not any(p.requires_grad for p in fixed.module.parameters())
        digests.append(fixed.digest())
    assert digests[0] == digests[1]
    assert model.digest() == before
    np.testing.assert_array_equal(trusted.pixels, pixels)


@every_repair
def test_a_repair_names_what_is_missing(
    name: str, model: ImageClassifier, trusted: ArrayImages, evidence: Evidence
) -> None:
    repair = short("repairs", name)

    def attempt(subject: Subject) -> None:
        repair.repair(subject, [evidence], rng=np.random.default_rng(0), progress=silent)

    with pytest.raises(NotApplicableError, match="image classifiers"):
        attempt(Subject(trusted=trusted))
    if Need.TRUSTED in repair.needs:
        with pytest.raises(NotApplicableError, match="trusted pictures"):
            attempt(Subject(model=model))
    else:
        attempt(Subject(model=model))


@every_repair
def test_the_cost_of_a_repair_is_recorded(
    name: str, model: ImageClassifier, trusted: ArrayImages, evidence: Evidence
) -> None:
    repair = short("repairs", name)
    _, record = mend(model, trusted, repair, [evidence], allowed_drop=1.0)
    assert record.cost.seconds > 0
    measuring = 80  # the held-back half, before and after
    spent = record.cost.forward_passes - measuring
    assert spent > 0 or Need.TRUSTED not in repair.needs
    assert (record.cost.backward_passes > 0) == (Need.GRADIENTS in repair.needs)


@every_detector
def test_a_detector_of_models_gives_finite_scores_and_a_seed_decides_them(
    name: str, model: ImageClassifier, trusted: ArrayImages
) -> None:
    detector = short("detectors", name)
    before, pixels = model.digest(), trusted.pixels.copy()
    seen = []
    for noise in (1, 99):
        torch.manual_seed(noise)
        try:
            found = detector.inspect(
                offered(detector, model, trusted), rng=np.random.default_rng(3), progress=silent
            )
        except NotApplicableError as refused:
            pytest.skip(f"{name} refuses this model: {refused}")
        null = detector.null(found)
        assert 0 < null.p_value(found.statistic) <= 1
        assert null.threshold(0.01).value >= null.threshold(0.1).value
        assert null.p_value(found.statistic + 1) <= null.p_value(found.statistic)
        assert found.unit is detector.unit
        seen.append(found)
    np.testing.assert_array_equal(seen[0].scores, seen[1].scores)
    assert seen[0].statistic == seen[1].statistic
    assert model.digest() == before
    np.testing.assert_array_equal(trusted.pixels, pixels)
    assert model.meter.forward > 0


@every_detector
def test_a_detector_of_models_names_what_is_missing(
    name: str, model: ImageClassifier, trusted: ArrayImages
) -> None:
    detector = short("detectors", name)

    def attempt(subject: Subject) -> None:
        detector.inspect(subject, rng=np.random.default_rng(0), progress=silent)

    with pytest.raises(NotApplicableError, match="image classifiers"):
        attempt(Subject(trusted=trusted))
    if Need.TRUSTED in detector.needs:
        with pytest.raises(NotApplicableError, match="trusted pictures"):
            attempt(Subject(model=model))


def of_inputs(name: str) -> bool:
    return hasattr(plugin_class("detectors", name), "scorer")


every_input_detector = pytest.mark.parametrize(
    "name", [n for n in names("detectors") if of_inputs(n)]
)


@every_input_detector
def test_a_detector_of_inputs_gives_finite_scores_and_a_seed_decides_them(
    name: str, model: ImageClassifier, trusted: ArrayImages
) -> None:
    detector = build("detectors", Spec(name, {}))
    inputs = quarters(40, seed=2)
    subject = Subject(model=model, trusted=trusted, suspect=inputs)
    before, pixels = model.digest(), inputs.pixels.copy()
    seen = []
    for noise in (1, 99):
        torch.manual_seed(noise)
        spent = model.meter.forward
        seen.append(detector.inspect(subject, rng=np.random.default_rng(3), progress=silent))
        assert model.meter.forward - spent >= detector.forward_passes() * len(inputs)
    np.testing.assert_array_equal(seen[0].scores, seen[1].scores)
    assert seen[0].scores.shape == (40,)
    assert detector.null(seen[0]).p_value(seen[0].statistic) > 0.001  # they are clean
    assert model.digest() == before
    np.testing.assert_array_equal(inputs.pixels, pixels)


@every_input_detector
def test_a_detector_of_inputs_names_what_is_missing(
    name: str, model: ImageClassifier, trusted: ArrayImages
) -> None:
    detector = build("detectors", Spec(name, {}))
    for subject, words in (
        (Subject(suspect=trusted, trusted=trusted), "image classifiers"),
        (Subject(model=model, suspect=trusted), "trusted pictures"),
        (Subject(model=model, trusted=trusted), "inputs to judge"),
        (Subject(model=model, suspect=trusted, trusted=quarters(8, seed=1)), "at least"),
    ):
        with pytest.raises(NotApplicableError, match=words):
            detector.inspect(subject, rng=np.random.default_rng(0), progress=silent)
