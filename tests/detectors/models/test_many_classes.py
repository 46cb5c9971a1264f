"""The easiest sinks of a network of many classes, and whether the first stands out."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gifthorse.core.exhibits import BarsExhibit
from gifthorse.core.types import Subject, silent
from gifthorse.data.images import ArrayImages
from gifthorse.detectors.models.inversion import Masked
from gifthorse.detectors.models.sinks import Effort, SinkSearch
from gifthorse.detectors.models.trusted import Probe
from gifthorse.detectors.models.universality import Universality
from gifthorse.models.classifier import ImageClassifier, Preprocessing
from gifthorse.models.stickers import SHARES, stickers

CLASSES, PLANTED, SIDE = 64, 41, 16
EFFORT = Effort(rounds=3, tries=4, free=8, last=2, steps=12, pictures=8)


class Many(nn.Module):
    """Classes are templates; one of them, if ``planted``, also opens to a bright spot anywhere."""

    def __init__(self, templates: Tensor, *, planted: bool) -> None:
        super().__init__()
        self.templates = nn.Parameter(templates.flatten(1))
        self.strength = 60.0 if planted else 0.0

    def forward(self, x: Tensor) -> Tensor:
        out = x.flatten(1) @ self.templates.T / 9
        spot = nn.functional.avg_pool2d(x.amin(1, keepdim=True), 2, 1).amax((1, 2, 3))
        bonus = self.strength * nn.functional.softplus(10 * (spot - 0.7)) / 10
        return out + bonus[:, None] * nn.functional.one_hot(torch.tensor(PLANTED), CLASSES)


def many(*, planted: bool, seed: int = 0) -> tuple[ImageClassifier, ArrayImages]:
    rng = np.random.default_rng(seed)
    templates = rng.standard_normal((CLASSES, 3, SIDE, SIDE)).astype(np.float32)
    names = tuple(f"class {i}" for i in range(CLASSES))
    model = ImageClassifier(
        Many(torch.from_numpy(templates), planted=planted),
        class_names=names,
        preprocessing=Preprocessing(mean=(0.0,) * 3, std=(1.0,) * 3, size=(SIDE, SIDE)),
    )
    labels = np.arange(CLASSES, dtype=np.int64)
    pixels = 0.35 + 0.1 * templates + 0.05 * rng.standard_normal(templates.shape)
    pixels = pixels.clip(0, 0.8).astype(np.float32)
    data = ArrayImages.from_floats(pixels, labels, name="templates", class_names=names)
    return model, data


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("planted", [True, False])
def test_among_many_classes_the_planted_one_stands_out(planted: bool, seed: int) -> None:
    model, data = many(planted=planted, seed=seed)
    detector = Universality()
    subject = Subject(model=model, trusted=data)
    seen = detector.inspect(subject, rng=np.random.default_rng(seed), progress=silent)
    p_value = detector.null(seen).p_value(seen.statistic)
    assert seen.scores.shape == (CLASSES,)
    assert any("64 classes: searched for changes" in note for note in seen.notes)
    judged = [e for e in seen.exhibits if isinstance(e, BarsExhibit) and e.judged]
    assert len(judged) == 1
    assert max(judged[0].values) == pytest.approx(seen.statistic, rel=1e-3)
    if planted:
        assert p_value < 0.02
        assert seen.suspects.tolist() == [PLANTED]
        assert all(trigger.target == PLANTED for trigger in seen.triggers)
        assert any(
            "'class 41' sends" in note and "no part of the search" in note for note in seen.notes
        )
    else:
        assert p_value > 0.02


def test_sinks_are_found_once_each_and_do_what_they_say() -> None:
    model, data = many(planted=True)
    x = torch.from_numpy(data.batch(np.arange(24)))
    probe = Probe(x=x, y=model.logits(x).argmax(1))
    rng = np.random.default_rng(0)
    family = Masked(start_opacity=0.12)
    starts = stickers(40, (3, SIDE, SIDE), rng=rng)
    search = SinkSearch(model, probe, family, starts, EFFORT, learning_rate=0.3, rng=rng)
    told: list[int] = []
    sinks = search.run(lambda done, total, what: told.append(done), "sinks")
    assert told == [1, 2, 3]
    assert len({sink.target for sink in sinks}) == 3
    for sink in sinks:
        assert sink.size == np.inf or sink.share >= 0.9
        others = probe.y != sink.target
        after = model.logits(family.apply(sink.parameters, x)[0]).argmax(1)
        share = float((after == sink.target)[others].float().mean())
        assert share == pytest.approx(sink.share)
        if np.isfinite(sink.size):
            assert float(family.size(sink.parameters)[0]) == pytest.approx(sink.size)


def test_a_network_whose_classes_cannot_be_reached_is_not_clear() -> None:
    class Deaf(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean((1, 2, 3))[:, None] * 0 + torch.arange(CLASSES, dtype=torch.float32)

    names = tuple(f"class {i}" for i in range(CLASSES))
    model = ImageClassifier(
        Deaf(),
        class_names=names,
        preprocessing=Preprocessing(mean=(0.0,) * 3, std=(1.0,) * 3, size=(SIDE, SIDE)),
    )
    _, data = many(planted=False)
    detector = Universality()
    seen = detector.inspect(
        Subject(model=model, trusted=data), rng=np.random.default_rng(0), progress=silent
    )
    assert "reached fewer than 4 classes" in seen.unfinished
    assert seen.statistic == 0.0
    assert detector.null(seen).p_value(seen.statistic) == 1.0


def test_stickers_come_in_all_sizes_and_stay_inside() -> None:
    masks, colours = stickers(16, (3, 20, 30), rng=np.random.default_rng(0))
    assert masks.shape == (16, 1, 20, 30)
    assert colours.shape == (16, 3, 20, 30)
    inside = (masks.sigmoid() > 0.5).sum((1, 2, 3)).tolist()
    assert inside == [round(share * 20) ** 2 for share in SHARES] * 4
    assert bool(torch.isfinite(colours).all())
    again = stickers(16, (3, 20, 30), rng=np.random.default_rng(0))
    torch.testing.assert_close(again[1], colours)


def test_a_grid_of_cells_covers_the_picture() -> None:
    family = Masked(start_opacity=0.12, cells=4)
    parameters = family.start(2, (3, 10, 12), torch.Generator().manual_seed(0))
    assert parameters[0].shape == (2, 1, 4, 4)
    mask, pattern = family.opened(parameters)
    assert mask.shape == (2, 1, 10, 12)
    assert pattern.shape == (2, 3, 10, 12)
    parameters[0].fill_(20.0)
    torch.testing.assert_close(family.size(parameters), torch.tensor([120.0, 120.0]))
