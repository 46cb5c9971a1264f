"""RNP: unlearn clean pictures, recover them through masks alone, prune what was not needed.

Li, Lyu, Ma, Koren, Lyu, Li & Jiang 2023, "Reconstructive Neuron Pruning for Backdoor Defense",
ICML, arXiv:2305.14876, section 3: (1) gradient ascent on clean pictures makes a network that has
forgotten them and kept the backdoor; (2) with those weights fixed, masks in [0, 1] on the channels
learn to bring clean accuracy back, which closes the channels that the backdoor uses; (3) channels
with a small mask are pruned in the *original* network.

Decisions and deviations:

- As many channels are pruned as keep clean accuracy on a part of the trusted pictures; the
  authors' tables use a fixed threshold a data set.
- Masks act on the weights of batch normalisation, whose statistics stay as they are.
- Unlearning stops once clean accuracy is at or below ``forgotten``, or after ``unlearning_steps``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from gifthorse.core.types import Evidence, ImageData, Need, Progress, Subject
from gifthorse.data.splits import split
from gifthorse.models.classifier import ImageClassifier
from gifthorse.repairs.loops import check_between, check_counts, finite, minibatches, student_of
from gifthorse.repairs.normalisation import Gates, correct, prune_while_accurate
from gifthorse.repairs.tuning import subject_of

_CHECK_EVERY = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Rnp:
    """Reconstructive neuron pruning.

    Attributes:
        unlearning_steps: Most steps of gradient ascent, at least 1.
        unlearning_rate: Of SGD while unlearning, in (0, 10].
        forgotten: Clean accuracy at which unlearning ends, in (0, 1].
        recovering_steps: Steps on the masks, at least 1.
        recovering_rate: Of SGD on the masks, in (0, 10].
        batch_size: Pictures a step, at least 2.
        highest: Channels with a mask of at least this are never pruned, in (0, 1].
        allowed_drop: How much accuracy on the validation part pruning may cost, in (0, 1].
        validation: Share of the trusted pictures that chooses the threshold, in (0, 0.9].

    Raises:
        ValueError: An option out of its range.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.WEIGHTS, Need.GRADIENTS, Need.TRUSTED})
    paper: ClassVar[str] = "Li et al. 2023, RNP, arXiv:2305.14876"

    unlearning_steps: int = 200
    unlearning_rate: float = 0.01
    forgotten: float = 0.2
    recovering_steps: int = 80
    recovering_rate: float = 0.2
    batch_size: int = 32
    highest: float = 0.9
    allowed_drop: float = 0.04
    validation: float = 0.5

    def __post_init__(self) -> None:
        check_counts(
            ("unlearning_steps", self.unlearning_steps, 1),
            ("recovering_steps", self.recovering_steps, 1),
            ("batch_size", self.batch_size, 2),
        )
        check_between(
            ("unlearning_rate", self.unlearning_rate, 0, 10),
            ("forgotten", self.forgotten, 0, 1),
            ("recovering_rate", self.recovering_rate, 0, 10),
            ("highest", self.highest, 0, 1),
            ("allowed_drop", self.allowed_drop, 0, 1),
            ("validation", self.validation, 0, 0.9),
        )

    def repair(
        self,
        subject: Subject,
        evidence: Sequence[Evidence],  # noqa: ARG002 - needs none
        *,
        rng: np.random.Generator,
        progress: Progress,
    ) -> ImageClassifier:
        """A pruned copy of the model; the evidence is not used.

        Raises:
            NotApplicableError: No model, no trusted pictures, or no batch normalisation.
            ModelError: The loss became NaN.
        """
        classifier, trusted = subject_of(subject)
        validation, tuning = split(trusted, self.validation, rng)
        Gates(classifier)  # refuses before the work
        unlearned = self.unlearn(classifier, tuning, rng, progress)
        gates = Gates(unlearned)
        masks = self.recover(gates, tuning, rng, progress)
        repaired, _ = prune_while_accurate(
            classifier,
            dict(zip(gates.names, masks, strict=True)),
            validation,
            highest=self.highest,
            allowed_drop=self.allowed_drop,
        )
        repaired.meter.forward += unlearned.meter.forward
        repaired.meter.backward += unlearned.meter.backward
        return repaired

    def unlearn(
        self,
        classifier: ImageClassifier,
        data: ImageData,
        rng: np.random.Generator,
        progress: Progress,
    ) -> ImageClassifier:
        """A copy that has forgotten the clean pictures."""
        with student_of(classifier, rng, frozen_statistics=True) as student:
            parameters = list(student.module.parameters())
            optimizer = torch.optim.SGD(
                parameters, lr=self.unlearning_rate, momentum=0.9, weight_decay=5e-4
            )
            lessons = minibatches(
                student,
                data,
                steps=self.unlearning_steps,
                batch_size=self.batch_size,
                rng=rng,
                progress=progress,
                what="unlearning",
            )
            for done, (x, y) in enumerate(lessons, start=1):
                loss = finite(-functional.cross_entropy(student.logits(x), y))
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(parameters, 20.0)  # as the authors' code
                optimizer.step()
                if done % _CHECK_EVERY:
                    continue
                if correct(student, data) <= self.forgotten * len(data):
                    break
        return student

    def recover(
        self, gates: Gates, data: ImageData, rng: np.random.Generator, progress: Progress
    ) -> list[Tensor]:
        """The mask of every channel, one tensor (channels,) a layer, in [0, 1]."""
        masks = [mask.requires_grad_(True) for mask in gates.full(1.0)]
        optimizer = torch.optim.SGD(masks, lr=self.recovering_rate, momentum=0.9)
        for x, y in minibatches(
            gates.classifier,
            data,
            steps=self.recovering_steps,
            batch_size=self.batch_size,
            rng=rng,
            progress=progress,
            what="recovering",
        ):
            loss = finite(functional.cross_entropy(gates.logits(x, masks, gates.full(1.0)), y))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            with torch.no_grad():
                for mask in masks:
                    mask.clamp_(0, 1)
        return [mask.detach() for mask in masks]
