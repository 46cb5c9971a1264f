"""What to do with flagged samples: leave them out, relabel them, or set them apart."""

from dataclasses import dataclass

import numpy as np

from gifthorse.core.errors import DataError
from gifthorse.core.types import ImageData, IntArray
from gifthorse.data.images import subset
from gifthorse.data.relabelled import Relabelled
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.passes import predict


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleaned:
    """A data set after its suspects were dealt with.

    Attributes:
        kept: What to train on.
        quarantined: The suspects with the labels they came with, to look at; None if there are
            none.
        indices: Which samples of the original those are, sorted, shape (k,).
    """

    kept: ImageData
    quarantined: ImageData | None
    indices: IntArray


def without(data: ImageData, suspects: IntArray) -> Cleaned:
    """Leave the suspects out and set them apart.

    Args:
        data: The data set that was scanned.
        suspects: Indices, as from ``suspects_of(record)``, any order.

    Raises:
        DataError: An index that the data set does not have, or nothing would be left.
    """
    chosen = _checked(data, suspects)
    if not len(chosen):
        return Cleaned(kept=data, quarantined=None, indices=chosen)
    rest = np.setdiff1d(np.arange(len(data), dtype=np.int64), chosen)
    if not len(rest):
        raise DataError(f"{data.name}: all {len(data)} samples are suspects; nothing would be left")
    return Cleaned(kept=subset(data, rest), quarantined=subset(data, chosen), indices=chosen)


def relabelled(data: ImageData, suspects: IntArray, judge: ImageClassifier) -> Cleaned:
    """Give the suspects the label that a model says which was *not* trained on them.

    Args:
        data: The data set that was scanned.
        suspects: Indices, any order.
        judge: Trained without the suspects, on ``without(data, suspects).kept``; one that was
            trained on them says what the attacker wants.

    Raises:
        DataError: An index that the data set does not have, or another number of classes.
    """
    chosen = _checked(data, suspects)
    if judge.n_classes != len(data.class_names):
        raise DataError(
            f"{judge.name} knows {judge.n_classes} classes and {data.name} has "
            f"{len(data.class_names)}"
        )
    if not len(chosen):
        return Cleaned(kept=data, quarantined=None, indices=chosen)
    apart = subset(data, chosen)
    labels = data.labels.copy()
    labels[chosen] = predict(judge, apart)
    kept = Relabelled(data=data, labels=labels, class_names=data.class_names)
    return Cleaned(kept=kept, quarantined=apart, indices=chosen)


def _checked(data: ImageData, suspects: IntArray) -> IntArray:
    chosen = np.unique(np.asarray(suspects, dtype=np.int64))
    if len(chosen) and not (chosen[0] >= 0 and chosen[-1] < len(data)):
        raise DataError(
            f"{data.name} has {len(data)} samples; index "
            f"{int(chosen[-1] if chosen[-1] >= len(data) else chosen[0])} is not one of them"
        )
    return chosen
