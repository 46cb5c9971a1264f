"""MM-BD, linear weights and channel Lipschitzness against numbers worked out by hand."""

import numpy as np
import pytest
import torch
from tests.detectors.models.conftest import Make

from gifthorse.core.errors import NotApplicableError
from gifthorse.core.types import Subject, silent
from gifthorse.detectors.models.channel_lipschitz import ChannelLipschitz, layer_p_values
from gifthorse.detectors.models.linear_weights import LinearWeights
from gifthorse.detectors.models.mm_bd import MmBd, margin
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.lipschitz import pairs_of
from gifthorse.models.networks import small_network


def network() -> ImageClassifier:
    names = tuple("abcdefgh")
    return small_network(image_shape=(1, 12, 12), class_names=names, seed=0, width=8)


def test_a_margin_by_hand() -> None:
    logits = torch.tensor([[1.0, 4.0, 2.0], [5.0, 1.0, 0.0]])
    assert margin(logits, torch.tensor([1, 2])).tolist() == [2.0, -5.0]


@pytest.mark.efficacy(of=MmBd)
def test_mm_bd_points_to_the_planted_class_and_not_in_the_twin(make: Make) -> None:
    rng = np.random.default_rng
    detector = MmBd(steps=60, samples=4)
    planted = detector.inspect(Subject(model=make(5)), rng=rng(0), progress=silent)
    twin = detector.inspect(Subject(model=make(None)), rng=rng(0), progress=silent)
    assert planted.suspects.tolist() == [5]
    assert detector.null(planted).p_value(planted.statistic) < 0.01
    assert detector.null(twin).p_value(twin.statistic) > 0.05


@pytest.mark.efficacy(of=LinearWeights)
def test_a_heavy_row_is_found_and_none_in_the_twin() -> None:
    model = network()
    detector = LinearWeights()
    clean = detector.inspect(Subject(model=model), rng=np.random.default_rng(0), progress=silent)
    assert detector.null(clean).p_value(clean.statistic) > 0.05
    assert model.head is not None
    with torch.no_grad():
        model.head.weight[3] += 0.2
    found = detector.inspect(Subject(model=model), rng=np.random.default_rng(0), progress=silent)
    assert found.suspects.tolist() == [3]
    assert detector.null(found).p_value(found.statistic) < 0.01
    means = model.head.weight.detach().double().mean(1).numpy()
    others = np.delete(means, 3)
    by_hand = (means[3] - others.mean()) / (others.std(ddof=1) * np.sqrt(8 / 7))
    assert found.statistic == pytest.approx(by_hand)


@pytest.mark.efficacy(of=ChannelLipschitz)
def test_a_loud_channel_is_found_and_none_in_the_twin() -> None:
    model = network()
    detector = ChannelLipschitz()
    clean = detector.inspect(Subject(model=model), rng=np.random.default_rng(0), progress=silent)
    assert detector.null(clean).p_value(clean.statistic) > 0.05
    with torch.no_grad():
        last = model.module.get_submodule(pairs_of(model)[-1].normalisation)
        last.get_parameter("weight")[2] *= 20
    found = detector.inspect(Subject(model=model), rng=np.random.default_rng(0), progress=silent)
    assert detector.null(found).p_value(found.statistic) < 1e-3


def test_p_values_of_a_layer_are_small_only_upwards() -> None:
    bounds = np.exp(np.array([0.0, 0.1, -0.1, 0.05, -0.05, 0.02, 3.0, -0.3]))
    p = layer_p_values(bounds)
    assert int(p.argmin()) == 6
    assert p[7] > 0.5


def test_three_classes_have_no_control_group() -> None:
    model = small_network(image_shape=(1, 8, 8), class_names=("a", "b", "c"), seed=0, width=4)
    for detector in (MmBd(), LinearWeights()):
        with pytest.raises(NotApplicableError, match="at least 4"):
            detector.inspect(Subject(model=model), rng=np.random.default_rng(0), progress=silent)
