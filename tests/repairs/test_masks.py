"""ANP, RNP and their pruning on a network of three channels whose right masks are known."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gifthorse.core.types import silent
from gifthorse.data.images import ArrayImages
from gifthorse.models.classifier import ImageClassifier, Preprocessing
from gifthorse.repairs.anp import Anp
from gifthorse.repairs.normalisation import Gates, prune_while_accurate
from gifthorse.repairs.rnp import Rnp


class Three(nn.Module):
    """Three channels that carry the picture; they speak for class 0, for class 1 and for none."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 3, 1, bias=False)
        self.norm = nn.BatchNorm2d(3)
        self.head = nn.Linear(3, 2)
        with torch.no_grad():
            self.convolution.weight.fill_(1.0)
            self.head.weight.copy_(torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.8, 0.0]]))
            self.head.bias.copy_(torch.tensor([0.0, 0.1]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.norm(self.convolution(x)).relu().mean((2, 3)))
        return out


def model() -> ImageClassifier:
    return ImageClassifier(
        Three(),
        class_names=("right", "wrong"),
        preprocessing=Preprocessing(mean=(0.0,), std=(1.0,), size=(4, 4)),
    )


def pictures(label: int = 0) -> ArrayImages:
    rng = np.random.default_rng(0)
    labels = np.full(40, label, dtype=np.int64)
    pixels = rng.random((40, 1, 4, 4)) * 0.5 + 0.5
    return ArrayImages.from_floats(pixels, labels, name="bright", class_names=("right", "wrong"))


@pytest.mark.parametrize("speaker", [0, 1])
@pytest.mark.parametrize("how", ["anp", "rnp"])
def test_the_channel_that_speaks_against_the_labels_is_closed(how: str, speaker: int) -> None:
    """All pictures are of one class: only the other class's channel has a reason to close."""
    gates, data, rng = Gates(model()), pictures(1 - speaker), np.random.default_rng(0)
    learn: Any = (
        Anp(steps=60, batch_size=8).learn
        if how == "anp"
        else Rnp(recovering_steps=60, batch_size=8).recover
    )
    (mask,) = learn(gates, data, rng, silent)
    wanted = torch.ones(3)
    wanted[speaker] = 0
    torch.testing.assert_close(mask, wanted)


def test_rnp_forgets_what_the_pictures_are_and_leaves_the_model() -> None:
    subject, data = model(), pictures()
    before = subject.digest()
    forgotten = Rnp(unlearning_steps=200, unlearning_rate=0.1, batch_size=8).unlearn(
        subject, data, np.random.default_rng(0), silent
    )
    batch = torch.from_numpy(data.batch(np.arange(40)))
    assert (subject.logits(batch).argmax(1) == 0).all()
    assert (forgotten.logits(batch).argmax(1) == 1).all()
    assert subject.digest() == before


@pytest.mark.parametrize(
    ("highest", "kept"),
    [(0.15, [1, 0, 1]), (0.25, [1, 0, 0]), (0.9, [1, 0, 0])],
    ids=["one mask below the bound", "two", "all, but not at the price of accuracy"],
)
def test_channels_are_pruned_in_the_order_of_their_masks(highest: float, kept: list[int]) -> None:
    masks = {"norm": torch.tensor([0.3, 0.1, 0.2])}
    pruned, silenced = prune_while_accurate(
        model(), masks, pictures(), highest=highest, allowed_drop=0.04
    )
    weights = pruned.module.get_parameter("norm.weight")
    torch.testing.assert_close(weights.detach(), torch.tensor(kept, dtype=torch.float32))
    assert silenced == 3 - sum(kept)
