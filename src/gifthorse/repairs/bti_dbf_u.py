"""BTI-DBF (U): paint triggers past the benign features, unlearn them, and again.

Xu, Huang, Li, Qin & Ren 2024, "Towards Reliable and Efficient Backdoor Trigger Inversion via
Decoupling Benign Features", ICLR, section 4.3 (unlearning): in every round a mask over features and
a generator of triggers are found for the network as it is (see ``gifthorse.models.decoupling``);
then the network learns the true labels of pictures of which a tenth is painted, and features of
painted pictures that are those of the bare ones. From the second round on the generator is also
asked for the class that most of its first pictures went to. No detector's verdict is needed.

Decisions and deviations:

- The generator, its bound and the units of features are as in the detector ``bti_dbf``.
- Statistics of batch normalisation are kept; the authors let them follow pictures of which a tenth
  is painted.
- Lengths are steps, not epochs; fewer rounds (3 instead of 5).
- The rate is higher than the authors' 1e-4, as there are a tenth as many steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch.nn import functional

from gifthorse.core.types import Evidence, ImageData, Need, Progress, Subject
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.decoupling import (
    Painter,
    Search,
    backdoor_painter,
    benign_mask,
    last_map,
    shares,
)
from gifthorse.models.layers import logits_and_maps
from gifthorse.models.passes import to_tensor
from gifthorse.repairs.loops import check_between, check_counts, finite, minibatches, student_of
from gifthorse.repairs.tuning import subject_of

_MOST = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class BtiDbfU:
    """Unlearning by decoupled benign features.

    Attributes:
        rounds: Of painting and unlearning, at least 1.
        mask_steps: Steps for the mask over features in a round, at least 1.
        steps: Steps for the generator in a round, at least 1.
        unlearning_steps: Steps of unlearning in a round, at least 1.
        batch_size: Pictures a step, at least 2.
        reach: Root mean square of the change of a pixel, in (0, 1].
        share: Painted share of every batch, in (0, 1].
        learning_rate: Of Adam while unlearning, in (0, 1].

    Raises:
        ValueError: An option out of its range.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.WEIGHTS, Need.GRADIENTS, Need.TRUSTED})
    paper: ClassVar[str] = "Xu et al. 2024, BTI-DBF, ICLR, section 4.3"

    rounds: int = 3
    mask_steps: int = 100
    steps: int = 200
    unlearning_steps: int = 100
    batch_size: int = 32
    reach: float = 0.1
    share: float = 0.1
    learning_rate: float = 5e-4

    def __post_init__(self) -> None:
        check_counts(
            ("rounds", self.rounds, 1),
            ("mask_steps", self.mask_steps, 1),
            ("steps", self.steps, 1),
            ("unlearning_steps", self.unlearning_steps, 1),
            ("batch_size", self.batch_size, 2),
        )
        check_between(
            ("reach", self.reach, 0, 1),
            ("share", self.share, 0, 1),
            ("learning_rate", self.learning_rate, 0, 1),
        )

    def repair(
        self,
        subject: Subject,
        evidence: Sequence[Evidence],  # noqa: ARG002 - finds its own triggers
        *,
        rng: np.random.Generator,
        progress: Progress,
    ) -> ImageClassifier:
        """A copy of the model that sees through what the generator paints.

        Raises:
            NotApplicableError: No model with feature maps, no trusted pictures, or they do not fit.
            ModelError: The loss became NaN.
        """
        classifier, trusted = subject_of(subject)
        layer = last_map(classifier)
        few = rng.permutation(len(trusted))[:_MOST].astype(np.int64)
        x = to_tensor(classifier, trusted.batch(few))
        y = torch.from_numpy(trusted.labels[few]).to(classifier.device)
        search = Search(
            mask_steps=self.mask_steps,
            steps=self.steps,
            batch_size=self.batch_size,
            reach=self.reach,
        )
        student, target, spent = classifier.replaced(classifier.module), None, [0, 0]
        for _ in range(self.rounds):
            mask = benign_mask(student, layer, x, y, search, rng=rng, progress=progress)
            painter = backdoor_painter(
                student, layer, mask, x, search, rng=rng, progress=progress, target=target
            )
            if target is None:
                target = int(shares(student, painter, x, y).argmax())
            spent[0] += student.meter.forward
            spent[1] += student.meter.backward
            student = self._unlearn(student, layer, painter, trusted, rng, progress)
        student.meter.forward += spent[0]
        student.meter.backward += spent[1]
        return student

    def _unlearn(
        self,
        classifier: ImageClassifier,
        layer: str,
        painter: Painter,
        trusted: ImageData,
        rng: np.random.Generator,
        progress: Progress,
    ) -> ImageClassifier:
        with student_of(classifier, rng, frozen_statistics=True) as student:
            optimizer = torch.optim.Adam(student.module.parameters(), lr=self.learning_rate)
            for x, y in minibatches(
                student,
                trusted,
                steps=self.unlearning_steps,
                batch_size=self.batch_size,
                rng=rng,
                progress=progress,
                what="unlearning",
            ):
                painted = x.clone()
                count = max(1, round(self.share * len(x)))  # batches are shuffled
                with torch.no_grad():
                    painted[:count] = painter(x[:count])
                logits, (now,) = logits_and_maps(student, painted, (layer,))
                _, (bare,) = logits_and_maps(student, x, (layer,))
                loss = functional.cross_entropy(logits, y) + functional.mse_loss(bare, now)
                optimizer.zero_grad()
                finite(loss).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
        return student
