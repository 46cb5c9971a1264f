"""Plain changes stay pictures, show a backdoor that many of them wake, and spare the twin."""

import numpy as np
import pytest
import torch
from tests.detectors.models.conftest import SIDE, Make, prototypes
from torch import Tensor, nn

from gifthorse.core.errors import NotApplicableError
from gifthorse.core.types import Evidence, Subject, silent
from gifthorse.data.images import ArrayImages
from gifthorse.detectors.models.changes import KINDS, Kind, changed
from gifthorse.detectors.models.plain_changes import USUAL, PlainChanges
from gifthorse.models.classifier import ImageClassifier, Preprocessing


@pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
@pytest.mark.parametrize("shape", [(5, 1, 12, 12), (3, 3, 28, 20)])
def test_every_change_gives_pictures_of_the_same_shape(kind: Kind, shape: tuple[int, ...]) -> None:
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    before = x.clone()
    found = list(changed(x, kind, torch.Generator().manual_seed(1)))
    again = list(changed(x, kind, torch.Generator().manual_seed(1)))
    assert len(found) == len(kind.strengths) * kind.draws
    assert torch.equal(x, before)
    for (strength, after), (_, same) in zip(found, again, strict=True):
        assert strength in kind.strengths
        assert after.shape == x.shape
        assert after.dtype == x.dtype
        assert float(after.min()) >= 0
        assert float(after.max()) <= 1
        assert torch.equal(after, same)
    assert any(not torch.allclose(after, x) for _, after in found)


@pytest.mark.parametrize("kind", [k for k in KINDS if len(k.strengths) > 1], ids=lambda k: k.name)
def test_more_strength_changes_more(kind: Kind) -> None:
    x = torch.rand((6, 3, 24, 24), generator=torch.Generator().manual_seed(0))
    x = nn.functional.avg_pool2d(x, 5, 1, 2)
    sizes: dict[float, list[float]] = {strength: [] for strength in kind.strengths}
    for seed in range(4):
        for strength, after in changed(x, kind, torch.Generator().manual_seed(seed)):
            sizes[strength].append(float((after - x).abs().mean()))
    means = [float(np.mean(sizes[strength])) for strength in kind.strengths]
    assert max(means) > 1.2 * min(means)
    assert means == sorted(means, reverse=kind.name == "coarse")


class Rough(nn.Module):
    """Compares a picture with prototypes; roughness anywhere lifts class 3 if it is planted."""

    def __init__(self, *, planted: bool) -> None:
        super().__init__()
        self.match = nn.Linear(SIDE * SIDE, 8, bias=False)
        with torch.no_grad():
            self.match.weight.copy_(10 * torch.from_numpy(prototypes(8).reshape(8, -1)))
        self.planted = planted

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.match(x.flatten(1))
        if not self.planted:
            return out
        rough = (x[..., 1:] - x[..., :-1]).abs().mean((1, 2, 3))
        lift = torch.zeros(8).index_fill(0, torch.tensor([3]), 200.0)
        return out + nn.functional.relu(rough - 0.12)[:, None] * lift


def rough(*, planted: bool) -> ImageClassifier:
    return ImageClassifier(
        Rough(planted=planted),
        class_names=tuple(f"class {i}" for i in range(8)),
        preprocessing=Preprocessing(mean=(0.5,), std=(1.0,), size=(SIDE, SIDE)),
    )


def seen(model: ImageClassifier, trusted: ArrayImages, seed: int) -> Evidence:
    subject = Subject(model=model, trusted=trusted)
    return PlainChanges().inspect(subject, rng=np.random.default_rng(seed), progress=silent)


@pytest.mark.efficacy(of=PlainChanges)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_backdoor_that_roughness_wakes_is_heard(trusted: ArrayImages, seed: int) -> None:
    planted = seen(rough(planted=True), trusted, seed)
    twin = seen(rough(planted=False), trusted, seed)
    assert planted.suspects.tolist() == [3]
    assert planted.statistic > twin.statistic + 1
    assert len(planted.exhibits) == 2
    assert "'class 3'" in planted.notes[0]


def test_every_kind_has_a_usual_share_and_no_null_is_made_up(
    make: Make, trusted: ArrayImages
) -> None:
    assert set(USUAL) == {kind.name for kind in KINDS}
    assert all(spread > 0 for _, spread in USUAL.values())
    evidence = seen(make(None), trusted, 0)
    with pytest.raises(NotApplicableError, match="no reference bank"):
        PlainChanges().null(evidence)
