"""Neural Cleanse and universality ratios find the planted class and spare the clean twin."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from gifthorse.core.errors import NotApplicableError
from gifthorse.core.exhibits import BarsExhibit, PicturesExhibit
from gifthorse.core.types import (
    Evidence,
    FloatArray,
    IntArray,
    RecoveredTrigger,
    Subject,
    Unit,
    silent,
)
from gifthorse.data.images import ArrayImages, subset
from gifthorse.detectors.models.neural_cleanse import NeuralCleanse
from gifthorse.detectors.models.universality import Universality
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.passes import predict
from gifthorse.triggers.patch import Patch

Make = Callable[..., ImageClassifier]
Either = NeuralCleanse | Universality

UNIVERSALITY = Universality(steps=100, samples=60, batch_size=30)
CLEANSE = NeuralCleanse(passes=60, samples=96, batch_size=16)
BOTH = pytest.mark.parametrize("detector", [UNIVERSALITY, CLEANSE], ids=["universality", "nc"])
RATE = 0.05


def inspected(
    detector: Either, model: ImageClassifier, trusted: ArrayImages, seed: int = 0
) -> Evidence:
    subject = Subject(model=model, trusted=trusted)
    return detector.inspect(subject, rng=np.random.default_rng(seed), progress=silent)


def test_the_planted_model_is_one(make: Make, trusted: ArrayImages) -> None:
    """Clean accuracy and attack success of what the tests below examine."""
    planted = make(4)
    assert (predict(planted, trusted) == trusted.labels).mean() > 0.98
    stamp = Patch(shape="checker", size=3, colour="white").apply
    x = stamp(trusted.batch(np.arange(120)), np.random.default_rng(0))
    assert (sent(planted, x) == 4).all()
    assert (sent(make(None), x) == trusted.labels).mean() > 0.9


def sent(model: ImageClassifier, x: FloatArray) -> IntArray:
    with torch.no_grad():
        return np.asarray(model.logits(torch.from_numpy(x)).argmax(1).numpy(), dtype=np.int64)


@pytest.mark.efficacy("planted")
@BOTH
@pytest.mark.parametrize("target", [0, 4])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_planted_class_is_found(
    detector: Either, target: int, seed: int, make: Make, trusted: ArrayImages
) -> None:
    evidence = inspected(detector, make(target), trusted, seed)
    null = detector.null(evidence)
    assert evidence.suspects.tolist() == [target]
    assert evidence.statistic > null.threshold(RATE).value
    assert null.p_value(evidence.statistic) < RATE


@pytest.mark.efficacy("twin")
@BOTH
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_clean_twin_is_not_flagged(
    detector: Either, seed: int, make: Make, trusted: ArrayImages
) -> None:
    evidence = inspected(detector, make(None), trusted, seed)
    null = detector.null(evidence)
    assert evidence.statistic < null.threshold(RATE).value
    assert null.p_value(evidence.statistic) > 2 * RATE


@pytest.mark.parametrize("seed", [0, 1])
def test_a_class_that_is_easy_both_ways_is_no_backdoor(
    seed: int, make: Make, trusted: ArrayImages
) -> None:
    evidence = inspected(UNIVERSALITY, make(None, easy=3), trusted, seed)
    sizes = [
        exhibit.values
        for exhibit in evidence.exhibits
        if isinstance(exhibit, BarsExhibit) and exhibit.title.startswith(("Additive", "Masked"))
    ]
    assert len(sizes) == 2
    assert all(int(np.argmin(values)) == 3 for values in sizes)  # it is easy universally …
    assert evidence.statistic < UNIVERSALITY.null(evidence).threshold(RATE).value


@BOTH
def test_the_recovered_trigger_works_and_is_small(
    detector: Either, make: Make, trusted: ArrayImages
) -> None:
    model = make(4)
    evidence = inspected(detector, model, trusted)
    others = trusted.batch(np.flatnonzero(trusted.labels != 4))
    mine = [trigger for trigger in evidence.triggers if trigger.target == 4]
    assert mine[0] is evidence.triggers[0]
    for trigger in mine:
        stamped = trigger.stamp(others)
        assert 0 <= stamped.min() <= stamped.max() <= 1
        assert (sent(model, stamped) == 4).mean() > 0.8
        # A backdoor, not a picture of the class: the clean twin is hardly moved.
        assert (sent(make(None), stamped) == 4).mean() < 0.3
        where = trigger.mask if trigger.offset is None else np.abs(trigger.offset[0])
        assert where[-4:-1, -4:-1].mean() > 3 * where[:8, :8].mean()


@BOTH
def test_the_evidence_is_sane(detector: Either, make: Make, trusted: ArrayImages) -> None:
    evidence = inspected(detector, make(4), trusted)
    assert evidence.unit is Unit.CLASS
    assert evidence.scores.shape == (8,)
    assert evidence.statistic == evidence.scores.max() == evidence.scores[4]
    assert evidence.triggers
    for trigger in evidence.triggers:
        check_trigger(trigger)
    pictures = [e for e in evidence.exhibits if isinstance(e, PicturesExhibit)]
    bars = [e for e in evidence.exhibits if isinstance(e, BarsExhibit)]
    assert pictures
    assert "class 4" in pictures[0].title
    judged = [exhibit for exhibit in bars if exhibit.judged]
    assert len(judged) == 1
    np.testing.assert_allclose(judged[0].values, evidence.scores, rtol=1e-3)
    assert all(exhibit.highlight == (4,) and len(exhibit.labels) == 8 for exhibit in bars)


def check_trigger(trigger: RecoveredTrigger) -> None:
    assert trigger.mask.shape == (12, 12)
    assert trigger.pattern.shape == (1, 12, 12)
    assert 0 <= trigger.mask.min() <= trigger.mask.max() <= 1
    assert 0 <= trigger.pattern.min() <= trigger.pattern.max() <= 1
    assert trigger.offset is None or (
        trigger.offset.shape == (1, 12, 12) and bool(np.isfinite(trigger.offset).all())
    )


FEW = [Universality(steps=40, samples=40), NeuralCleanse(passes=8, samples=40)]


@pytest.mark.parametrize("detector", FEW, ids=["universality", "nc"])
def test_the_same_seed_gives_the_same_evidence(
    detector: Either, make: Make, trusted: ArrayImages
) -> None:
    def seen(noise: int, seed: int) -> tuple[float, ...]:
        with torch.random.fork_rng():
            torch.manual_seed(noise)
            return tuple(map(float, inspected(detector, make(4), trusted, seed).scores))

    first = seen(1, 0)
    assert seen(2, 0) == first
    assert seen(1, 1) != first


@pytest.mark.parametrize("detector", FEW, ids=["universality", "nc"])
def test_the_subject_is_not_changed(detector: Either, make: Make, trusted: ArrayImages) -> None:
    model = make(4)
    digest, pixels, labels = model.digest(), trusted.pixels.copy(), trusted.labels.copy()
    before = model.meter.forward
    inspected(detector, model, trusted)
    assert model.digest() == digest
    assert not model.module.training
    assert not any(p.requires_grad for p in model.module.parameters())
    assert not any(layer._forward_pre_hooks for layer in model.module.modules())
    np.testing.assert_array_equal(trusted.pixels, pixels)
    np.testing.assert_array_equal(trusted.labels, labels)
    assert model.meter.forward > before
    assert model.meter.backward > 0


@pytest.mark.parametrize("detector", FEW, ids=["universality", "nc"])
def test_progress_never_goes_back_and_ends(
    detector: Either, make: Make, trusted: ArrayImages
) -> None:
    told: dict[str, list[tuple[int, int]]] = {}
    detector.inspect(
        Subject(model=make(4), trusted=trusted),
        rng=np.random.default_rng(0),
        progress=lambda done, of, what: told.setdefault(what, []).append((done, of)),
    )
    assert told
    for steps in told.values():
        done = [step[0] for step in steps]
        assert done == sorted(done)
        assert steps[-1][0] == steps[-1][1]


@pytest.mark.parametrize("detector", FEW, ids=["universality", "nc"])
@pytest.mark.parametrize("classes", [2, 3])
def test_too_few_classes_cannot_be_compared(
    detector: Either, classes: int, make: Make, trusted: ArrayImages
) -> None:
    few = subset(trusted, np.flatnonzero(trusted.labels < classes))
    model = make(1, classes=classes)
    with pytest.raises(NotApplicableError, match=f"the model has {classes} classes; .* at least 4"):
        detector.inspect(
            Subject(model=model, trusted=few), rng=np.random.default_rng(0), progress=silent
        )


@pytest.mark.parametrize("detector", FEW, ids=["universality", "nc"])
def test_what_is_missing_is_not_applicable(
    detector: Either, make: Make, trusted: ArrayImages
) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(NotApplicableError, match="needs trusted pictures"):
        detector.inspect(Subject(model=make(4)), rng=rng, progress=silent)
    with pytest.raises(NotApplicableError, match="given none"):
        detector.inspect(Subject(trusted=trusted), rng=rng, progress=silent)


@pytest.mark.parametrize("detector", FEW, ids=["universality", "nc"])
def test_pictures_that_do_not_fit_are_not_applicable(
    detector: Either, make: Make, trusted: ArrayImages
) -> None:
    colour = ArrayImages(
        name="colour",
        pixels=trusted.pixels.repeat(3, axis=1),
        labels=trusted.labels,
        class_names=trusted.class_names,
    )
    with pytest.raises(NotApplicableError, match=r"the trusted pictures do not fit: .*3 channel"):
        inspected(detector, make(4), colour)


def test_pictures_of_one_class_cannot_say_how_hard_that_class_is(
    make: Make, trusted: ArrayImages
) -> None:
    one = subset(trusted, np.flatnonzero(trusted.labels == 2))
    with pytest.raises(NotApplicableError):
        Universality(steps=40, samples=40).inspect(
            Subject(model=make(4), trusted=one), rng=np.random.default_rng(0), progress=silent
        )


def test_a_universality_goal_that_nothing_reaches_is_not_clear(
    make: Make, trusted: ArrayImages
) -> None:
    hopeless = Universality(steps=1, samples=20, goal=1.0)
    with pytest.raises(NotApplicableError, match="perturbation reaches the goal"):
        inspected(hopeless, make(None), trusted)


@pytest.mark.parametrize("options", [{"steps": 0}, {"samples": 0}, {"goal": 0.0}, {"goal": 1.1}])
def test_impossible_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Universality(**options)  # type: ignore[arg-type]
