"""What every repair that trains has in common: how long, how fast, and on which pictures.

Trusted sets are small, so the length is counted in steps as well as in passes: one pass over 100
pictures is four steps of 32, after which no repair has done anything yet.
"""

import numpy as np

from gifthorse.core.errors import NotApplicableError
from gifthorse.core.types import ImageData, Progress, Subject
from gifthorse.models.classifier import ImageClassifier, as_classifier
from gifthorse.models.training import TrainingPlan, train

MIN_PICTURES = 2
"""Batch normalisation and stochastic gradients mean nothing on a single picture."""


def check_tuning(
    *, epochs: int, min_steps: int, batch_size: int, learning_rate: float, shift: int
) -> None:
    """Refuse options that make no sense.

    Raises:
        ValueError: The text names the option, what was got and what was expected.
    """
    for name, value, least in (
        ("epochs", epochs, 1),
        ("min_steps", min_steps, 0),
        ("batch_size", batch_size, 2),
        ("shift", shift, 0),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
    if not (np.isfinite(learning_rate) and learning_rate > 0):
        raise ValueError(f"learning_rate must be finite and positive, got {learning_rate!r}")


def passes_over(data: ImageData, *, epochs: int, min_steps: int, batch_size: int) -> int:
    """Passes over the data that are at least ``epochs`` and make at least ``min_steps`` steps."""
    steps_a_pass = -(-len(data) // batch_size)
    return max(epochs, -(-min_steps // steps_a_pass))


def subject_of(subject: Subject) -> tuple[ImageClassifier, ImageData]:
    """The classifier to repair and the trusted pictures to repair it with.

    Raises:
        NotApplicableError: One of them is missing, too small, or does not fit the other.
    """
    classifier = as_classifier(subject.model)
    trusted = subject.trusted
    if trusted is None:
        raise NotApplicableError("needs trusted pictures (some that you know are clean)")
    if len(trusted) < MIN_PICTURES:
        raise NotApplicableError(
            f"{trusted.name}: {len(trusted)} trusted picture(s) to tune on; needs at least "
            f"{MIN_PICTURES}, and some of every class"
        )
    misfit = classifier.accepts(trusted.image_shape)
    if misfit:
        raise NotApplicableError(f"{trusted.name} does not fit {classifier.name}: {misfit}")
    return classifier, trusted


def tune(
    classifier: ImageClassifier,
    data: ImageData,
    *,
    passes: int,
    batch_size: int,
    learning_rate: float,
    shift: int,
    frozen_statistics: bool,
    rng: np.random.Generator,
    progress: Progress,
) -> ImageClassifier:
    """A tuned copy; see ``TrainingPlan`` for the options. The given classifier is not changed."""
    plan = TrainingPlan(
        epochs=passes,
        batch_size=batch_size,
        learning_rate=learning_rate,
        shift=shift,
        frozen_statistics=frozen_statistics,
    )
    return train(classifier, data, plan, rng=rng, progress=progress)
