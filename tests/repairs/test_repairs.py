"""What holds for every repair."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gifthorse.core.errors import NotApplicableError
from gifthorse.core.registry import Spec, build, names, spec_of
from gifthorse.core.types import Evidence, Subject, silent
from gifthorse.data.images import ArrayImages, subset
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.loading import load_classifier
from gifthorse.models.passes import predict_logits
from gifthorse.models.saving import save_classifier

REPAIRS = ("fine_tuning", "fine_pruning", "unlearning")
SHORT = {"epochs": 1, "min_steps": 5, "batch_size": 16, "learning_rate": 0.01}


def short(name: str, **options: Any) -> Any:
    return build("repairs", Spec(name, SHORT | options))


def repaired(
    name: str, model: ImageClassifier | None, trusted: ArrayImages | None, evidence: Evidence
) -> ImageClassifier:
    subject = Subject(model=model, trusted=trusted)
    rng = np.random.default_rng(3)
    result = short(name).repair(subject, [evidence], rng=rng, progress=silent)
    assert isinstance(result, ImageClassifier)
    return result


def test_all_repairs_are_tested_here() -> None:
    assert set(REPAIRS) <= set(names("repairs"))


@pytest.mark.parametrize("name", REPAIRS)
def test_the_original_stays_bit_identical_and_the_copy_differs(
    name: str, trained: ImageClassifier, trusted: ArrayImages, evidence: Evidence
) -> None:
    before, pixels = trained.digest(), trusted.pixels.copy()
    after = repaired(name, trained, trusted, evidence)
    assert trained.digest() == before
    assert after.digest() != before
    assert not after.module.training
    np.testing.assert_array_equal(trusted.pixels, pixels)


@pytest.mark.parametrize("name", REPAIRS)
def test_a_seed_decides_everything(
    name: str, trained: ImageClassifier, trusted: ArrayImages, evidence: Evidence
) -> None:
    first = repaired(name, trained, trusted, evidence).digest()
    torch.manual_seed(99)  # the global generator does not matter
    assert repaired(name, trained, trusted, evidence).digest() == first


@pytest.mark.parametrize("name", REPAIRS)
def test_saved_and_opened_again_it_answers_the_same(
    name: str,
    trained: ImageClassifier,
    trusted: ArrayImages,
    evidence: Evidence,
    tmp_path: Path,
) -> None:
    after = repaired(name, trained, trusted, evidence)
    save_classifier(after, tmp_path / "model")
    again = load_classifier(tmp_path / "model")
    assert again.digest() == after.digest()
    np.testing.assert_array_equal(predict_logits(again, trusted), predict_logits(after, trusted))


@pytest.mark.parametrize("name", REPAIRS)
def test_passes_are_counted(
    name: str, trained: ImageClassifier, trusted: ArrayImages, evidence: Evidence
) -> None:
    after = repaired(name, trained, trusted, evidence)
    assert after.meter.forward == after.meter.backward == 80  # one pass, five steps of 16


@pytest.mark.parametrize("name", REPAIRS)
def test_what_is_missing_is_named(
    name: str, trained: ImageClassifier, trusted: ArrayImages, evidence: Evidence
) -> None:
    with pytest.raises(NotApplicableError, match="image classifiers"):
        repaired(name, None, trusted, evidence)
    with pytest.raises(NotApplicableError, match="trusted pictures"):
        repaired(name, trained, None, evidence)
    one = subset(trusted, np.array([0]))
    with pytest.raises(NotApplicableError, match="1 trusted picture"):
        short(name).repair(
            Subject(model=trained, trusted=one),
            [evidence],
            rng=np.random.default_rng(0),
            progress=silent,
        )


@pytest.mark.parametrize("name", REPAIRS)
def test_pictures_of_another_shape_are_refused(
    name: str, trained: ImageClassifier, evidence: Evidence
) -> None:
    other = ArrayImages(
        name="colour",
        pixels=np.zeros((8, 3, 12, 12), dtype=np.uint8),
        labels=np.arange(8, dtype=np.int64) % 4,
        class_names=trained.class_names,
    )
    with pytest.raises(NotApplicableError, match=r"3 channel\(s\)"):
        repaired(name, trained, other, evidence)


@pytest.mark.parametrize("name", REPAIRS)
def test_options_come_back_from_the_spec(name: str) -> None:
    plugin = short(name, shift=1)
    assert build("repairs", spec_of("repairs", plugin)) == plugin


@pytest.mark.parametrize("name", REPAIRS)
@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("epochs", 0),
        ("epochs", 1.5),
        ("min_steps", -1),
        ("batch_size", 1),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("shift", -1),
    ],
)
def test_options_out_of_range_are_named(name: str, option: str, value: float) -> None:
    with pytest.raises(ValueError, match=option):
        type(short(name))(**{option: value})


def test_statistics_of_batch_normalisation_stay_if_asked(
    trained: ImageClassifier, trusted: ArrayImages
) -> None:
    def means(model: ImageClassifier) -> list[torch.Tensor]:
        layers = model.module.modules()
        return [m.running_mean for m in layers if isinstance(m, nn.BatchNorm2d)]  # type: ignore[misc]

    for frozen in (True, False):
        after = short("fine_tuning", frozen_statistics=frozen).repair(
            Subject(model=trained, trusted=trusted),
            [],
            rng=np.random.default_rng(0),
            progress=silent,
        )
        same = [torch.equal(a, b) for a, b in zip(means(trained), means(after), strict=True)]
        assert all(same) if frozen else not any(same)


def test_few_pictures_are_passed_over_until_there_are_enough_steps(
    trained: ImageClassifier, trusted: ArrayImages
) -> None:
    told: list[int] = []
    few = subset(trusted, np.arange(20))  # two steps of 16 a pass
    short("fine_tuning", min_steps=11).repair(
        Subject(model=trained, trusted=few),
        [],
        rng=np.random.default_rng(0),
        progress=lambda _done, total, _what: told.append(total),
    )
    assert set(told) == {12}
