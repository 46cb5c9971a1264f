"""Rules about what detectors and repairs do (our own)."""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from gifthorse.core.errors import NotApplicableError
from gifthorse.core.types import Evidence, Need, Subject, Unit, silent
from gifthorse.metrics.rates import roc_auc
from gifthorse.models.classifier import ImageClassifier, as_classifier
from gifthorse.testing.rules import require, require_same
from gifthorse.testing.workbench import Workbench

_PASSES = frozenset({Need.LOGITS, Need.GRADIENTS})


def gives_the_same_scores_for_a_seed(kind: str, name: str, bench: Workbench) -> None:
    """Finite scores of the declared unit, decided by ``rng`` and not by torch's own generator."""
    detector = bench.plugin(kind, name)
    seen = []
    for noise in (1, 99):
        found = _inspect(detector, bench.subject.granting(detector.needs), noise)
        if found is None:
            return
        seen.append(found)
    one, other = seen
    require(one.unit is detector.unit, f"{name} scores another unit than it declares")
    require(bool(np.isfinite(one.scores).all()), f"{name} gives scores that are not finite")
    require_same(one.scores, other.scores, f"{name} draws from a generator of its own")
    require(one.statistic == other.statistic, f"{name} draws from a generator of its own")
    if detector.unit is Unit.SAMPLE:
        require(len(one.scores) == len(bench.suspect), f"{name} does not score every sample")


def has_a_null_of_the_right_sign(kind: str, name: str, bench: Workbench) -> None:
    """A higher statistic is less likely if clean, and a rarer alarm needs a higher one.

    A detector that only a reference bank can judge refuses with a reason.
    """
    detector = bench.plugin(kind, name)
    found = _inspect(detector, bench.subject.granting(detector.needs), 1)
    if found is None:
        return
    try:
        null = detector.null(found)
    except NotApplicableError as refused:
        require(len(str(refused)) > 10, f"{name} refuses to judge without a reason")
        return
    p = null.p_value(found.statistic)
    require(0 < p <= 1, f"{name}: a p-value of {p}")
    require(null.p_value(found.statistic + 1) <= p, f"{name}: the p-value rises with the statistic")
    strict, lax = null.threshold(0.01).value, null.threshold(0.1).value
    require(strict >= lax, f"{name}: a threshold of {strict} at 1 % and {lax} at 10 %")
    require(bool(null.origin), f"{name}: the null does not say where it comes from")


def scores_poisoned_samples_higher(kind: str, name: str, bench: Workbench) -> None:
    """Of samples with the target's label, poisoned ones score higher than clean ones on average.

    Held to detectors of data. What a perturbation does to a single picture depends on the pictures,
    so detectors of inputs are held to it by efficacy tests on real ones.
    """
    detector = bench.plugin(kind, name)
    if detector.unit is not Unit.SAMPLE or hasattr(detector, "scorer"):
        return
    found = _inspect(detector, bench.subject.granting(detector.needs), 1)
    if found is None:
        return
    rows = bench.suspect.labels == 0
    area = roc_auc(found.scores[rows], bench.poisoned[rows])
    require(area > 0.5, f"{name}: clean samples score higher than poisoned ones (AUC {area:.2f})")


def leaves_what_it_examines_alone(kind: str, name: str, bench: Workbench) -> None:
    """Model, data and features are the same bits afterwards."""
    detector = bench.plugin(kind, name)
    before = bench.snapshot()
    _inspect(detector, bench.subject.granting(detector.needs), 1)
    require(bench.snapshot() == before, f"{name} changes what it was given")


def has_its_passes_counted(kind: str, name: str, bench: Workbench) -> None:
    """Passes through the model are counted, if it declares that it makes any."""
    detector = bench.plugin(kind, name)
    if not detector.needs & _PASSES:
        return
    spent = bench.model.meter.forward
    found = _inspect(detector, bench.subject.granting(detector.needs), 1)
    counted = bench.model.meter.forward > spent
    require(counted or found is None, f"{name} goes round the meter of passes")


def refuses_what_lacks_a_need(kind: str, name: str, bench: Workbench) -> None:
    """Without something that it declared, it says so: ``NotApplicableError``, with a reason."""
    plugin = bench.plugin(kind, name)

    def attempt(subject: Subject) -> None:
        if kind == "repairs":
            _repair(plugin, subject, bench, 1)
        else:
            plugin.inspect(subject, rng=np.random.default_rng(0), progress=silent)

    granted = bench.subject.granting(plugin.needs)
    for need, poorer in _poorer(granted, plugin.needs):
        _must_refuse(functools.partial(attempt, poorer), f"{name} without {need}")
    if Need.TRIGGERS in plugin.needs:
        bare = functools.partial(plugin.repair, granted, [], rng=np.random.default_rng(0))
        _must_refuse(functools.partial(bare, progress=silent), f"{name} without triggers")


