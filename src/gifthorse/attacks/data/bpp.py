"""BppAttack: fewer colours, with dithering.

Source: Wang, Zhai, Ma 2022, "BppAttack: Stealthy and Efficient Trojan Attacks against Deep Neural
Networks via Image Quantization and Contrastive Adversarial Learning" (CVPR 2022,
arXiv:2205.13383), section 3.

Deviations: the paper controls training and shows negative samples (pictures with noise of the size
of the quantisation error, true labels) in every batch, some of them adversarial; here a fixed share
of the data set is quantised once, and the negative samples carry random noise only. The paper keeps
8 levels (3 bits) a channel; the default here is 4, because small networks trained for a few epochs
miss the finer ones (measured: docs/results.md).
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gifthorse.attacks.data.poisoning import Cover
from gifthorse.attacks.data.trigger_poison import TriggerPoison
from gifthorse.core.types import FloatArray
from gifthorse.triggers.quantise import Quantise
from gifthorse.triggers.trigger import checked


@dataclass(frozen=True, slots=True, kw_only=True)
class Bpp(TriggerPoison):
    """Poisoning by quantisation.

    Attributes:
        target: Class index that triggered pictures shall get.
        rate: Poisoned samples as a share of the training set, in (0, 1).
        mode: ``all-to-one``, ``all-to-all`` or ``source-specific``.
        source: Class index struck in ``source-specific`` mode.
        cover_rate: Share of cover samples in ``source-specific`` mode.
        clean_label: Stamp target-class samples only and change no label.
        bits: Bits a channel that are left, 1 to 7.
        dither: Floyd–Steinberg dithering.
        negative_rate: Negative samples as a share of the training set, in [0, 1).
    """

    name: ClassVar[str] = "bpp"
    paper: ClassVar[str] = "Wang et al. 2022, arXiv:2205.13383"

    rate: float = 0.1
    bits: int = 2
    dither: bool = True
    negative_rate: float = 0.1

    @property
    def trigger(self) -> Quantise:
        """The quantisation."""
        return Quantise(bits=self.bits, dither=self.dither)

    @property
    def cover(self) -> Cover:
        """The negative samples."""
        return Cover(rate=self.negative_rate, stamp=self._noise)

    def _noise(self, x: FloatArray, rng: np.random.Generator) -> FloatArray:
        half = 0.5 / (2**self.bits - 1)
        return checked(x + rng.uniform(-half, half, x.shape))
