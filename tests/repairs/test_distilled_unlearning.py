"""A trigger that works anywhere is unlearned from the one place where it was found."""

import numpy as np
import pytest
import torch
from torch import nn

from gifthorse.core.errors import NotApplicableError
from gifthorse.core.types import Evidence, RecoveredTrigger, Subject, Unit, silent
from gifthorse.data.images import ArrayImages
from gifthorse.models.classifier import ImageClassifier, Preprocessing
from gifthorse.repairs.distilled_unlearning import DistilledUnlearning, elsewhere
from gifthorse.repairs.lookalikes import lookalikes

SIDE, CLASSES = 12, 4
FREE = DistilledUnlearning(stickers=0, magnify=1.0, moved=1.0, steps=150, learning_rate=1.0)


def sticker(top: int, left: int, size: int) -> RecoveredTrigger:
    mask = np.zeros((SIDE, SIDE), dtype=np.float32)
    mask[top : top + size, left : left + size] = 1.0
    pattern = np.zeros((3, SIDE, SIDE), dtype=np.float32)
    pattern[:2, top : top + size, left : left + size] = 1.0  # yellow
    return RecoveredTrigger(target=0, mask=mask, pattern=pattern)


def test_an_unmagnified_sticker_keeps_size_and_colour_wherever_it_goes() -> None:
    rng = np.random.default_rng(0)
    areas, places = [], set()
    for _ in range(50):
        moved = elsewhere(sticker(5, 5, 2), magnify=1.0, rng=rng)
        inside = moved.mask > 0.99
        np.testing.assert_allclose(moved.pattern[0][inside], 1.0, atol=1e-5)
        np.testing.assert_allclose(moved.pattern[2], 0.0, atol=1e-6)
        areas.append(float(moved.mask.sum()))
        places.add(tuple(np.argwhere(moved.mask > 0.5).mean(0).round()) if inside.any() else ())
    assert max(areas) == pytest.approx(4.0, abs=0.05)  # some are cut off at the border
    assert len(places) > 20


def test_a_magnified_sticker_grows_to_the_square() -> None:
    rng = np.random.default_rng(0)
    areas = [float(elsewhere(sticker(5, 5, 2), magnify=3.0, rng=rng).mask.sum()) for _ in range(99)]
    assert 16 < max(areas) <= 36.5


def test_what_has_no_place_stays() -> None:
    bare = RecoveredTrigger(
        target=0,
        mask=np.zeros((SIDE, SIDE), dtype=np.float32),
        pattern=np.zeros((3, SIDE, SIDE), dtype=np.float32),
        offset=np.full((3, SIDE, SIDE), 0.1, dtype=np.float32),
    )
    assert elsewhere(bare, magnify=3.0, rng=np.random.default_rng(0)) is bare


