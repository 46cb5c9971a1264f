"""Distilled unlearning: the recovered trigger, moved and magnified, with the model's own answers.

Our own method; unlearning after Wang et al. 2019, "Neural Cleanse", section VI-C, the answers after
Hinton et al. 2015, "Distilling the Knowledge in a Neural Network". Three things that ``unlearning``
lacks where triggers work anywhere and pictures are not surely named:

- What an inversion finds is the *smallest* change that works, in *one* place. The attacker's own is
  larger and may lie anywhere. So every stamped picture has the recovered change at a place and a
  magnification of its own, drawn at random. Half of them keep it as it was found, since a trigger
  that works in one place only teaches nothing elsewhere. Changes of the whole picture (offsets and
  flows) have no place: they stay.
- It need not look like the attacker's either. So plain stickers are tried at random, and those that
  lead to the accused class are unlearned too, in every other stamped picture
  (``repairs/lookalikes.py``).
- Stamped pictures and clean ones are pulled towards the probabilities that the model itself gave
  the *clean* picture. So no labels are needed, and a picture that the model is unsure of stays so,
  instead of being driven to one of its guesses.

Batch normalisation keeps its statistics. Teacher and student differ in one thing alone: what they
make of the trigger. It needs a detector that recovered one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gifthorse.core.types import (
    Evidence,
    FloatArray,
    ImageData,
    Need,
    Progress,
    RecoveredTrigger,
    Subject,
)
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.passes import to_tensor
from gifthorse.models.schedules import one_cycle
from gifthorse.repairs.lookalikes import lookalikes
from gifthorse.repairs.loops import check_between, check_counts, finite, minibatches, student_of
from gifthorse.repairs.recovered import recovered_triggers
from gifthorse.repairs.tuning import subject_of

_TRIED = 8
"""Pictures that stickers are tried on."""
_VISIBLE = 0.05
"""Opacity from which on a pixel is part of a sticker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DistilledUnlearning:
    """Unlearning of a trigger wherever it lies.

    Attributes:
        triggers: How many triggers of the class that each evidence accuses are unlearned.
        stickers: How many plain stickers are tried; 0 for none.
        magnify: Stickers are drawn up to so many times as wide and high, at least 1.
        moved: Share of the stamped pictures whose sticker is moved and magnified, in [0, 1].
        clean: Weight of the clean pictures; that of the stamped ones is 1. In (0, 100].
        steps: Optimisation steps, at least 2.
        batch_size: Pictures a step, each clean and stamped; at least 2.
        learning_rate: Of Adam, the highest of the cycle, in (0, 1].

    Raises:
        ValueError: An option out of its range.
    """

    needs: ClassVar[frozenset[Need]] = frozenset(
        {Need.WEIGHTS, Need.GRADIENTS, Need.TRUSTED, Need.TRIGGERS}
    )
    paper: ClassVar[str] = "our own; after Wang et al. 2019 (Neural Cleanse) and Hinton et al. 2015"

    triggers: int = 2
    stickers: int = 128
    magnify: float = 4.0
    moved: float = 0.5
    clean: float = 2.0
    steps: int = 200
    batch_size: int = 16
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        check_counts(
            ("triggers", self.triggers, 1),
            ("stickers", self.stickers, 0),
            ("steps", self.steps, 2),
            ("batch_size", self.batch_size, 2),
        )
        check_between(("clean", self.clean, 0, 100), ("learning_rate", self.learning_rate, 0, 1))
        if not 1 <= self.magnify <= 100:
            raise ValueError(f"magnify must be in [1, 100], got {self.magnify!r}")
        if not 0 <= self.moved <= 1:
            raise ValueError(f"moved must be in [0, 1], got {self.moved!r}")

    def repair(
        self,
        subject: Subject,
        evidence: Sequence[Evidence],
        *,
        rng: np.random.Generator,
        progress: Progress,
    ) -> ImageClassifier:
        """A copy of the model that answers stamped pictures as it answers them without a stamp.

        Raises:
            NotApplicableError: No evidence carries a trigger, the trigger does not fit the
                pictures, or model or trusted pictures are missing.
            ModelError: The loss became NaN.
        """
        classifier, trusted = subject_of(subject)
        found = recovered_triggers(evidence, trusted, most=self.triggers)
        alike = self._alike(classifier, trusted, found, rng)
        with student_of(classifier, rng, frozen_statistics=True) as student:
            optimizer = torch.optim.Adam(student.module.parameters(), lr=self.learning_rate)
            schedule = one_cycle(optimizer, learning_rate=self.learning_rate, steps=self.steps)
            for x, _ in minibatches(
                student,
                trusted,
                steps=self.steps,
                batch_size=self.batch_size,
                rng=rng,
                progress=progress,
                what="distilled unlearning",
            ):
                with torch.no_grad():
                    wanted = classifier.logits(x).softmax(-1)
                stamped = self._stamped(x.cpu().numpy(), found, alike, rng)
                both = torch.cat([x, torch.from_numpy(stamped).to(x)])
                kept, healed = student.logits(both).log_softmax(-1).chunk(2)
                loss = self.clean * _divergence(kept, wanted) + _divergence(healed, wanted)
                optimizer.zero_grad(set_to_none=True)
                finite(loss).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
        return student

    def _alike(
        self,
        classifier: ImageClassifier,
        trusted: ImageData,
        found: Sequence[RecoveredTrigger],
        rng: np.random.Generator,
    ) -> list[RecoveredTrigger]:
        """Plain stickers that lead to a class that was accused."""
        if not self.stickers:
            return []
        some = rng.permutation(len(trusted))[:_TRIED].astype(np.int64)
        x = to_tensor(classifier, trusted.batch(some))
        targets = dict.fromkeys(trigger.target for trigger in found)
        return [
            sticker
            for target in targets
            for sticker in lookalikes(classifier, x, target, count=self.stickers, rng=rng)
        ]

    def _stamped(
        self,
        x: FloatArray,
        found: Sequence[RecoveredTrigger],
        alike: Sequence[RecoveredTrigger],
        rng: np.random.Generator,
    ) -> FloatArray:
        """Every picture with one of the triggers, or of the stickers like them; some moved."""
        parts = []
        for i in range(len(x)):
            pool, most = (alike, 1.0) if alike and i % 2 else (found, self.magnify)
            trigger = pool[int(rng.integers(len(pool)))]
            if rng.random() < self.moved:
                trigger = elsewhere(trigger, magnify=most, rng=rng)
            parts.append(trigger.stamp(x[i : i + 1]))
        return np.concatenate(parts)


