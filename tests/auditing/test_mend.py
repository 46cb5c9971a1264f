from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from gifthorse.auditing.examine import spec_record
from gifthorse.auditing.mend import mend
from gifthorse.core.errors import (
    DataError,
    ModelError,
    NotApplicableError,
    RepairRefusedError,
)
from gifthorse.core.record import RepairRecord, SpecRecord
from gifthorse.core.types import Evidence, Need, Progress, Subject
from gifthorse.data.images import ArrayImages, subset
from gifthorse.models.classifier import ImageClassifier, Preprocessing
from gifthorse.models.passes import predict
from gifthorse.repairs.fine_tuning import FineTuning
from gifthorse.repairs.unlearning import Unlearning

NAMES = ("dark", "bright")


def judge(threshold: float) -> ImageClassifier:
    """Class 1 if the mean of the picture exceeds the threshold."""
    linear = nn.Linear(16, 2)
    with torch.no_grad():
        linear.weight.copy_(torch.stack([torch.zeros(16), torch.full((16,), 1 / 16)]))
        linear.bias.copy_(torch.tensor([threshold, 0.0]))
    return ImageClassifier(
        nn.Sequential(nn.Flatten(), linear),
        class_names=NAMES,
        preprocessing=Preprocessing(mean=(0.0,), std=(1.0,), size=(4, 4)),
        name="judge",
    )


