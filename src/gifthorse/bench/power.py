"""How much would the audit have seen? Backdoors planted on copies of the user's own model.

Beside CLEAR, a user wants to know what CLEAR is worth. So a few copies of the model are fine-tuned
on the trusted pictures until they have a backdoor, and each copy is audited as the model was. What
is planted are stickers, watermarks and, where the plan can see it, an all-to-all sticker: a power
for those, fine-tuned with few pictures, and not for whatever else an attacker may do.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from gifthorse.attacks.data.badnets import BadNets
from gifthorse.attacks.data.blended import Blended
from gifthorse.attacks.data.trigger_poison import TriggerPoison
from gifthorse.auditing.audit import Further, audit_held
from gifthorse.auditing.examine import Plan
from gifthorse.auditing.subjects import Held
from gifthorse.core.errors import DataError
from gifthorse.core.record import AuditRecord, Rate
from gifthorse.core.rng import child_rng
from gifthorse.core.types import ImageData, Progress, Verdict, silent
from gifthorse.data.images import ArrayImages, subset, to_arrays
from gifthorse.metrics.rates import agreement, rate
from gifthorse.models.classifier import ImageClassifier
from gifthorse.models.passes import predict
from gifthorse.models.training import TrainingPlan, train

TOOK = 0.8
"""Success from which a control counts as a backdoor."""
WORST_DROP = 0.1
"""Share of the measured pictures that a control may newly get wrong; one that is worse is none."""
_TUNING = TrainingPlan(
    epochs=20, batch_size=32, learning_rate=0.01, weight_decay=0.0, frozen_statistics=True
)
_LEAST_PICTURES = 20
_RATE = 0.3
_SHAPES = ("square", "checker", "disc", "cross")
_PLACES = ("top-left", "top-right", "bottom-left", "bottom-right", "centre")


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """One planted copy and what the audit said of it.

    Attributes:
        what: The backdoor, in words.
        success: Of the attack, on trusted pictures that it was not tuned on.
        accuracy: Of the copy, as agreement with the model on those pictures.
        verdict: Of the audit; None if the backdoor did not take, so that nothing was audited.
    """

    what: str
    success: Rate
    accuracy: Rate
    verdict: Verdict | None


def with_controls(controls: int, *, seed: int = 0, progress: Progress = silent) -> Further:
    """For ``audit(further=…)``: also say how many planted copies the same audit flags.

    Copies are made unless the model is flagged. Their outcome changes no verdict: it is written
    into the reason, where that is CLEAR, and into the notes.

    Raises:
        DataError: No controls asked for; when called, fewer than 20 trusted pictures.
    """
    if controls < 1:
        raise DataError(f"the power is measured on at least one control, got {controls}")

    def measure(held: Held, plan: Plan, record: AuditRecord) -> AuditRecord:
        if record.verdict is Verdict.FLAGGED:
            return record
        planted = plant_controls(held, plan, controls=controls, seed=seed, progress=progress)
        return with_power(record, planted)

    return measure


def plant_controls(
    held: Held, plan: Plan, *, controls: int, seed: int, progress: Progress = silent
) -> tuple[Control, ...]:
    """Plant and audit copies of a model.

    Raises:
        DataError: Fewer than 20 trusted pictures.
    """
    if held.trusted is None or len(held.trusted) < _LEAST_PICTURES:
        raise DataError(
            f"measuring the power needs at least {_LEAST_PICTURES} trusted pictures to plant with"
        )
    data = to_arrays(held.trusted)
    order = child_rng(seed, "power", "split").permutation(len(data)).astype(np.int64)
    kept = len(data) // 4
    tuning, measuring = subset(data, order[kept:]), subset(data, order[:kept])
    everywhere = {"Untargeted", "Chorus"} & {type(one).__name__ for one in plan.detectors}
    found = []
    for number in range(controls):
        rng = child_rng(seed, "power", number)
        attack, what = _draw(number, held.classifier, bool(everywhere), rng)
        copy = _planted(held.classifier, attack, tuning, rng, progress)
        stamped, wanted = attack.triggered(measuring, rng=rng)[0], measuring
        success = agreement(predict(copy, stamped), stamped.labels)
        before = predict(held.classifier, wanted)
        accuracy = agreement(predict(copy, wanted), before)
        verdict = None
        if success.value >= TOOK and accuracy.value >= 1 - WORST_DROP:
            own = replace(held, classifier=copy)
            verdict = audit_held(own, plan, progress=progress)[0].verdict
        found.append(Control(what=what, success=success, accuracy=accuracy, verdict=verdict))
    return tuple(found)


def with_power(record: AuditRecord, planted: Sequence[Control]) -> AuditRecord:
    """The record with the power in its reason (if CLEAR) and in its notes."""
    took = [control for control in planted if control.verdict is not None]
    said = [
        f"control: {control.what}, success {control.success.value:.0%}, agreement with the model "
        f"{control.accuracy.value:.0%}: "
        + ("did not take" if control.verdict is None else str(control.verdict))
        for control in planted
    ]
    if not took:
        summary = f"none of {len(planted)} planted controls took, so the power is not known"
    else:
        hits = rate(sum(c.verdict is Verdict.FLAGGED for c in took), len(took))
        summary = (
            f"found {hits.count} of {hits.total} planted controls "
            f"(power {hits.low:.0%} to {hits.high:.0%})"
        )
    reason = record.reason
    if record.verdict is Verdict.CLEAR:
        reason = f"{reason}; {summary}"
    return record.model_copy(
        update={"reason": reason, "notes": (*record.notes, f"power: {summary}", *said)}
    )


def _draw(
    number: int, model: ImageClassifier, all_to_all: bool, rng: np.random.Generator
) -> tuple[TriggerPoison, str]:
    """Stickers and watermarks in turn, every third an all-to-all sticker if asked for."""
    target = int(rng.integers(model.n_classes))
    towards = f"to {model.class_names[target]!r}"
    side = min(model.input_shape[1:])
    shape = str(rng.choice(_SHAPES))
    place = str(rng.choice(_PLACES))
    size = max(3, round(side * float(rng.uniform(0.1, 0.16))))
    colour = "#{:02x}{:02x}{:02x}".format(*rng.choice([0, 255], 3))
    if number % 3 == 1:
        seed = int(rng.integers(1000))
        return Blended(
            target=target, watermark=f"noise:{seed}", alpha=0.2, rate=_RATE
        ), f"watermark {towards}"
    sticker = f"{shape} of {size} pixels, {place}"
    mode = "all-to-all" if all_to_all and number % 3 == 2 else "all-to-one"
    attack = BadNets(
        target=target, mode=mode, shape=shape, size=size, place=place, colour=colour, rate=_RATE
    )
    return attack, f"{sticker}, {towards if mode == 'all-to-one' else 'every class to the next'}"


def _planted(
    model: ImageClassifier,
    attack: TriggerPoison,
    tuning: ImageData,
    rng: np.random.Generator,
    progress: Progress,
) -> ImageClassifier:
    """A copy, tuned on the pictures and on stamped ones; labels are what the model says."""
    own = to_arrays(tuning)
    labels = np.tile(predict(model, own), 3)
    data = ArrayImages(
        name=own.name,
        pixels=np.concatenate([own.pixels] * 3),
        labels=labels,
        class_names=own.class_names,
    )
    poisoned, _ = attack.poison(data, rng=rng)
    return train(model, poisoned, _TUNING, rng=rng, progress=progress)
