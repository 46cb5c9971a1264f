"""After the fact: a trial of a ledger is played again, and what it left behind is written down.

The ledger holds no models and no updates, only digests. A trial is deterministic, so playing it
again gives both, and the digest proves that it is the same trial.
"""

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from gifthorse.core.clients import Updates
from gifthorse.core.errors import DataError, RecordError
from gifthorse.core.rng import child_rng
from gifthorse.core.rounds_record import TrialRecord, TrialSpec
from gifthorse.core.types import Progress, ScoreArray, silent
from gifthorse.federated.ledger import Ledger
from gifthorse.federated.lineage import write_lineage
from gifthorse.federated.removal import replay, write_round
from gifthorse.federated.rounds import TrialResult, context_of, methods, run_trial
from gifthorse.federated.world import World, build_world
from gifthorse.models.local import train_locally
from gifthorse.provenance.runs import files_of

HEAL = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Of a global model, shares in [0, 1]."""

    clean_accuracy: float
    attack_success: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Aftermath:
    """What was written.

    Attributes:
        model: Directory of the final global model, for ``gifthorse audit``.
        store: Who contributed to what, for ``gifthorse trace --store``.
        updates: Directory of the stored updates.
        before: Of the final model.
        mended: Directory of the model without the clients that were named; None if none were.
        after: Of that model.
        heal: Rounds in which the others trained it further before it was written.
        unhealed: Of the model before them; None if nobody was taken out.
    """

    model: Path
    store: Path
    updates: Path
    before: Rates
    mended: Path | None
    after: Rates | None
    heal: int
    unhealed: Rates | None


def find_trial(ledger: Ledger, key: str) -> TrialRecord:
    """The record whose key starts so.

    Raises:
        DataError: None, or more than one.
    """
    records = tuple(ledger)
    found = [record for record in records if record.spec.key().startswith(key)]
    if len(found) == 1:
        return found[0]
    listed = "; ".join(
        f"{r.spec.key()} ({r.spec.attack}, {r.spec.defence}, alpha {r.spec.alpha:g}, "
        f"seed {r.spec.seed})"
        for r in (found or records)[:30]
    )
    raise DataError(
        f"{key!r} is the start of {len(found)} trials of {ledger.place}; expected 1 of: {listed}"
    )


def replay_trial(
    record: TrialRecord,
    place: Path,
    *,
    without: Collection[str] = (),
    heal: int = HEAL,
    progress: Progress = silent,
) -> Aftermath:
    """Play a trial again, write its model, updates and provenance, and take clients out of it.

    Args:
        record: Of the trial.
        place: A directory that does not exist or is empty.
        without: Clients whose influence is to be removed.
        heal: Rounds of ordinary training by the others after that. What honest clients sent was
            meant for another model, so the replayed one is worse than it need be.
        progress: Called once a round.

    Raises:
        DataError: The place is taken, or a client never sent an update.
        RecordError: The trial comes out differently here, so nothing would be known of that one.
    """
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise DataError(f"{place} exists and is not empty; choose another place")
    spec = record.spec
    world = build_world(spec)
    result = run_trial(spec, keep_updates=True, progress=progress, world=world)
    if result.record.digest != record.digest:
        raise RecordError(
            f"trial {spec.key()} comes out as {result.record.digest[:19]}… here and as "
            f"{record.digest[:19]}… in the ledger (written with {record.versions}); play it again "
            "with those versions"
        )
    replayed = _replayed(result, world, without) if without else None
    mended = None if replayed is None else healed(spec, world, replayed, without, heal)
    updates = place / "updates"
    updates.mkdir(parents=True)
    for one in result.stored:
        write_round(updates, one)
    _save(world, spec.network, result.model, place / "model")
    store = write_lineage(
        result.stored,
        result.model,
        world.learner.layout,
        place,
        name=f"trial {spec.key()}",
        parameters={"defence": spec.defence, "data": spec.data, "seed": spec.seed},
        files=files_of(place / "model"),
    )
    if mended is not None:
        _save(world, spec.network, mended, place / "mended")
    return Aftermath(
        model=place / "model",
        store=store,
        updates=updates,
        before=_rates(world, result.model),
        mended=None if mended is None else place / "mended",
        after=None if mended is None else _rates(world, mended),
        heal=heal if without else 0,
        unhealed=None if replayed is None else _rates(world, replayed),
    )


def healed(
    spec: TrialSpec, world: World, model: ScoreArray, without: Collection[str], rounds: int
) -> ScoreArray:
    """The model (d,) after more rounds of all other clients under the same defence."""
    defence, memory = methods(spec)[0], dict[str, ScoreArray]()
    names = tuple(sorted(set(world.held) - set(without)))
    if not names:
        raise DataError("no client is left to train the model further")
    for round_ in range(spec.rounds, spec.rounds + rounds):
        local = [
            train_locally(
                world.learner,
                model,
                *world.held[name],
                world.plan,
                rng=child_rng(spec.seed, "round", round_, name),
            )
            for name in names
        ]
        updates = Updates(
            clients=names, deltas=np.stack(local) - model, weights=np.ones(len(names))
        )
        outcome = defence.aggregate(updates, context_of(spec, world, round_, model, memory))
        model = (model + outcome.delta).astype(np.float32).astype(np.float64)
        memory = dict(outcome.memory)
    return model


def _replayed(result: TrialResult, world: World, without: Collection[str]) -> ScoreArray:
    spec = result.record.spec
    return replay(
        result.initial,
        result.stored,
        methods(spec)[0],
        partial(context_of, spec, world),
        without=without,
    )


def _rates(world: World, model: ScoreArray) -> Rates:
    return Rates(
        clean_accuracy=world.clean_accuracy(model), attack_success=world.attack_success(model)
    )


def _save(world: World, network: str, model: ScoreArray, place: Path) -> None:
    from gifthorse.models.flat_model import flat_classifier
    from gifthorse.models.saving import save_classifier

    classifier = flat_classifier(
        model,
        world.learner.layout,
        network=network,
        image_shape=world.image_shape,
        class_names=world.class_names,
    )
    save_classifier(classifier, place)