def repairs_a_copy_and_a_seed_decides_it(kind: str, name: str, bench: Workbench) -> None:
    """The given model stays; the copy is frozen, in evaluation mode, and decided by ``rng``."""
    repair = bench.plugin(kind, name)
    before = bench.snapshot()
    fixed: list[ImageClassifier] = []
    for noise in (1, 99):
        made = _repair(repair, bench.subject.granting(repair.needs), bench, noise)
        if made is None:
            return
        fixed.append(made)
    one, other = fixed
    require(one is not bench.model, f"{name} returns the model itself")
    require(bench.snapshot() == before, f"{name} changes what it was given")
    require(one.digest() == other.digest(), f"{name} draws from a generator of its own")
    frozen = not one.module.training and not any(p.requires_grad for p in one.module.parameters())
    require(frozen, f"{name} returns a model that is not frozen")


def has_its_cost_recorded(kind: str, name: str, bench: Workbench) -> None:
    """``mend`` records seconds, and backward passes if it declares gradients."""
    from gifthorse.auditing.mend import mend

    repair = bench.plugin(kind, name)
    try:
        _, record = mend(bench.model, bench.trusted, repair, [bench.evidence], allowed_drop=1.0)
    except NotApplicableError as refused:
        require(len(str(refused)) > 10, f"{name} refuses without a reason")
        return
    require(record.cost.seconds > 0, f"{name} takes no time")
    backward = record.cost.backward_passes > 0
    declared = Need.GRADIENTS in repair.needs
    require(backward == declared, f"{name}: gradients declared {declared}, taken {backward}")


DETECTORS = (
    gives_the_same_scores_for_a_seed,
    has_a_null_of_the_right_sign,
    scores_poisoned_samples_higher,
    leaves_what_it_examines_alone,
    has_its_passes_counted,
    refuses_what_lacks_a_need,
)
REPAIRS = (
    repairs_a_copy_and_a_seed_decides_it,
    has_its_cost_recorded,
    refuses_what_lacks_a_need,
)


def _inspect(detector: Any, subject: Subject, noise: int) -> Evidence | None:
    """What it sees; None if it refuses this subject, which it must do with a reason."""
    torch.manual_seed(noise)  # the global generator must not matter
    try:
        seen = detector.inspect(subject, rng=np.random.default_rng(3), progress=silent)
    except NotApplicableError as refused:
        require(len(str(refused)) > 10, "a refusal without a reason")
        return None
    require(isinstance(seen, Evidence), "no evidence was returned")
    return seen  # type: ignore[no-any-return]


def _repair(repair: Any, subject: Subject, bench: Workbench, noise: int) -> ImageClassifier | None:
    torch.manual_seed(noise)
    rng = np.random.default_rng(3)
    evidence = [bench.evidence] if Need.TRIGGERS in repair.needs else []
    if subject.model is None or (Need.TRUSTED in repair.needs and subject.trusted is None):
        repair.repair(subject, evidence, rng=rng, progress=silent)
        return None
    try:
        made = repair.repair(subject, evidence, rng=rng, progress=silent)
    except NotApplicableError as refused:
        require(len(str(refused)) > 10, "a refusal without a reason")
        return None
    return as_classifier(made)


def _poorer(subject: Subject, needs: frozenset[Need]) -> list[tuple[str, Subject]]:
    """The subject without each of the things that were declared."""
    found = []
    if subject.model is not None:
        found.append(("the model", replace(subject, model=None)))
    if Need.TRUSTED in needs:
        found.append(("trusted samples", replace(subject, trusted=None)))
    if Need.SUSPECT_DATA in needs:
        found.append(("suspect data", replace(subject, suspect=None, features=None)))
    return found


def _must_refuse(attempt: Callable[[], None], what: str) -> None:
    try:
        attempt()
    except NotApplicableError as refused:
        require(len(str(refused)) > 10, f"{what}: a refusal without a reason")
        return
    except Exception as error:  # noqa: BLE001 - whatever it is, it is no refusal
        require(False, f"{what}: fails with {error!r} instead of refusing")
    require(False, f"{what}: does not refuse")
