"""Label-consistent: target-class samples made hard by adversarial noise, and a patch to hold on to.

Source: Turner, Tsipras, Madry 2019, "Label-Consistent Backdoor Attacks" (arXiv:1912.02771),
section 4: samples of the target class are perturbed against a surrogate until their content says
little, then a pattern is stamped in the four corners. No label is changed.

Deviations: the surrogate is an ordinarily trained network unless ``surrogate`` is ``robust`` (the
paper's is trained adversarially); the GAN interpolation of section 4.1 is left out.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gifthorse.attacks.data.poisoning import Aim, TriggerStrike, poison_images
from gifthorse.attacks.options import require_class, require_positive
from gifthorse.attacks.perturbing import adversarial, robust_surrogate
from gifthorse.core.protocols import Trainer
from gifthorse.core.types import FloatArray, ImageData, Planting, Progress
from gifthorse.models.classifier import as_classifier
from gifthorse.triggers.patch import Patch
from gifthorse.triggers.trigger import Chain

_SURROGATES = ("plain", "robust")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelConsistent:
    """Clean-label patch poisoning with adversarial noise.

    Attributes:
        target: Class index that triggered pictures shall get.
        rate: Poisoned samples as a share of the training set, in (0, 1).
        bound: Largest change of a pixel by the noise, in (0, 1].
        steps: Gradient steps of the noise, ≥ 1.
        size: Side of the patch in each corner, in pixels.
        colour: CSS colour name or #rrggbb.
        surrogate: ``plain``, or ``robust``: trained adversarially within ``bound``, at four times
            the cost; its perturbations change what a picture shows, not only what networks see.
    """

    paper: ClassVar[str] = "Turner et al. 2019, arXiv:1912.02771"

    target: int = 0
    rate: float = 0.03
    bound: float = 16 / 255
    steps: int = 20
    size: int = 3
    colour: str = "white"
    surrogate: str = "plain"

    def __post_init__(self) -> None:
        require_positive(bound=self.bound, steps=self.steps)
        if self.bound > 1:
            raise ValueError(f"bound must be in (0, 1], got {self.bound}")
        if self.surrogate not in _SURROGATES:
            raise ValueError(f"no surrogate {self.surrogate!r}; known: {', '.join(_SURROGATES)}")
        _ = self.aim, self.trigger

    @property
    def aim(self) -> Aim:
        """Whom it strikes."""
        return Aim(
            mode="all-to-one",
            target=self.target,
            source=0,
            rate=self.rate,
            cover_rate=0.0,
            clean_label=True,
        )

    @property
    def trigger(self) -> Chain:
        """A checkered patch in each corner."""
        corners = ("top-left", "top-right", "bottom-left", "bottom-right")
        return Chain(
            tuple(
                Patch(shape="checker", size=self.size, colour=self.colour, place=place, margin=0)
                for place in corners
            )
        )

    def craft(
        self,
        clean: ImageData,
        *,
        trainer: Trainer,
        rng: np.random.Generator,
        progress: Progress,
    ) -> Planting:
        """Perturbed and stamped samples of the target class."""
        require_class(clean, self.target)
        if self.surrogate == "robust":
            surrogate = robust_surrogate(
                clean, bound=self.bound, trainer=trainer, rng=rng, progress=progress
            )
        else:
            surrogate = as_classifier(trainer.fit(clean, rng=rng, progress=progress))

        def stamp(x: FloatArray, rng: np.random.Generator) -> FloatArray:
            labels = np.full(len(x), self.target, dtype=np.int64)
            hard = adversarial(surrogate, x, labels, bound=self.bound, steps=self.steps, rng=rng)
            return self.trigger.apply(hard, rng)

        data, truth = poison_images(
            clean, attack="label_consistent", aim=self.aim, stamp=stamp, rng=rng
        )
        strike = TriggerStrike(aim=self.aim, test_trigger=self.trigger)
        return Planting(truth=truth, strike=strike, data=data)
