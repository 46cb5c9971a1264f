"""The untargeted search sees an all-to-all backdoor and spares the clean twin; warps are found."""

import numpy as np
import pytest
import torch
from tests.detectors.models.conftest import SIDE, prototypes
from torch import Tensor, nn
from torch.nn import functional

from gifthorse.core.errors import NotApplicableError
from gifthorse.core.types import RecoveredTrigger, Subject, silent
from gifthorse.data.images import ArrayImages
from gifthorse.detectors.models.distortions import Warped
from gifthorse.detectors.models.inversion import AWAY, Additive, Race
from gifthorse.detectors.models.trusted import Probe
from gifthorse.detectors.models.untargeted import Untargeted
from gifthorse.models.classifier import ImageClassifier, Preprocessing


class Shifter(nn.Module):
    """Compares a picture with prototypes; a small checker moves every class to the next one."""

    def __init__(self, *, planted: bool) -> None:
        super().__init__()
        self.match = nn.Linear(SIDE * SIDE, 8, bias=False)
        with torch.no_grad():
            self.match.weight.copy_(10 * torch.from_numpy(prototypes(8).reshape(8, -1)))
        self.planted = planted
        self.register_buffer("checker", torch.tensor([[1.0, -1, 1], [-1, 1, -1], [1, -1, 1]]))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.match(x.flatten(1))
        if not self.planted:
            return out
        seen = (x[:, 0, -4:-1, -4:-1] * self.get_buffer("checker")).sum((1, 2))
        share = functional.sigmoid(6 * (seen - 1.0))[:, None]
        return out * (1 - share) + out.roll(1, dims=1) * share


def shifter(*, planted: bool) -> ImageClassifier:
    return ImageClassifier(
        Shifter(planted=planted),
        class_names=tuple(f"class {i}" for i in range(8)),
        preprocessing=Preprocessing(mean=(0.5,), std=(1.0,), size=(SIDE, SIDE)),
    )


def statistic(trusted: ArrayImages, seed: int, *, planted: bool) -> float:
    detector = Untargeted(steps=120, samples=64, batch_size=32, goal=0.6)
    subject = Subject(model=shifter(planted=planted), trusted=trusted)
    seen = detector.inspect(subject, rng=np.random.default_rng(seed), progress=silent)
    assert seen.statistic == seen.scores[0]
    return seen.statistic


@pytest.mark.efficacy(of=Untargeted)
@pytest.mark.parametrize("seed", [0, 1])
def test_all_to_all_is_cheap_towards_anywhere_only(trusted: ArrayImages, seed: int) -> None:
    planted = statistic(trusted, seed, planted=True)
    twin = statistic(trusted, seed, planted=False)
    assert planted > twin + 0.25


def test_it_has_no_null_of_its_own(trusted: ArrayImages) -> None:
    detector = Untargeted(steps=10, samples=40, goal=0.05)
    subject = Subject(model=shifter(planted=False), trusted=trusted)
    seen = detector.inspect(subject, rng=np.random.default_rng(0), progress=silent)
    with pytest.raises(NotApplicableError, match="no reference bank"):
        detector.null(seen)


def test_a_goal_that_nothing_reaches_is_not_a_number(trusted: ArrayImages) -> None:
    subject = Subject(model=shifter(planted=False), trusted=trusted)
    with pytest.raises(NotApplicableError, match="nothing to compare"):
        Untargeted(steps=1, goal=1.0).inspect(
            subject, rng=np.random.default_rng(0), progress=silent
        )


def test_pools_and_away_count_what_they_say(trusted: ArrayImages) -> None:
    model = shifter(planted=False)
    x = torch.from_numpy(trusted.batch(np.arange(40)))
    with torch.no_grad():
        y = model.logits(x).argmax(1)
    pools = np.stack([np.flatnonzero(y.numpy() == k)[:4] for k in (2, 5)])
    race = Race(
        model,
        Probe(x=x, y=y),
        Additive(),
        learning_rate=0.1,
        generator=torch.Generator().manual_seed(0),
        classes=np.array([3, AWAY]),
        pools=pools,
    )
    # Add the difference of two prototypes: pictures of class 2 become class 3, those of 5 leave.
    way = torch.from_numpy(prototypes(8))
    with torch.no_grad():
        race.parameters[0][0] = 2 * (way[3] - way[2])
        race.parameters[0][1] = 0.0
    assert race.success()[0].tolist() == [1.0, 0.0]
    with torch.no_grad():
        race.parameters[0][1] = 2 * (way[0] - way[5])
    assert race.success()[0].tolist() == [1.0, 1.0]


def test_a_warp_and_its_trigger_do_the_same() -> None:
    family = Warped(grid=3)
    parameters = family.start(2, (1, 9, 11), torch.Generator().manual_seed(0))
    parameters[0].mul_(8)
    x = torch.rand((4, 1, 9, 11), generator=torch.Generator().manual_seed(1))
    moved = family.apply(parameters, x)
    own = family.apply(parameters, x.expand(2, *x.shape))
    torch.testing.assert_close(moved, own)
    for k in range(2):
        flow = family.flow(parameters, (9, 11))[k].numpy().astype(np.float32)
        trigger = RecoveredTrigger(
            target=0,
            mask=np.zeros((9, 11), np.float32),
            pattern=np.zeros((1, 9, 11), np.float32),
            flow=flow,
        )
        np.testing.assert_allclose(trigger.stamp(x.numpy()), moved[k].numpy(), atol=1e-4)
    constant = [torch.full((1, 2, 3, 3), 2.0)]
    assert family.size(constant).item() == pytest.approx(2.0)
    shifted = family.apply(constant, x)[0]
    torch.testing.assert_close(shifted[..., :-2, :-2], x[..., 2:, 2:], rtol=0, atol=1e-4)
