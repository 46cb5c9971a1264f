"""Fine-pruning: remove channels that clean pictures do not use, then fine-tune.

Liu, Dolan-Gavitt & Garg 2018, "Fine-Pruning", arXiv:1805.12185, sections 3.1 and 3.3: a backdoor
hides in neurons that are dormant on clean inputs. Channels of the last convolutional layer are
pruned from the least active up until accuracy on validation pictures falls too far; what is left is
fine-tuned on clean pictures.

Decisions that the paper leaves open, and deviations:

- A channel is silenced where the next linear layer reads it (see ``channels``), after shortcut,
  batch normalisation and activation; that is also where its activation is measured. Zeroing the
  convolution's filter alone would leave the bias and the shortcut standing.
- The last network within the allowed drop is kept. (BackdoorBench's ``fp.py`` goes on with the
  first one beyond it, and watches *test* accuracy; here a part of the trusted pictures decides.)
- The allowed drop is 4 points by default: pruning may cost that much, because tuning restores it.
- Pruned channels stay pruned while the rest is tuned: they get no gradient.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gifthorse.core.types import Evidence, ImageData, IntArray, Need, Progress, Subject
from gifthorse.data.splits import split
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.passes import predict
from gifthorse.repairs.channels import Channels, find_channels, guarded, mean_activations, silence
from gifthorse.repairs.tuning import check_tuning, passes_over, subject_of, tune


@dataclass(frozen=True, slots=True, kw_only=True)
class FinePruning:
    """Pruning of dormant channels, then fine-tuning.

    Attributes:
        allowed_drop: How much accuracy on the validation part pruning may cost, in [0, 1].
        validation: Share of the trusted pictures that decides when to stop, in (0, 1). Dormancy is
            measured on the others; all are tuned on.
        step: Share of the channels pruned at a time (at least one), in (0, 1].
        epochs: Passes over the trusted pictures, at least 1.
        min_steps: Steps at least, whatever the number of pictures; 0 to count epochs alone.
        batch_size: Pictures a step, at least 2.
        learning_rate: The highest of the cycle, positive.
        shift: Random shift in pixels of every picture; 0 for none.
        frozen_statistics: Keep the statistics of batch normalisation.

    Raises:
        ValueError: An option out of its range.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.WEIGHTS, Need.GRADIENTS, Need.TRUSTED})
    paper: ClassVar[str] = "Liu, Dolan-Gavitt & Garg 2018, Fine-Pruning, arXiv:1805.12185"

    allowed_drop: float = 0.04
    validation: float = 0.5
    step: float = 0.02
    epochs: int = 10
    min_steps: int = 200
    batch_size: int = 32
    learning_rate: float = 0.005
    shift: int = 0
    frozen_statistics: bool = False

    def __post_init__(self) -> None:
        check_tuning(
            epochs=self.epochs,
            min_steps=self.min_steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            shift=self.shift,
        )
        if not 0 <= self.allowed_drop <= 1:
            raise ValueError(f"allowed_drop must be in [0, 1], got {self.allowed_drop!r}")
        if not 0 < self.validation < 1:
            raise ValueError(f"validation must be in (0, 1), got {self.validation!r}")
        if not 0 < self.step <= 1:
            raise ValueError(f"step must be in (0, 1], got {self.step!r}")

    def repair(
        self,
        subject: Subject,
        evidence: Sequence[Evidence],  # noqa: ARG002 - needs none
        *,
        rng: np.random.Generator,
        progress: Progress,
    ) -> ImageClassifier:
        """A pruned and tuned copy of the model; the evidence is not used.

        Raises:
            NotApplicableError: No model, no trusted pictures, they do not fit, or the network has
                no convolution whose channels a linear layer reads.
            ModelError: The loss became NaN.
        """
        classifier, trusted = subject_of(subject)
        channels = find_channels(classifier, trusted.batch(np.zeros(1, dtype=np.int64)))
        validation, ranking = split(trusted, self.validation, rng)
        activations = mean_activations(classifier, channels, ranking)
        pruned = self.choose(classifier, channels, activations, validation, progress)

        passes = passes_over(
            trusted, epochs=self.epochs, min_steps=self.min_steps, batch_size=self.batch_size
        )
        tuned = tune(
            classifier.replaced(guarded(classifier.module, channels, pruned)),
            trusted,
            passes=passes,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            shift=self.shift,
            frozen_statistics=self.frozen_statistics,
            rng=rng,
            progress=progress,
        )
        module = copy.deepcopy(classifier.module)
        module.load_state_dict(tuned.module.state_dict())
        silence(module, channels, pruned)
        repaired = classifier.replaced(module)
        repaired.meter.forward += tuned.meter.forward
        repaired.meter.backward += tuned.meter.backward
        return repaired

    def choose(
        self,
        classifier: ImageClassifier,
        channels: Channels,
        activations: np.ndarray[tuple[int], np.dtype[np.float64]],
        validation: ImageData,
        progress: Progress,
    ) -> IntArray:
        """The channels to prune: the least active ones, as many as the allowed drop permits.

        Pruning stops at the first network below the allowed accuracy, and the one before it counts.
        Ties in activation go to the lower channel.

        Args:
            classifier: The model; its weights are not changed, and its meter counts the passes.
            channels: What can be pruned.
            activations: Mean activation of every channel, shape (channels.count,).
            validation: Pictures that decide.
            progress: Told after every step.
        """
        candidates = channels.prunable()
        order = candidates[np.argsort(activations[candidates], kind="stable")]
        before = _right(classifier, validation)
        most = self.allowed_drop * len(validation) + 1e-9
        step = max(1, round(self.step * len(order)))
        good = order[:0]
        # The last channel is never pruned: a network that sees nothing is no repair.
        for end in range(step, len(order), step):
            trial = classifier.replaced(classifier.module)
            silence(trial.module, channels, order[:end])
            right = _right(trial, validation)
            classifier.meter.forward += trial.meter.forward
            progress(end, len(order), "pruning")
            if before - right > most:
                break
            good = order[:end]
        return good


def _right(classifier: ImageClassifier, data: ImageData) -> int:
    """How many pictures get their label."""
    return int((predict(classifier, data) == data.labels).sum())
