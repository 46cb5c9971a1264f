"""Rules about what attacks on pictures do (our own)."""

from typing import Any

import numpy as np
import torch

from gifthorse.core.errors import DataError
from gifthorse.core.protocols import reach_of
from gifthorse.core.registry import plugin_class
from gifthorse.core.types import Planting, Reach, silent
from gifthorse.data.images import subset
from gifthorse.models.classifier import as_classifier
from gifthorse.testing.rules import require, require_same
from gifthorse.testing.workbench import Workbench, all_of


def leaves_behind_what_it_may(kind: str, name: str, bench: Workbench) -> None:
    """Data attacks leave data and a truth that names every change; others leave a model."""
    clean = bench.photographs
    planting = planted(kind, name, bench)
    truth = planting.truth
    if reach_of(plugin_class(kind, name)) is not Reach.DATA:
        require(planting.model is not None, f"{name} leaves no model behind")
        touched = truth.poisoned.any() or truth.covered.any()
        require(not touched, f"{name} names poisoned samples, and has touched no data")
        return
    data = planting.data
    if data is None or len(data) != len(clean):
        require(False, f"{name} leaves another number of samples behind")
        return
    require(bool(truth.poisoned.any()), f"{name} poisons nothing")
    require(not (truth.poisoned & truth.covered).any(), f"{name}: poisoned and cover at once")
    changed = (data.batch(np.arange(len(data))) != all_of(clean)).any(axis=(1, 2, 3))
    hidden = changed & ~(truth.poisoned | truth.covered)
    require(not hidden.any(), f"{name} changes samples that the truth does not name")
    require(changed[truth.poisoned].mean() > 0.9, f"{name}: poisoned samples without a trigger")
    relabelled = (data.labels != clean.labels) & ~truth.poisoned
    require(not relabelled.any(), f"{name} relabels samples that the truth does not name")


def plants_the_same_for_a_seed(kind: str, name: str, bench: Workbench) -> None:
    """``rng`` decides the poison and the strike; torch's own generator does not."""
    clean = bench.photographs
    prints = []
    for noise in (1, 99):
        torch.manual_seed(noise)
        planting = planted(kind, name, bench, seed=1)
        stamped, _ = planting.strike.triggered(clean, rng=np.random.default_rng(0))
        struck = stamped.batch(np.arange(len(stamped))).tobytes()
        prints.append((_fingerprint(planting), struck))
    require(prints[0] == prints[1], f"{name} draws from a generator of its own")


def leaves_data_and_victim_alone(kind: str, name: str, bench: Workbench) -> None:
    """Neither the clean pictures nor the attacked model are changed."""
    clean = bench.photographs
    before = all_of(clean).tobytes(), clean.labels.tobytes()
    victim = bench.trainer.fit(clean, rng=np.random.default_rng(9))
    digest = victim.digest()
    planting = planted(kind, name, bench, victim=victim)
    planting.strike.triggered(clean, rng=np.random.default_rng(0))
    after = all_of(clean).tobytes(), clean.labels.tobytes()
    require(after == before, f"{name} changes the clean data")
    require(victim.digest() == digest, f"{name} changes the victim")


def strikes_pictures_of_other_classes_alone(kind: str, name: str, bench: Workbench) -> None:
    """Attack success is measured on pictures that are not of the wanted class already."""
    clean = bench.photographs
    strike = planted(kind, name, bench).strike
    wanted, true = strike.triggered(clean, rng=np.random.default_rng(0))
    require(len(wanted) == len(true) > 0, f"{name} strikes nothing")
    rows = np.arange(len(true))
    require_same(wanted.batch(rows), true.batch(rows), f"{name}: two sets of pictures")
    require(bool((wanted.labels != true.labels).all()), f"{name} counts the target's own pictures")


def refuses_a_class_that_is_not_there(kind: str, name: str, bench: Workbench) -> None:
    """Target 77 of four classes is a ``DataError`` that says so."""
    if "target" not in plugin_class(kind, name).__dataclass_fields__:
        return
    try:
        planted(kind, name, bench, target=77)
    except DataError as refused:
        require("is no class of" in str(refused), f"{name}: refuses target 77 with {refused}")
        return
    require(False, f"{name} takes target 77 of four classes")


ATTACKS = (
    leaves_behind_what_it_may,
    plants_the_same_for_a_seed,
    leaves_data_and_victim_alone,
    strikes_pictures_of_other_classes_alone,
    refuses_a_class_that_is_not_there,
)


def planted(
    kind: str, name: str, bench: Workbench, *, seed: int = 0, victim: Any = None, **options: Any
) -> Planting:
    """What an attack of any kind leaves behind on the pictures of a workbench."""
    cls, clean = plugin_class(kind, name), bench.photographs
    rng = np.random.default_rng(seed)
    if reach_of(cls) is Reach.WEIGHTS:
        # With their own options: they refuse to edit a network with a trigger not yet learned.
        made = cls(**options)
        victim = victim or bench.trainer.fit(clean, rng=np.random.default_rng(9))
        samples = subset(clean, np.arange(min(made.samples, 80))) if made.samples else None
        return made.tamper(victim, samples, rng=rng, progress=silent)  # type: ignore[no-any-return]
    made = bench.plugin(kind, name, **options)
    if hasattr(made, "poison"):
        data, truth = made.poison(clean, rng=rng)
        return Planting(truth=truth, strike=made, data=data)
    plant = made.craft if hasattr(made, "craft") else made.subvert
    return plant(clean, trainer=bench.trainer, rng=rng, progress=silent)  # type: ignore[no-any-return]


def _fingerprint(planting: Planting) -> tuple[Any, ...]:
    if planting.data is not None:
        pixels = planting.data.batch(np.arange(len(planting.data)))
        return pixels.tobytes(), planting.data.labels.tobytes()
    return (as_classifier(planting.model).digest(),)
