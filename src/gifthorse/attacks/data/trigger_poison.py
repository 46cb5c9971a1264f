"""The part that all attacks with one trigger for training and test share (Gu et al. 2017)."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gifthorse.attacks.data.poisoning import Aim, Cover, poison_images, triggered_images
from gifthorse.core.types import GroundTruth, ImageData
from gifthorse.triggers.trigger import Trigger


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerPoison(ABC):
    """Base of the attacks that stamp some training samples: options and bookkeeping.

    Attributes:
        target: Class index that triggered pictures shall get.
        rate: Poisoned samples as a share of the training set, in (0, 1).
        mode: ``all-to-one``, ``all-to-all`` or ``source-specific``.
        source: Class index struck in ``source-specific`` mode.
        cover_rate: Share of cover samples in ``source-specific`` mode.
        clean_label: Stamp target-class samples only and change no label.
    """

    name: ClassVar[str]
    paper: ClassVar[str]

    target: int = 0
    rate: float = 0.05
    mode: str = "all-to-one"
    source: int = 1
    cover_rate: float = 0.05
    clean_label: bool = False

    def __post_init__(self) -> None:
        _ = self.aim, self.trigger, self.test_trigger, self.cover  # all refuse bad values

    @property
    def aim(self) -> Aim:
        """Whom it strikes."""
        return Aim(
            mode=self.mode,
            target=self.target,
            source=self.source,
            rate=self.rate,
            cover_rate=self.cover_rate,
            clean_label=self.clean_label,
        )

    @property
    @abstractmethod
    def trigger(self) -> Trigger:
        """What poisoned training samples carry."""

    @property
    def test_trigger(self) -> Trigger:
        """What pictures carry when the attacker uses the backdoor: the same unless said so."""
        return self.trigger

    @property
    def cover(self) -> Cover | None:
        """Samples that are stamped and keep their label, whatever the mode."""
        return None

    def poison(
        self, clean: ImageData, *, rng: np.random.Generator
    ) -> tuple[ImageData, GroundTruth]:
        """A poisoned copy of the training data, and the truth about it."""
        return poison_images(
            clean,
            attack=self.name,
            aim=self.aim,
            stamp=self.trigger.apply,
            rng=rng,
            cover=self.cover,
        )

    def triggered(
        self, clean: ImageData, *, rng: np.random.Generator
    ) -> tuple[ImageData, ImageData]:
        """Triggered test pictures with the attacker's labels, and with the true ones."""
        return triggered_images(clean, aim=self.aim, stamp=self.test_trigger.apply, rng=rng)
