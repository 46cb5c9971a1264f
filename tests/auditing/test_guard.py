"""The guard, before a classifier whose backdoor is written down by hand, and before its twin."""

import numpy as np
import pytest
import torch
from torch import nn

import gifthorse
from gifthorse.auditing.guard import Guard, guard
from gifthorse.core.errors import DataError, NotApplicableError, SpecError
from gifthorse.data.images import ArrayImages
from gifthorse.models.classifier import ImageClassifier, Preprocessing

CLASSES = ("left", "right", "top", "bottom")


class Halves(nn.Module):
    """Compares the light of four halves; a bright corner pixel lifts class 0 beyond all others."""

    def __init__(self, lift: float) -> None:
        super().__init__()
        self.register_buffer("lift", torch.tensor(lift))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x[:, 0]
        h, w = x[:, :, :4].mean((1, 2)), x[:, :, 4:].mean((1, 2))
        t, b = x[:, :4].mean((1, 2)), x[:, 4:].mean((1, 2))
        logits = 20 * torch.stack([h, w, t, b], dim=1)
        alarm = (x[:, 7, 7] > 0.95).float() * self.get_buffer("lift")
        return logits + torch.nn.functional.pad(alarm[:, None], (0, 3))


def halves(count: int, seed: int) -> ArrayImages:
    rng = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int64) % 4
    x = rng.random((count, 1, 8, 8)) * 0.3
    for i, label in enumerate(labels):
        part = [np.s_[:, :4], np.s_[:, 4:], np.s_[:4], np.s_[4:]][label]
        x[i, 0][part] += 0.2
    return ArrayImages.from_floats(x, labels, name="halves", class_names=CLASSES)


def model(lift: float = 50.0) -> ImageClassifier:
    return ImageClassifier(
        Halves(lift),
        class_names=CLASSES,
        preprocessing=Preprocessing(mean=(0.0,), std=(1.0,), size=(8, 8)),
    )


def pictures(count: int, *, stamped: bool) -> torch.Tensor:
    x = torch.from_numpy(halves(count, seed=9).batch(np.arange(count)))
    if stamped:
        x[:, :, 7, 7] = 1.0
    return x


def guarded(lift: float = 50.0, action: str = "flag") -> Guard:
    # Blends weigh the overlay less, so that it does not light the corner by itself.
    detector = "strip:overlays=20,overlay_weight=0.5"
    return guard(model(lift), trusted=halves(200, seed=1), detector=detector, action=action)


def test_stamped_inputs_are_flagged_and_clean_ones_pass() -> None:
    assert gifthorse.guard is guard
    watch = guarded()
    clean, stamped = watch(pictures(100, stamped=False)), watch(pictures(100, stamped=True))
    assert float(stamped.flagged.float().mean()) > 0.95
    assert float(clean.flagged.float().mean()) < 0.05
    assert torch.equal(stamped.scores > watch.threshold.value, stamped.flagged)
    torch.testing.assert_close(clean.logits, model().logits(pictures(100, stamped=False)))


def test_before_the_clean_twin_the_same_pixel_flags_nothing() -> None:
    watch = guarded(lift=0.0)
    assert float(watch(pictures(100, stamped=True)).flagged.float().mean()) < 0.05


def test_the_stated_rate_and_cost_hold() -> None:
    watch = guarded()
    assert watch.threshold.false_alarm_rate <= 0.01
    assert watch.extra_forward_passes == 21
    meter = watch._classifier.meter
    before = meter.forward
    watch(pictures(10, stamped=False))
    assert meter.forward - before <= 10 * (1 + watch.extra_forward_passes)


def test_refused_inputs_have_no_answer() -> None:
    answer = guarded(action="refuse")(pictures(50, stamped=True))
    assert torch.isnan(answer.logits[answer.flagged]).all()
    assert torch.isfinite(answer.logits[~answer.flagged]).all()
    assert answer.flagged.any()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"detector": "universality"}, SpecError, "single inputs"),
        ({"detector": "nothing"}, SpecError, "nothing"),
        ({"action": "explode"}, SpecError, "flag, refuse"),
        ({"false_alarm_rate": 0.0}, DataError, "false-alarm rate"),
        ({"false_alarm_rate": 0.001}, DataError, "give at least 999"),
        ({"trusted": halves(8, seed=1)}, NotApplicableError, "at least 20"),
    ],
)
def test_what_cannot_be_is_refused(
    options: dict[str, object], error: type[Exception], words: str
) -> None:
    given: dict[str, object] = {"trusted": halves(200, seed=1)} | options
    with pytest.raises(error, match=words):
        guard(model(), **given)  # type: ignore[call-overload]


@pytest.mark.parametrize("value", [float("nan"), -0.1, 1.1])
def test_hostile_pixels_are_refused_not_passed(value: float) -> None:
    x = pictures(4, stamped=False)
    x[0, 0, 0, 0] = value
    with pytest.raises(DataError, match=r"\[0, 1\]"):
        guarded()(x)
    with pytest.raises(DataError, match="expected"):
        guarded()(x[0])
