"""LF: a smooth pattern, optimised on a surrogate, that leaves no trace in the high frequencies.

Source: Zeng, Park, Mao, Jia 2021, "Rethinking the Backdoor Attacks' Triggers: A Frequency
Perspective" (ICCV 2021, arXiv:2104.03413), section 5: a universal perturbation is sought whose
low-pass filtered form sends pictures to the target on a clean surrogate; the filtered form is the
trigger.

Deviations: projected Adam steps in place of DeepFool steps; one Gaussian filter of a width that is
an option, where the authors' code filters the pictures too.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch.nn import functional

from gifthorse.attacks.data.poisoning import Aim, TriggerStrike, aim_of, poison_images
from gifthorse.attacks.options import require_positive
from gifthorse.core.errors import DataError
from gifthorse.core.protocols import Trainer
from gifthorse.core.types import FloatArray, ImageData, Planting, Progress
from gifthorse.models.classifier import ImageClassifier, as_classifier
from gifthorse.triggers.learned import Additive

_BATCH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class LowFrequency:
    """Poisoning with a smooth universal perturbation.

    Attributes:
        target: Class index that triggered pictures shall get.
        rate: Poisoned samples as a share of the training set, in (0, 1).
        mode: ``all-to-one`` or ``all-to-all``.
        bound: Largest change of a pixel, in (0, 1].
        sigma: Width of the Gaussian low-pass filter in pixels, in (0, 100].
        steps: Gradient steps on the surrogate, ≥ 1.
    """

    paper: ClassVar[str] = "Zeng et al. 2021, arXiv:2104.03413"

    target: int = 0
    rate: float = 0.1
    mode: str = "all-to-one"
    bound: float = 0.2
    sigma: float = 2.0
    steps: int = 150

    def __post_init__(self) -> None:
        require_positive(bound=self.bound, sigma=self.sigma, steps=self.steps)
        if self.bound > 1 or self.sigma > 100:
            raise ValueError(
                f"bound must be at most 1 and sigma at most 100, got {self.bound}, {self.sigma}"
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
        """Samples with the smooth pattern and the attacker's label."""
        self.aim.check(clean)
        surrogate = as_classifier(trainer.fit(clean, rng=rng, progress=progress))
        trigger = Additive(pattern=self.pattern(surrogate, clean, rng=rng, progress=progress))
        data, truth = poison_images(
            clean, attack="low_frequency", aim=self.aim, stamp=trigger.apply, rng=rng
        )
        strike = TriggerStrike(aim=self.aim, test_trigger=trigger)
        return Planting(truth=truth, strike=strike, data=data)

    def pattern(
        self,
        surrogate: ImageClassifier,
        clean: ImageData,
        *,
        rng: np.random.Generator,
        progress: Progress,
    ) -> FloatArray:
        """The trigger, shape (c, h, w), in [-bound, bound].

        Raises:
            DataError: No picture is left to strike.
        """
        rows = np.flatnonzero(self.aim.struck(clean.labels))
        if not len(rows):
            raise DataError(f"{clean.name} has no picture that this attack would strike")
        start = rng.normal(0, 1, clean.image_shape).astype(np.float32)
        rough = torch.from_numpy(start).to(surrogate.device).requires_grad_(True)
        optimizer = torch.optim.Adam([rough], lr=0.1)
        self._confine(rough)
        for step in range(self.steps):
            some = rng.choice(rows, min(_BATCH, len(rows)), replace=False)
            x = torch.from_numpy(clean.batch(some)).to(surrogate.device)
            wanted = self.aim.wanted(clean.labels[some], len(clean.class_names))
            moved = (x + low_pass(rough, self.sigma)).clamp(0, 1)
            y = torch.from_numpy(wanted).to(surrogate.device)
            loss = functional.cross_entropy(surrogate.logits(moved), y)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            self._confine(rough)
            progress(step + 1, self.steps, "shaping the trigger")
        with torch.no_grad():
            return np.asarray(low_pass(rough, self.sigma).cpu().numpy(), dtype=np.float32)

    def _confine(self, rough: torch.Tensor) -> None:
        """Scale in place, so that the filtered form fills the bound and does not leave it.

        Scaling keeps the pattern smooth; clipping would bring the high frequencies back.
        """
        with torch.no_grad():
            rough *= self.bound / low_pass(rough, self.sigma).abs().max().clamp_min(1e-12)


def low_pass(x: torch.Tensor, sigma: float) -> torch.Tensor:
    """Pictures (c, h, w) blurred by a Gaussian of ``sigma`` pixels, edges repeated; linear in x."""
    reach = max(1, round(3 * sigma))
    offsets = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    weights = weights / weights.sum()
    flat = functional.pad(x[:, None], (reach,) * 4, mode="replicate")
    flat = functional.conv2d(flat, weights.view(1, 1, -1, 1))
    return functional.conv2d(flat, weights.view(1, 1, 1, -1))[:, 0]
