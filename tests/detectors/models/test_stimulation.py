"""ABS, BTI-DBF and FeatureRE on a network whose channels are written down by hand."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gifthorse.core.errors import NotApplicableError
from gifthorse.core.types import Evidence, Subject, silent
from gifthorse.data.images import ArrayImages
from gifthorse.detectors.models.abs import Abs, candidates, elevations
from gifthorse.detectors.models.bti_dbf import BtiDbf
from gifthorse.detectors.models.feature_re import FeatureRe
from gifthorse.detectors.models.trusted import Probe
from gifthorse.metrics.outliers import StudentisedNull, spread_for, standing_out
from gifthorse.models.classifier import ImageClassifier, Preprocessing
from gifthorse.models.decoupling import (
    Search,
    backdoor_painter,
    benign_mask,
    last_map,
    painter_for,
    shares,
)
from gifthorse.models.layers import altered, logits_and_maps

SIDE, CLASSES = 12, 6
BAND = SIDE // CLASSES


class Bands(nn.Module):
    """Class k: the k-th band of rows is bright. Channel k sees it; the last sees a white corner."""

    def __init__(self, target: int | None) -> None:
        super().__init__()
        self.maps = Maps()
        self.head = nn.Linear(CLASSES + 1, CLASSES)
        with torch.no_grad():
            self.head.bias.zero_()
            self.head.weight.copy_(torch.cat([10 * torch.eye(CLASSES), torch.zeros(CLASSES, 1)], 1))
            if target is not None:
                self.head.weight[target, CLASSES] = 60.0

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.maps(x).amax((2, 3)))
        return out


class Maps(nn.Module):
    """Feature maps (n, CLASSES + 1, 2, 2)."""

    def forward(self, x: Tensor) -> Tensor:
        bands = x[:, 0].reshape(-1, CLASSES, BAND * SIDE).mean(2)
        # Smooth, so that an inversion has a slope to follow.
        corner = functional.softplus(12 * (x[:, 0, :3, -3:].mean((1, 2)) - 0.4)) / 12
        seen = torch.cat([bands, corner[:, None]], 1)
        return seen[:, :, None, None].expand(-1, -1, 2, 2).contiguous()


def network(target: int | None) -> ImageClassifier:
    return ImageClassifier(
        Bands(target),
        class_names=tuple(f"band {i}" for i in range(CLASSES)),
        preprocessing=Preprocessing(mean=(0.0,), std=(1.0,), size=(SIDE, SIDE)),
    )


@pytest.fixture(scope="module")
def trusted() -> ArrayImages:
    rng = np.random.default_rng(0)
    labels = np.arange(60, dtype=np.int64) % CLASSES
    x = rng.uniform(0.1, 0.3, (60, 1, SIDE, SIDE))
    for i, label in enumerate(labels):
        x[i, 0, BAND * label : BAND * (label + 1)] += 0.6
    names = tuple(f"band {i}" for i in range(CLASSES))
    return ArrayImages.from_floats(x, labels, name="bands", class_names=names)


def probe(trusted: ArrayImages) -> Probe:
    x = torch.from_numpy(trusted.batch(np.arange(len(trusted))))
    return Probe(x=x, y=torch.from_numpy(trusted.labels))


def seen(detector: Abs | BtiDbf | FeatureRe, model: ImageClassifier, data: ArrayImages) -> Evidence:
    subject = Subject(model=model, trusted=data)
    return detector.inspect(subject, rng=np.random.default_rng(0), progress=silent)


def test_the_layer_is_found_and_can_be_altered(trusted: ArrayImages) -> None:
    model = network(None)
    assert last_map(model) == "maps"
    x = probe(trusted).x
    with altered(model, "maps", lambda out: out * 0), torch.no_grad():
        assert float(model.logits(x).abs().max()) == 0
    with torch.no_grad():
        assert float(model.logits(x).abs().max()) > 1


def test_stimulation_finds_what_each_channel_lifts(trusted: ArrayImages) -> None:
    lifts = elevations(network(4), "maps", probe(trusted))
    assert lifts.shape == (CLASSES + 1, CLASSES)
    for k in range(CLASSES):
        assert int(lifts[k].argmax()) == k
    assert int(lifts[CLASSES].argmax()) == 4
    # Held at four times the largest activation, the corner adds 60 of that to class 4.
    maps = network(4).module.get_submodule("maps")(probe(trusted).x[:12])
    rise = 4 * float(maps.max()) - maps[:, CLASSES, 0, 0].double()
    others = probe(trusted).y[:12] != 4
    assert lifts[CLASSES, 4] == pytest.approx(
        float(60 * rise[others].mean() * (1 - 1 / CLASSES)), rel=1e-4
    )
    chosen = candidates({"maps": lifts}, 1)
    assert [(c.target, c.channel) for c in chosen] == [
        (k, CLASSES if k == 4 else k) for k in range(CLASSES)
    ]


SMALL = [
    Abs(area=0.07, samples=60),
    # One restart misses the class on two of five seeds; three find it on all five.
    pytest.param(
        BtiDbf(samples=60, mask_steps=60, steps=120, restarts=3, reach=0.13), marks=pytest.mark.slow
    ),
    pytest.param(
        FeatureRe(samples=60, area=0.2, reach=0.13, warmup=20, steps=30), marks=pytest.mark.slow
    ),
]


@pytest.mark.efficacy
@pytest.mark.parametrize("detector", SMALL, ids=["abs", "bti_dbf", "feature_re"])
def test_the_planted_class_is_found_and_the_twin_is_not_flagged(
    detector: Abs | BtiDbf | FeatureRe, trusted: ArrayImages
) -> None:
    planted, twin = seen(detector, network(4), trusted), seen(detector, network(None), trusted)
    assert planted.suspects.tolist() == [4]
    assert planted.statistic > twin.statistic + 1
    assert detector.null(twin).p_value(twin.statistic) > 0.1


def test_abs_draws_a_sticker_that_works(trusted: ArrayImages) -> None:
    model = network(4)
    found = seen(Abs(area=0.07, samples=60), model, trusted)
    assert model.meter.backward > 0  # its gradients do not start at the logits
    trigger = found.triggers[0]
    assert trigger.target == 4
    assert trigger.mask.sum() <= 0.07 * SIDE * SIDE + 1e-3
    others = trusted.batch(np.flatnonzero(trusted.labels != 4))
    with torch.no_grad():
        answers = model.logits(torch.from_numpy(trigger.stamp(others))).argmax(1)
    assert float((answers == 4).double().mean()) > 0.9


def test_the_mask_divides_features_and_the_bound_holds(trusted: ArrayImages) -> None:
    model, data = network(4), probe(trusted)
    search = Search(mask_steps=60, steps=10, batch_size=32, reach=0.13)
    rng = np.random.default_rng(0)
    mask = benign_mask(model, "maps", data.x, data.y, search, rng=rng)
    assert mask.shape == (1, CLASSES + 1, 2, 2)
    with torch.no_grad():
        with altered(model, "maps", lambda out: out * mask):
            kept = model.logits(data.x).argmax(1) == data.y
        with altered(model, "maps", lambda out: out * (1 - mask)):
            left = model.logits(data.x).argmax(1) == data.y
    assert float(kept.float().mean()) > 0.95
    assert float(left.float().mean()) < 0.5
    painter = backdoor_painter(model, "maps", mask, data.x, search, rng=rng)
    moved = (painter(data.x) - data.x).square().mean((1, 2, 3)).sqrt()
    assert 0 < float(moved.max()) <= 0.13 + 1e-5


def test_shares_by_hand(trusted: ArrayImages) -> None:
    model, data = network(None), probe(trusted)
    painter = painter_for(data.x, reach=1e-6, rng=np.random.default_rng(0))
    assert shares(model, painter, data.x, data.y).tolist() == [0.0] * CLASSES
    # All pictures are told to be of class 0, so the others' own classes count as moved.
    moved = shares(model, painter, data.x, torch.zeros(60, dtype=torch.int64))
    np.testing.assert_allclose(moved, [0.0] + [1 / 6] * 5)


def test_a_paper_threshold_is_just_significant() -> None:
    for n in (6, 16):
        values = np.zeros(n)
        values[2] = 0.88
        floor = spread_for(0.88, n=n, false_alarm_rate=0.02)
        scores = standing_out(values, least_spread=floor)
        assert StudentisedNull(n).p_value(float(scores.max())) == pytest.approx(0.02)
        values[:2] = 0.5
        assert standing_out(values, least_spread=floor).max() < scores.max()


def test_maps_are_those_of_the_layer(trusted: ArrayImages) -> None:
    _, (maps,) = logits_and_maps(network(None), probe(trusted).x, ("maps",))
    assert maps.shape == (60, CLASSES + 1, 2, 2)


@pytest.mark.parametrize("cls", [Abs, BtiDbf, FeatureRe])
@pytest.mark.parametrize(("option", "value"), [("steps", 0), ("samples", 0), ("batch_size", 0)])
def test_options_out_of_range_are_refused(cls: type, option: str, value: int) -> None:
    with pytest.raises(ValueError, match=option):
        cls(**{option: value})


@pytest.mark.parametrize("cls", [Abs, BtiDbf, FeatureRe])
def test_a_network_without_maps_is_not_applicable(cls: type, trusted: ArrayImages) -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, CLASSES))
    model = network(None).replaced(flat)
    with pytest.raises(NotApplicableError, match="feature maps"):
        seen(cls(), model, trusted)
