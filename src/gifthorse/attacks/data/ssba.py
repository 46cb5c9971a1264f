"""SSBA: each picture carries its own faint trigger, a short text that an encoder hides in it.

Source: Li, Li, Wu, Li, He, Lyu 2021, "Invisible Backdoor Attack with Sample-Specific Triggers"
(ICCV 2021, arXiv:2012.03816), section 4: an encoder hides a bit string in a picture so that it
looks the same, and a decoder reads it again; both are trained together on clean pictures (after
StegaStamp). Pictures that carry the attacker's string get his label.

Deviations: encoder and decoder are small and trained here, on the attacked data; the change of a
pixel is bounded, in place of the perceptual and critic losses; and the string is drawn anew for
every batch of that training only, the attacker's own one being fixed afterwards.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from gifthorse.attacks.data.poisoning import Aim, TriggerStrike, aim_of, poison_images
from gifthorse.attacks.options import require_positive
from gifthorse.core.protocols import Trainer
from gifthorse.core.rng import draw_seed
from gifthorse.core.types import ImageData, Planting, Progress
from gifthorse.models.generators import PictureNetwork, picture_network
from gifthorse.triggers.learned import Generated

_BATCH = 32
_CELLS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Ssba:
    """Sample-specific poisoning by steganography.

    Attributes:
        target: Class index that triggered pictures shall get.
        rate: Poisoned samples as a share of the training set, in (0, 1).
        mode: ``all-to-one`` or ``all-to-all``.
        bits: Length of the hidden string, 1 to 256.
        bound: Largest change of a pixel, in (0, 1].
        fidelity: Weight of the mean squared change beside the reading loss, > 0; it rises from
            zero in the second half.
        steps: Training steps of encoder and decoder, ≥ 1.
    """

    paper: ClassVar[str] = "Li et al. 2021, arXiv:2012.03816"

    target: int = 0
    rate: float = 0.1
    mode: str = "all-to-one"
    bits: int = 16
    bound: float = 0.15
    fidelity: float = 5.0
    steps: int = 240

    def __post_init__(self) -> None:
        require_positive(bits=self.bits, bound=self.bound, fidelity=self.fidelity, steps=self.steps)
        if self.bound > 1 or self.bits > 256 or self.fidelity > 1e6:
            raise ValueError(
                "bound must be at most 1, bits at most 256 and fidelity at most a million, got "
                f"{self.bound}, {self.bits}, {self.fidelity}"
            )
        _ = self.aim

    @property
    def aim(self) -> Aim:
        """Whom it strikes."""
        return aim_of(self.mode, target=self.target, rate=self.rate)

    def craft(
        self,
        clean: ImageData,
        *,
        trainer: Trainer,
        rng: np.random.Generator,
        progress: Progress,
    ) -> Planting:
        """Samples with the attacker's string in them, and his label."""
        del trainer  # the encoder needs pictures, not a classifier
        self.aim.check(clean)
        encoder, read = self._train(clean, rng, progress)
        string = torch.from_numpy(rng.integers(0, 2, self.bits).astype(np.float32))

        def change(x: Tensor) -> Tensor:
            return hide(encoder, x, string.expand(len(x), -1), self.bound)

        trigger = Generated(change=change, image_shape=clean.image_shape)
        data, truth = poison_images(
            clean, attack="ssba", aim=self.aim, stamp=trigger.apply, rng=rng
        )
        return Planting(
            truth=truth,
            strike=TriggerStrike(aim=self.aim, test_trigger=trigger),
            data=data,
            notes=(f"the decoder reads {read:.0%} of the hidden bits",),
        )

    def _train(
        self, clean: ImageData, rng: np.random.Generator, progress: Progress
    ) -> tuple[PictureNetwork, float]:
        """A trained encoder, and the share of bits that its decoder reads in the last tenth."""
        channels = clean.image_shape[0]
        device = torch.device("cpu")
        encoder = picture_network(channels + self.bits, channels, rng=rng, device=device)
        decoder = _decoder(channels, self.bits, rng)
        optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=3e-3)
        right: list[float] = []
        for step in range(self.steps):
            x = torch.from_numpy(clean.batch(rng.integers(len(clean), size=_BATCH)))
            string = torch.from_numpy(rng.integers(0, 2, (_BATCH, self.bits)).astype(np.float32))
            marked = hide(encoder, x, string, self.bound)
            guess = decoder(marked - 0.5)
            reading = functional.binary_cross_entropy_with_logits(guess, string)
            # First the string must be readable at all: from the start, fidelity would silence it.
            ramp = max(0.0, 2 * step / self.steps - 1)
            loss = reading + ramp * self.fidelity * ((marked - x) ** 2).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            right.append(float(((guess > 0) == (string > 0.5)).float().mean()))
            progress(step + 1, self.steps, "training the encoder")
        encoder.eval().requires_grad_(False)
        return encoder, float(np.mean(right[-max(1, self.steps // 10) :]))


def hide(encoder: PictureNetwork, x: Tensor, string: Tensor, bound: float) -> Tensor:
    """Pictures (n, c, h, w) in [0, 1] that carry strings (n, bits), within ``bound``."""
    # Every bit has a map of its own, ±1, in a coarse chessboard of its own fineness.
    sign = (2 * string - 1)[:, :, None, None]
    planes = sign * _boards(string.shape[1], x.shape[2], x.shape[3])
    return (x + bound * torch.tanh(encoder(torch.cat([x, planes], dim=1)))).clamp(0, 1)


def _boards(count: int, height: int, width: int) -> Tensor:
    """One fixed ±1 pattern of _CELLS × _CELLS cells for every bit, shape (count, h, w)."""
    cells = np.random.default_rng(0).choice([-1.0, 1.0], (count, 1, _CELLS, _CELLS))
    coarse = torch.from_numpy(cells.astype(np.float32))
    return functional.interpolate(coarse, (height, width), mode="nearest")[:, 0]


def _decoder(channels: int, bits: int, rng: np.random.Generator) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(draw_seed(rng))
        return nn.Sequential(
            nn.Conv2d(channels, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(_CELLS),
            nn.Flatten(),
            nn.Linear(32 * _CELLS * _CELLS, bits),
        )