def levels(count: int) -> ArrayImages:
    """Uniform pictures of rising brightness; class 1 beyond a half."""
    values = (np.arange(count) + 0.5) / count
    pixels = np.broadcast_to(values[:, None, None, None], (count, 1, 4, 4))
    labels = (values > 0.5).astype(np.int64)
    return ArrayImages.from_floats(pixels, labels, name="levels", class_names=NAMES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed:
    """A repair that returns what the test wants."""

    needs: ClassVar[frozenset[Need]] = frozenset({Need.WEIGHTS, Need.TRUSTED})
    paper: ClassVar[str] = "none"
    threshold: float = 0.5
    fault: str = ""

    def repair(
        self,
        subject: Subject,
        evidence: Sequence[Evidence],
        *,
        rng: np.random.Generator,
        progress: Progress,
    ) -> ImageClassifier:
        model = subject.model
        assert isinstance(model, ImageClassifier)
        if self.fault == "in place":
            with torch.no_grad():
                model.module.get_submodule("1").get_parameter("bias").add_(1.0)
        if self.fault in ("in place", "itself"):
            return model
        if self.fault == "diverges":
            raise ModelError("the loss is not finite")
        changed = judge(float("nan") if self.fault == "nan" else self.threshold)
        changed.meter.forward, changed.meter.backward = 70, 60
        return changed


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """``Fixed`` is not installed, so it has no spec."""

    def for_tests(kind: str, plugin: Any) -> SpecRecord:
        if isinstance(plugin, Fixed):
            return SpecRecord(name="fixed", params={"threshold": plugin.threshold})
        return spec_record(kind, plugin)

    monkeypatch.setattr("gifthorse.auditing.mend.spec_record", for_tests)


def test_a_repair_that_costs_nothing_is_accepted() -> None:
    model, data = judge(0.5), levels(200)
    result, record = mend(model, data, Fixed())
    assert result is not None
    assert record.accepted
    assert record.accuracy_before.value == record.accuracy_after.value == 1.0
    assert record.accuracy_before.total == 100
    assert record.repaired_digest == result.digest()
    assert record.subject.digest == model.digest()
    assert "did not fall" in record.reason
    assert RepairRecord.model_validate_json(record.model_dump_json()) == record


def test_a_repair_that_costs_too_much_is_refused_with_figures() -> None:
    result, record = mend(judge(0.5), levels(200), Fixed(threshold=0.7), allowed_drop=0.05)
    assert result is None
    assert not record.accepted
    assert record.repaired_digest is None
    fell = record.accuracy_before.count - record.accuracy_after.count
    assert 10 < fell < 30  # pictures between .5 and .7, half of 40
    assert f"fell by {fell:.1f} points, from 100.0% to {100 - fell}.0%" in record.reason
    assert "allowed: 5 points" in record.reason
    assert f"gets {fell} wrong that were right, and 0 right" in record.notes[1]


def test_the_allowed_drop_itself_is_allowed() -> None:
    _, record = mend(judge(0.5), levels(200), Fixed(threshold=0.7))
    drop = (record.accuracy_before.count - record.accuracy_after.count) / 100
    assert mend(judge(0.5), levels(200), Fixed(threshold=0.7), allowed_drop=drop)[1].accepted
    below = drop - 0.001
    assert not mend(judge(0.5), levels(200), Fixed(threshold=0.7), allowed_drop=below)[1].accepted


def test_accuracy_may_rise() -> None:
    _, record = mend(judge(0.7), levels(200), Fixed(), allowed_drop=0.0)
    assert record.accepted
    assert record.accuracy_after.value > record.accuracy_before.value


def test_too_few_pictures_to_see_the_allowed_drop_are_noted() -> None:
    _, record = mend(judge(0.5), levels(40), Fixed())
    assert any("one of 20 held-back pictures is 5.0 points" in note for note in record.notes)
    _, record = mend(judge(0.5), levels(200), Fixed())
    assert not any("one of" in note for note in record.notes)


def test_the_repair_never_sees_what_it_is_judged_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[np.ndarray[Any, Any]] = []

    def spy(self: Fixed, subject: Subject, *_: Any, **__: Any) -> ImageClassifier:
        assert subject.trusted is not None
        seen.append(subject.trusted.batch(np.arange(len(subject.trusted)))[:, 0, 0, 0])
        return judge(self.threshold)

    monkeypatch.setattr(Fixed, "repair", spy)
    measured: list[np.ndarray[Any, Any]] = []

    def watched(model: ImageClassifier, data: Any, **options: Any) -> Any:
        measured.append(data.batch(np.arange(len(data)))[:, 0, 0, 0])
        return predict(model, data, **options)

    monkeypatch.setattr("gifthorse.auditing.mend.predict", watched)
    _, record = mend(judge(0.5), levels(101), Fixed(), held_back=0.3)
    assert len(measured) == 2
    np.testing.assert_array_equal(measured[0], measured[1])
    assert not set(seen[0]) & set(measured[0])
    assert len(seen[0]) + len(measured[0]) == 101
    assert len(measured[0]) == record.accuracy_before.total == 30


def test_the_cost_is_that_of_both_models() -> None:
    _, record = mend(judge(0.5), levels(40), Fixed())
    assert record.cost.forward_passes == 20 + 70 + 20
    assert record.cost.backward_passes == 60


def test_a_diverging_repair_is_refused() -> None:
    with pytest.raises(RepairRefusedError, match="loss is not finite"):
        mend(judge(0.5), levels(40), Fixed(fault="diverges"))
    with pytest.raises(RepairRefusedError, match="NaN"):
        mend(judge(0.5), levels(40), Fixed(fault="nan"))


@pytest.mark.parametrize("fault", ["in place", "itself"])
def test_a_plugin_that_works_in_place_is_found_out(fault: str) -> None:
    with pytest.raises(ModelError, match="instead of a copy"):
        mend(judge(0.5), levels(40), Fixed(fault=fault))


def test_an_absurd_learning_rate_is_refused() -> None:
    model, data = judge(0.5), levels(200)
    before = model.digest()
    result, record = mend(model, data, FineTuning(learning_rate=1e4, min_steps=3, epochs=1))
    assert result is None
    assert "allowed: 2 points" in record.reason
    assert record.repair.params["learning_rate"] == 1e4
    assert model.digest() == before


def test_the_same_seed_gives_the_same_model() -> None:
    plugin = FineTuning(epochs=1, min_steps=3)
    digests = [
        mend(judge(0.5), levels(80), plugin, allowed_drop=1.0, seed=seed)[1].repaired_digest
        for seed in (1, 1, 2)
    ]
    assert digests[0] == digests[1] != digests[2]


def test_unlearning_without_a_trigger_is_not_applicable() -> None:
    with pytest.raises(NotApplicableError, match="first run an audit"):
        mend(judge(0.5), levels(40), Unlearning(), [])


def with_labels(labels: list[int]) -> ArrayImages:
    return ArrayImages(
        name="few",
        pixels=np.zeros((len(labels), 1, 4, 4), dtype=np.uint8),
        labels=np.array(labels),
        class_names=("dark", "bright", "other"),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Broken:
    """Three pictures of the four are fine."""

    base: ArrayImages
    name: str = "broken"

    @property
    def labels(self) -> Any:
        return self.base.labels

    @property
    def class_names(self) -> tuple[str, ...]:
        return NAMES

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return (1, 4, 4)

    def __len__(self) -> int:
        return len(self.base)

    def batch(self, indices: Any) -> Any:
        x = self.base.batch(indices)
        x[indices == 2] = np.nan
        return x


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ([0, 0, 1], "class 'bright' has 1 trusted"),
        ([0, 0, 0, 0], "all 4 trusted pictures are of one class"),
        ([0, 0, 1, 1, 2, 2], r"labels in \[0, 2\]"),
    ],
)
def test_trusted_pictures_that_do_not_do_are_named(labels: list[int], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        mend(judge(0.5), with_labels(labels), Fixed())


def test_nan_and_misfits_are_named() -> None:
    with pytest.raises(DataError, match="trusted picture 2 holds NaN"):
        mend(judge(0.5), Broken(levels(8)), Fixed())
    wide = ArrayImages(
        name="wide",
        pixels=np.zeros((4, 1, 4, 6), dtype=np.uint8),
        labels=np.array([0, 0, 1, 1]),
        class_names=NAMES,
    )
    with pytest.raises(DataError, match="4×6"):
        mend(judge(0.5), wide, Fixed())


def test_two_of_every_class_are_enough() -> None:
    _, record = mend(judge(0.5), subset(levels(8), np.array([0, 1, 6, 7])), Fixed())
    assert record.accuracy_before.total == 2


@pytest.mark.parametrize("options", [{"allowed_drop": 1.5}, {"held_back": 0.0}])
def test_options_out_of_range(options: dict[str, float]) -> None:
    with pytest.raises(DataError, match="must be in"):
        mend(judge(0.5), levels(8), Fixed(), **options)  # type: ignore[arg-type]
