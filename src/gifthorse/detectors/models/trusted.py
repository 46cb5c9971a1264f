"""What every model detector checks before it spends time: are these pictures any use?"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gifthorse.core.errors import NotApplicableError
from gifthorse.core.types import ImageData, Subject
from gifthorse.metrics.outliers import MIN_UNITS
from gifthorse.models.classifier import ImageClassifier, as_classifier
from gifthorse.models.passes import to_tensor


@dataclass(frozen=True, slots=True)
class Probe:
    """Trusted pictures on the device.

    Attributes:
        x: Pixels in [0, 1], shape (n, c, h, w).
        y: The model's own clean predictions, shape (n,): a detector asks what moves a picture away
            from where the model puts it, so its rare mistakes must not count as backdoors.
    """

    x: Tensor
    y: Tensor

    @property
    def shape(self) -> tuple[int, int, int]:
        """(c, h, w) of one picture."""
        return (self.x.shape[1], self.x.shape[2], self.x.shape[3])


def probe_of(
    subject: Subject, *, samples: int, rng: np.random.Generator
) -> tuple[ImageClassifier, Probe]:
    """The classifier and up to ``samples`` trusted pictures, as even over classes as they come.

    Raises:
        NotApplicableError: No trusted pictures, pictures that do not fit the model, or fewer than
            four classes: the other classes of the same model are its control group.
    """
    classifier = as_classifier(subject.model)
    if subject.trusted is None:
        raise NotApplicableError("needs trusted pictures (some that you know are clean)")
    misfit = classifier.accepts(subject.trusted.image_shape)
    if misfit:
        raise NotApplicableError(f"the trusted pictures do not fit: {misfit}")
    if classifier.n_classes < MIN_UNITS:
        raise NotApplicableError(
            f"the model has {classifier.n_classes} classes; comparing classes with each other "
            f"needs at least {MIN_UNITS}"
        )
    chosen = _balanced(subject.trusted, samples, rng)
    x = to_tensor(classifier, subject.trusted.batch(chosen))
    with torch.inference_mode():
        y = classifier.logits(x).argmax(1)
    return classifier, Probe(x=x, y=y.clone())


def _balanced(
    data: ImageData, count: int, rng: np.random.Generator
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Round robin over shuffled classes, so that every class is there if it can be."""
    order = rng.permutation(len(data))
    labels = data.labels[order]
    turn = np.zeros(len(order), dtype=np.int64)
    for label in np.unique(labels):
        members = labels == label
        turn[members] = np.arange(members.sum())
    return np.asarray(order[np.argsort(turn, kind="stable")][:count], dtype=np.int64)