def elsewhere(
    trigger: RecoveredTrigger, *, magnify: float, rng: np.random.Generator
) -> RecoveredTrigger:
    """The trigger with its sticker at another place and up to ``magnify`` times as wide and high.

    The centre of the sticker may come to lie anywhere in the picture, so parts of it may be cut
    off. A trigger without a sticker is returned as it is; offset and flow are kept.
    """
    if float(trigger.mask.max()) <= _VISIBLE:
        return trigger
    height, width = trigger.mask.shape
    rows, columns = np.nonzero(trigger.mask > _VISIBLE)
    weights = trigger.mask[rows, columns]
    centre = np.average(rows, weights=weights), np.average(columns, weights=weights)
    scale = float(np.exp(rng.uniform(0, np.log(magnify))))
    lines = [
        torch.from_numpy(
            (2 * (middle + (np.arange(n) - rng.uniform(0, n)) / scale) + 1) / n - 1
        ).float()
        for middle, n in zip(centre, (height, width), strict=True)
    ]
    down, across = torch.meshgrid(*lines, indexing="ij")
    grid = torch.stack([across, down], -1)[None]
    mask = torch.from_numpy(trigger.mask)[None, None]
    covered = torch.from_numpy(trigger.pattern)[None] * mask
    seen = functional.grid_sample(
        torch.cat([mask, covered], 1), grid, padding_mode="zeros", align_corners=False
    )[0]
    opacity = seen[0].clamp(0, 1)
    colours = torch.where(opacity > 0, seen[1:] / opacity.clamp(min=1e-6), 0.0).clamp(0, 1)
    return RecoveredTrigger(
        target=trigger.target,
        mask=opacity.numpy(),
        pattern=colours.numpy(),
        offset=trigger.offset,
        flow=trigger.flow,
    )


def _divergence(said: Tensor, wanted: Tensor) -> Tensor:
    """Mean Kullback-Leibler divergence of log probabilities from probabilities."""
    return functional.kl_div(said, wanted, reduction="batchmean")
