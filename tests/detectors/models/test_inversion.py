"""The parts of trigger inversion, by hand."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from gifthorse.core.types import Subject
from gifthorse.data.images import ArrayImages
from gifthorse.detectors.models import inversion
from gifthorse.detectors.models.inversion import Additive, Batches, Masked, Race
from gifthorse.detectors.models.ratios import per_picture_sizes
from gifthorse.detectors.models.trusted import Probe, probe_of
from gifthorse.models.classifier import ImageClassifier, Preprocessing

Make = Callable[..., ImageClassifier]


def affine(weight: list[list[float]], bias: list[float]) -> ImageClassifier:
    """Logits = weight · (two pixels) + bias."""
    layer = nn.Linear(2, len(bias))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
        layer.bias.copy_(torch.tensor(bias))
    return ImageClassifier(
        nn.Sequential(nn.Flatten(), layer),
        class_names=tuple(map(str, range(len(bias)))),
        preprocessing=Preprocessing(mean=(0.0,), std=(1.0,), size=(1, 2)),
    )


def test_additive_perturbations_are_clipped_and_measured_by_their_length() -> None:
    delta = torch.tensor([[[[0.3, -0.4]]], [[[1.0, 0.0]]]])
    x = torch.tensor([[[[0.9, 0.2]]]])
    family = Additive()
    expected = torch.tensor([[[[[1.0, 0.0]]]], [[[[1.0, 0.2]]]]])
    torch.testing.assert_close(family.apply([delta], x), expected)
    torch.testing.assert_close(family.size([delta]), torch.tensor([0.5, 1.0]))


def test_masked_perturbations_blend_and_are_measured_by_their_area() -> None:
    level = torch.tensor([0.25, 0.5]).logit().view(1, 1, 1, 2)
    colour = torch.tensor([0.8, 0.2]).logit().view(1, 1, 1, 2)
    x = torch.tensor([[[[0.4, 0.6]]]])
    family = Masked(start_opacity=0.5)
    expected = torch.tensor([[[[[0.4 * 0.75 + 0.8 * 0.25, 0.6 * 0.5 + 0.2 * 0.5]]]]])
    torch.testing.assert_close(family.apply([level, colour], x), expected)
    torch.testing.assert_close(family.size([level, colour]), torch.tensor([0.75]))


def test_masks_start_at_their_opacity() -> None:
    family = Masked(start_opacity=0.12)
    parameters = family.start(3, (3, 20, 20), torch.Generator().manual_seed(0))
    assert [tuple(p.shape) for p in parameters] == [(3, 1, 20, 20), (3, 3, 20, 20)]
    torch.testing.assert_close(
        family.size(parameters), torch.full((3,), 0.12 * 400), rtol=0.02, atol=0
    )


def test_success_leaves_out_pictures_of_the_class_itself() -> None:
    # Class 0 wherever the first pixel is larger, else class 1; nothing is ever class 2 or 3.
    model = affine([[1, 0], [0, 1], [0, 0], [0, 0]], [0, 0, -9, -9])
    x = torch.tensor([[0.9, 0.1], [0.8, 0.1], [0.1, 0.9]]).view(3, 1, 1, 2)
    race = Race(
        model,
        Probe(x=x, y=torch.tensor([0, 0, 1])),
        Additive(),
        learning_rate=0.1,
        generator=torch.Generator().manual_seed(0),
    )
    with torch.no_grad():
        for parameter in race.parameters:
            parameter.zero_()
        race.parameters[0][1] = torch.tensor([-0.75, 0.0]).view(1, 1, 2)
    hits, sizes = race.success()
    # Towards 1: 0.9 → 0.15 stays above 0.1, 0.8 → 0.05 does not; the third is of class 1 already.
    torch.testing.assert_close(hits, torch.tensor([0.0, 0.5, 0.0, 0.0]))
    torch.testing.assert_close(sizes, torch.tensor([0.0, 0.75, 0.0, 0.0]))


def test_classes_do_not_depend_on_how_many_are_optimised_at_once(
    make: Make, trusted: ArrayImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = []
    for at_once in (1024, 60):
        monkeypatch.setattr(inversion, "IMAGES_AT_ONCE", at_once)
        subject = Subject(model=make(4), trusted=trusted)
        model, probe = probe_of(subject, samples=24, rng=np.random.default_rng(0))
        race = Race(
            model,
            probe,
            Masked(start_opacity=0.5),
            learning_rate=0.1,
            generator=torch.Generator().manual_seed(0),
        )
        for _ in range(3):
            race.step(np.arange(24), torch.full((8,), 0.01))
        results.append([p.detach().clone() for p in race.parameters])
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)


def test_per_picture_sizes_of_an_affine_model_are_distances() -> None:
    # z0 − z1 = 3a + 4b − 1 for pixels (a, b): at (0.6, 0.3) it is 2, and its slope has length 5.
    model = affine([[3, 4], [0, 0], [0, 4], [3, 0]], [-1, 0, -9, -9])
    x = torch.tensor([0.6, 0.3]).view(1, 1, 1, 2).repeat(3, 1, 1, 1)
    y = torch.tensor([0, 0, 1])
    additive = per_picture_sizes(model, Probe(x=x, y=y), "additive")
    assert additive[1] == pytest.approx(2 / 5)
    # z0 − z2 = 3a + 8 = 9.8 with slope (3, 0).
    assert additive[2] == pytest.approx(9.8 / 3, rel=1e-5)
    # Masked: covering a with black gains 3 · 0.6 = 1.8, b another 4 · 0.3 = 1.2; 2 are needed:
    # all of the first pixel and (2 − 1.8) / 1.2 of the second.
    masked = per_picture_sizes(model, Probe(x=x, y=y), "masked")
    assert masked[1] == pytest.approx(1 + 0.2 / 1.2, rel=1e-5)


def test_batches_show_every_picture_once_a_round() -> None:
    batches = Batches(10, 5, np.random.default_rng(0))
    for _ in range(3):
        assert sorted(np.concatenate([batches.draw(), batches.draw()])) == list(range(10))


def test_batches_never_repeat_a_picture_within_one() -> None:
    batches = Batches(7, 4, np.random.default_rng(0))
    assert all(len(set(batches.draw())) == 4 for _ in range(10))
    assert len(Batches(3, 40, np.random.default_rng(0)).draw()) == 3


def test_the_probe_is_even_over_classes_and_knows_the_models_view(
    make: Make, trusted: ArrayImages
) -> None:
    subject = Subject(model=make(None), trusted=trusted)
    _, probe = probe_of(subject, samples=20, rng=np.random.default_rng(0))
    counts = np.bincount(probe.y.numpy(), minlength=8)
    assert counts.sum() == 20
    assert set(counts) <= {2, 3}
    assert probe.x.shape == (20, 1, 12, 12)


def test_a_small_trusted_set_is_used_whole(make: Make, trusted: ArrayImages) -> None:
    subject = Subject(model=make(None), trusted=trusted)
    _, probe = probe_of(subject, samples=5000, rng=np.random.default_rng(0))
    assert len(probe.x) == 120