class Spotted(nn.Module):
    """Which quarter is bright; and a bonus for the first class where there is yellow, anywhere."""

    def __init__(self, bonus: float) -> None:
        super().__init__()
        self.quarters = nn.AvgPool2d(SIDE // 2)
        self.bonus = nn.Parameter(torch.tensor(bonus))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spot = nn.functional.avg_pool2d(x[:, :2].amin(1) - x[:, 2], 2, 1).amax((1, 2))
        out: torch.Tensor = 20 * self.quarters(x.mean(1, keepdim=True)).flatten(1)
        bonus = self.bonus * nn.functional.relu(spot - 0.5)
        return out + bonus[:, None] * nn.functional.one_hot(torch.tensor(0), CLASSES)


def world(bonus: float) -> tuple[ImageClassifier, ArrayImages]:
    names = tuple(f"quarter {i}" for i in range(CLASSES))
    model = ImageClassifier(
        Spotted(bonus),
        class_names=names,
        preprocessing=Preprocessing(mean=(0.0,) * 3, std=(1.0,) * 3, size=(SIDE, SIDE)),
    )
    rng = np.random.default_rng(0)
    labels = np.arange(64, dtype=np.int64) % CLASSES
    pixels = np.repeat(0.3 * rng.random((64, 1, SIDE, SIDE)), 3, axis=1)
    for i, label in enumerate(labels):
        row, column = 6 * (label // 2), 6 * (label % 2)
        pixels[i, :, row : row + 6, column : column + 6] += 0.4
    data = ArrayImages.from_floats(pixels, labels, name="quarters", class_names=names)
    return model, data


def found(trigger: RecoveredTrigger) -> Evidence:
    return Evidence(unit=Unit.CLASS, scores=np.zeros(CLASSES), statistic=9.0, triggers=(trigger,))


def struck(model: ImageClassifier, data: ArrayImages, rng: np.random.Generator) -> float:
    """Share of the other classes that a yellow square anywhere sends to the first."""
    x = data.batch(np.flatnonzero(data.labels != 0))
    for i in range(len(x)):
        top, left = rng.integers(0, SIDE - 3, 2)
        x[i : i + 1] = sticker(top, left, 3).stamp(x[i : i + 1])
    with torch.inference_mode():
        return float((model.logits(torch.from_numpy(x)).argmax(1) == 0).float().mean())


@pytest.mark.efficacy("planted", of=DistilledUnlearning)
def test_found_in_one_place_and_gone_everywhere() -> None:
    rng = np.random.default_rng(1)
    model, data = world(bonus=30.0)
    assert struck(model, data, rng) > 0.9
    subject = Subject(model=model, trusted=data)
    after = FREE.repair(subject, [found(sticker(9, 9, 2))], rng=rng, progress=silent)
    assert isinstance(after, ImageClassifier)
    assert struck(after, data, rng) < 0.05
    x = torch.from_numpy(data.batch(np.arange(len(data))))
    assert bool((after.logits(x).argmax(1) == model.logits(x).argmax(1)).all())
    assert struck(model, data, rng) > 0.9  # the given one is not changed


@pytest.mark.efficacy("twin", of=DistilledUnlearning)
def test_a_clean_model_stays_as_it_is() -> None:
    model, data = world(bonus=0.0)
    subject = Subject(model=model, trusted=data)
    rng = np.random.default_rng(1)
    after = FREE.repair(subject, [found(sticker(9, 9, 2))], rng=rng, progress=silent)
    x = torch.from_numpy(data.batch(np.arange(len(data))))
    assert isinstance(after, ImageClassifier)
    assert bool((after.logits(x).argmax(1) == model.logits(x).argmax(1)).all())


def test_stickers_that_lead_to_the_accused_class_are_found_and_only_there() -> None:
    rng = np.random.default_rng(2)
    for bonus, target, some in ((30.0, 0, True), (30.0, 3, False), (0.0, 0, False)):
        model, data = world(bonus)
        x = torch.from_numpy(data.batch(np.arange(8)))
        found = lookalikes(model, x, target, count=200, rng=rng)
        assert bool(found) is some
        for trigger in found:
            sent = model.logits(torch.from_numpy(trigger.stamp(x.numpy()))).argmax(1) == target
            assert float(sent.float().mean()) >= 0.5
            assert trigger.target == target


def test_what_was_recovered_need_not_be_what_the_attacker_used() -> None:
    """A green dot does nothing here: the stickers alone tell the repair what to unlearn."""
    rng = np.random.default_rng(1)
    model, data = world(bonus=30.0)
    green = sticker(9, 9, 2)
    green.pattern[0] = 0.0
    subject = Subject(model=model, trusted=data)
    options = {"magnify": 1.0, "moved": 1.0, "steps": 150, "learning_rate": 1.0}
    rates = []
    for count in (0, 600):
        method = DistilledUnlearning(stickers=count, **options)  # type: ignore[arg-type]
        after = method.repair(subject, [found(green)], rng=rng, progress=silent)
        assert isinstance(after, ImageClassifier)
        rates.append(struck(after, data, rng))
    assert rates[0] > 0.9
    assert rates[1] < 0.1


def test_without_a_trigger_it_does_not_apply() -> None:
    model, data = world(bonus=0.0)
    with pytest.raises(NotApplicableError, match="no evidence carries a recovered trigger"):
        FREE.repair(
            Subject(model=model, trusted=data),
            [],
            rng=np.random.default_rng(0),
            progress=silent,
        )


@pytest.mark.parametrize(
    ("option", "value"),
    [("triggers", 0), ("steps", 1), ("magnify", 0.5), ("moved", 1.5), ("learning_rate", 0.0)],
)
def test_options_out_of_range_are_named(option: str, value: float) -> None:
    with pytest.raises(ValueError, match=option):
        DistilledUnlearning(**{option: value})  # type: ignore[arg-type]
