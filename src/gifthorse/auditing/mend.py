"""Repairs a model, and refuses the result if it costs more than the user allows.

The trusted pictures are split: the repair tunes on one part, and accuracy before and after is
measured on the other, which the repair never sees. That is all a defender can measure: whether the
backdoor is gone is for a new audit to say.

How the uncertainty of a small held-back part is treated: the point estimate decides, on the same
pictures before and after, so what is compared is the number of pictures lost less those gained;
pictures on which both agree add no noise. The record holds both rates with their 95 % intervals,
and notes how many pictures changed, and when one picture alone is more than the allowed drop. An
interval does not decide: with 50 pictures its lower end would refuse every repair, good or bad, and
its upper end accept nearly all.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gifthorse.auditing.examine import cost_record, spec_record
from gifthorse.auditing.subjects import model_record
from gifthorse.core.errors import DataError, ModelError, NotApplicableError, RepairRefusedError
from gifthorse.core.protocols import Repair
from gifthorse.core.record import Rate, RepairRecord
from gifthorse.core.rng import child_rng
from gifthorse.core.types import (
    Cost,
    Evidence,
    ImageData,
    IntArray,
    Need,
    Progress,
    Subject,
    silent,
)
from gifthorse.data.images import batches
from gifthorse.data.splits import split
from gifthorse.metrics.rates import agreement
from gifthorse.models.classifier import ImageClassifier, as_classifier
from gifthorse.models.passes import metered, predict

MIN_A_CLASS = 2
"""One picture to tune on and one to measure with."""


def mend(
    classifier: ImageClassifier,
    trusted: ImageData,
    repair: Repair,
    evidence: Sequence[Evidence] = (),
    *,
    allowed_drop: float = 0.02,
    held_back: float = 0.5,
    seed: int = 0,
    progress: Progress = silent,
) -> tuple[ImageClassifier | None, RepairRecord]:
    """Repair a copy of a model and decide whether it may replace the original.

    Args:
        classifier: The model; it is not changed.
        trusted: Pictures that the user vouches for, with the model's classes as labels, at least
            two of every class that occurs.
        repair: The plugin.
        evidence: Of the audit that flagged the model; for a repair that needs its triggers.
        allowed_drop: How much accuracy on the held-back pictures may fall, in [0, 1].
        held_back: Share of the trusted pictures that is kept from the repair, in (0, 1).
        seed: Of the split and of the repair.
        progress: Told during the work.

    Returns:
        The repaired model, or None if it was refused; and the record, which says why.

    Raises:
        DataError: The trusted pictures do not fit the model, are too few, or hold NaN; or an
            option is out of its range.
        NotApplicableError: The repair cannot work on this model.
        RepairRefusedError: The repair left nothing that could be measured: training diverged, or
            the repaired model gives NaN.
        ModelError: The model to repair is itself broken.
    """
    _check_options(allowed_drop, held_back)
    _check_trusted(classifier, trusted)
    _check_needs(classifier, trusted, repair)
    spec = spec_record("repairs", repair)
    original = model_record(classifier)
    tuning, held = _parts(trusted, held_back, child_rng(seed, "mend", "split"))
    with metered(classifier) as bill:
        before = predict(classifier, held, progress=progress)
        repaired = _repaired(classifier, tuning, repair, evidence, seed, progress)
        after = _measured(repaired, held, progress)
    if repaired is classifier or classifier.digest() != original.digest:
        raise ModelError(
            f"{spec.name} changed the model that it was given instead of a copy; the plugin is "
            "broken, open the model anew"
        )
    outcome = judged(before, after, held.labels, allowed_drop)
    seen = (
        f"the repair saw {len(tuning)} of {len(trusted)} trusted pictures; accuracy was measured "
        f"on the other {len(held)}"
    )
    record = RepairRecord(
        accepted=outcome.accepted,
        reason=outcome.reason,
        repair=spec,
        paper=repair.paper,
        subject=original,
        repaired_digest=repaired.digest() if outcome.accepted else None,
        accuracy_before=outcome.before,
        accuracy_after=outcome.after,
        allowed_drop=allowed_drop,
        notes=(seen, *outcome.notes),
        # What was spent on the copy stands on its own meter.
        cost=cost_record(bill.cost + _spent_on(repaired)),
    )
    return (repaired if outcome.accepted else None), record


def _check_needs(classifier: ImageClassifier, trusted: ImageData, repair: Repair) -> None:
    # Without triggers a repair that acts on them refuses by itself, and says what to run first.
    given = classifier.offers | Subject(trusted=trusted).offers | {Need.TRIGGERS}
    missing = sorted(need.value for need in repair.needs - given)
    if missing:
        raise NotApplicableError(f"the repair needs {', '.join(missing)}, which was not given")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Whether a repair is kept, and why."""

    accepted: bool
    reason: str
    before: Rate
    after: Rate
    notes: tuple[str, ...]


