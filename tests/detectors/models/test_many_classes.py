"""Screening of many classes, and the comparison with controls drawn at random."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gifthorse.core.types import Subject, silent
from gifthorse.data.images import ArrayImages
from gifthorse.detectors.models.inversion import Masked
from gifthorse.detectors.models.ratios import per_picture_sizes
from gifthorse.detectors.models.screening import Screening, shortlist
from gifthorse.detectors.models.trusted import Probe
from gifthorse.detectors.models.universality import Universality
from gifthorse.metrics.outliers import ControlNull, control_residuals
from gifthorse.models.classifier import ImageClassifier, Preprocessing

CLASSES, PLANTED = 64, 41


class Many(nn.Module):
    """Classes are templates; one of them, if ``planted``, also opens to a bright corner."""

    def __init__(self, templates: Tensor, *, planted: bool) -> None:
        super().__init__()
        self.templates = nn.Parameter(templates.flatten(1))
        self.strength = 60.0 if planted else 0.0

    def forward(self, x: Tensor) -> Tensor:
        out = x.flatten(1) @ self.templates.T / 6
        corner = x[:, :, :2, :2].mean((1, 2, 3))
        bonus = self.strength * nn.functional.softplus(10 * (corner - 0.7)) / 10
        return out + bonus[:, None] * nn.functional.one_hot(torch.tensor(PLANTED), CLASSES)


def many(*, planted: bool) -> tuple[ImageClassifier, ArrayImages]:
    rng = np.random.default_rng(0)
    templates = rng.standard_normal((CLASSES, 3, 8, 8)).astype(np.float32)
    names = tuple(f"class {i}" for i in range(CLASSES))
    model = ImageClassifier(
        Many(torch.from_numpy(templates), planted=planted),
        class_names=names,
        preprocessing=Preprocessing(mean=(0.0,) * 3, std=(1.0,) * 3, size=(8, 8)),
    )
    labels = np.arange(CLASSES, dtype=np.int64)
    pixels = 0.35 + 0.1 * templates + 0.1 * rng.standard_normal(templates.shape)
    pixels = pixels.clip(0, 1).astype(np.float32)
    data = ArrayImages.from_floats(pixels, labels, name="templates", class_names=names)
    return model, data


def test_screening_keeps_the_class_that_one_change_reaches() -> None:
    model, data = many(planted=True)
    x = torch.from_numpy(data.batch(np.arange(40)))
    probe = Probe(x=x, y=model.logits(x).argmax(1))
    for seed in range(3):
        kept = shortlist(
            model,
            probe,
            Masked(start_opacity=0.12),
            Screening(first_weight=1e-2),
            lambda some: per_picture_sizes(model, probe, "masked", some),
            rng=np.random.default_rng(seed),
            generator=torch.Generator().manual_seed(seed),
            progress=silent,
        )
        assert PLANTED in kept
        assert len(np.unique(kept)) == 8


@pytest.mark.parametrize("planted", [True, False])
def test_among_many_classes_the_planted_one_stands_out(planted: bool) -> None:
    model, data = many(planted=planted)
    detector = Universality()
    subject = Subject(model=model, trusted=data)
    seen = detector.inspect(subject, rng=np.random.default_rng(1), progress=silent)
    p_value = detector.null(seen).p_value(seen.statistic)
    assert seen.scores.shape == (CLASSES,)
    assert np.isfinite(seen.scores).all()
    assert any("of 64 classes were searched in full" in note for note in seen.notes)
    if planted:
        assert p_value < 0.01
        assert seen.suspects.tolist() == [PLANTED]
        assert all(trigger.target == PLANTED for trigger in seen.triggers)
    else:
        assert p_value > 0.02


def test_a_grid_of_cells_covers_the_picture() -> None:
    family = Masked(start_opacity=0.12, cells=4)
    parameters = family.start(2, (3, 10, 12), torch.Generator().manual_seed(0))
    assert parameters[0].shape == (2, 1, 4, 4)
    mask, pattern = family.opened(parameters)
    assert mask.shape == (2, 1, 10, 12)
    assert pattern.shape == (2, 3, 10, 12)
    parameters[0].fill_(20.0)
    torch.testing.assert_close(family.size(parameters), torch.tensor([120.0, 120.0]))


def test_control_residuals_worked_out_by_hand() -> None:
    values = np.array([1.0, 2.0, 3.0, 4.0, 10.0])
    controls = np.array([True, True, True, True, False])
    residuals = control_residuals(values, controls)
    # Four controls: mean 2.5, standard deviation sqrt(5/3); prediction error × sqrt(1 + 1/4).
    assert residuals[4] == pytest.approx(7.5 / np.sqrt(5 / 3 * 5 / 4))
    # The control 4.0 against 1, 2, 3: mean 2, standard deviation 1.
    assert residuals[3] == pytest.approx(2 / np.sqrt(4 / 3))
    with pytest.raises(ValueError, match="at least 4"):
        control_residuals(values, np.array([True, True, True, False, False]))


def test_looking_only_at_the_largest_of_many_raises_no_false_alarms() -> None:
    # The harshest screening there is: it always hands over the very largest of 1,000 values.
    rng = np.random.default_rng(3)
    null = ControlNull(n=1000, tests=1, controls=24)
    alarms = 0
    for _ in range(2000):
        values = rng.standard_normal(1000)
        chosen = np.append(values[:24], values.max())
        residuals = control_residuals(chosen, np.arange(25) < 24)
        alarms += null.p_value(float(residuals.max())) <= 0.05
    assert alarms <= 2000 * 0.05 + 3 * np.sqrt(2000 * 0.05 * 0.95)
    threshold = null.threshold(0.05)
    assert null.p_value(threshold.value) == pytest.approx(0.05)