def judged(
    before: IntArray,
    after: IntArray,
    labels: IntArray,
    allowed_drop: float,
    *,
    things: str = "pictures",
) -> Outcome:
    """Compare predictions on the same held-back samples, which people call ``things``."""
    rates = agreement(before, labels), agreement(after, labels)
    total = len(labels)
    fell = rates[0].count - rates[1].count
    accepted = fell <= allowed_drop * total + 1e-9
    lost = int(((before == labels) & (after != labels)).sum())
    gained = int(((before != labels) & (after == labels)).sum())
    notes = [
        f"of {total} held-back {things} the repaired model gets {lost} wrong that were right, and "
        f"{gained} right that were wrong"
    ]
    if allowed_drop * total < 1:
        notes.append(
            f"one of {total} held-back {things} is {100 / total:.1f} points, more than the allowed "
            f"{100 * allowed_drop:g}: no loss at all is accepted; give more trusted {things}"
        )
    verb = f"fell by {100 * fell / total:.1f} points" if fell > 0 else "did not fall"
    reason = (
        f"accuracy on {total} held-back {things} {verb}, from {rates[0].value:.1%} to "
        f"{rates[1].value:.1%}; allowed: {100 * allowed_drop:g} points"
    )
    return Outcome(
        accepted=accepted, reason=reason, before=rates[0], after=rates[1], notes=tuple(notes)
    )


def _repaired(
    classifier: ImageClassifier,
    tuning: ImageData,
    repair: Repair,
    evidence: Sequence[Evidence],
    seed: int,
    progress: Progress,
) -> ImageClassifier:
    try:
        model = repair.repair(
            Subject(model=classifier, trusted=tuning).granting(repair.needs),
            evidence if Need.TRIGGERS in repair.needs else (),
            rng=child_rng(seed, "mend", "repair"),
            progress=progress,
        )
    except ModelError as error:  # the model itself was measured to work
        raise RepairRefusedError(f"the repair failed and nothing was kept: {error}") from error
    return as_classifier(model)


def _measured(repaired: ImageClassifier, held: ImageData, progress: Progress) -> IntArray:
    try:
        return predict(repaired, held, progress=progress)
    except ModelError as error:
        raise RepairRefusedError(
            f"the repair broke the model and nothing was kept: {error}; lower the learning rate"
        ) from error


def _spent_on(repaired: ImageClassifier) -> Cost:
    meter = repaired.meter
    return Cost(forward_passes=meter.forward, backward_passes=meter.backward)


def _check_options(allowed_drop: float, held_back: float) -> None:
    if not 0 <= allowed_drop <= 1:
        raise DataError(f"the allowed drop must be in [0, 1], got {allowed_drop!r}")
    if not 0 < held_back < 1:
        raise DataError(f"the held-back share must be in (0, 1), got {held_back!r}")


def _check_trusted(classifier: ImageClassifier, trusted: ImageData) -> None:
    """Everything that would otherwise fail late, or worse, go unnoticed."""
    if len(trusted) == 0:
        raise DataError(f"{trusted.name}: got 0 trusted pictures, needs some of every class")
    misfit = classifier.accepts(trusted.image_shape)
    if misfit:
        raise DataError(f"{trusted.name} does not fit {classifier.name}: {misfit}")
    labels = trusted.labels
    if labels.min() < 0 or labels.max() >= classifier.n_classes:
        raise DataError(
            f"{trusted.name} has labels in [{labels.min()}, {labels.max()}] and {classifier.name} "
            f"knows classes 0 to {classifier.n_classes - 1}"
        )
    counts = np.bincount(labels, minlength=classifier.n_classes)
    few = np.flatnonzero((counts > 0) & (counts < MIN_A_CLASS))
    if len(few):
        raise DataError(
            f"{trusted.name}: class {classifier.class_names[few[0]]!r} has {counts[few[0]]} "
            f"trusted picture(s); give at least {MIN_A_CLASS} of every class, one to tune on and "
            "one to measure with"
        )
    if (counts > 0).sum() < 2:
        raise DataError(
            f"{trusted.name}: all {len(trusted)} trusted pictures are of one class; give some of "
            "every class"
        )
    for indices, values in batches(trusted):
        finite = np.isfinite(values).all(axis=(1, 2, 3))
        if not finite.all():
            raise DataError(
                f"{trusted.name}: trusted picture {int(indices[~finite][0])} holds NaN or infinite "
                "values; leave it out"
            )


def _parts(
    trusted: ImageData, held_back: float, rng: np.random.Generator
) -> tuple[ImageData, ImageData]:
    """(tuning part, held-back part), stratified and disjoint."""
    held, tuning = split(trusted, held_back, rng)
    return tuning, held
