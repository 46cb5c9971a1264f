"""The round loop: deterministic, in one process, the same bits whatever runs beside it.

Every random stream is derived from the seed, the round and the client's name, so neither the order
of clients nor the number of workers changes anything. Honest clients draw the same whatever the
defence and the attack are: trials of one seed are paired.
"""

import time
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from gifthorse.core.clients import Aggregate, Aggregator, AttackTask, ClientAttack, RoundContext
from gifthorse.core.errors import SpecError
from gifthorse.core.registry import build, parse_spec
from gifthorse.core.rng import child_rng
from gifthorse.core.rounds_record import (
    QuarantineRecord,
    RoundRecord,
    TrialRecord,
    TrialSpec,
    rounds_digest,
)
from gifthorse.core.types import Progress, ScoreArray, silent
from gifthorse.federated.gate import Admission, Gate, Reply, Schema
from gifthorse.federated.hostile import HOSTILE, kinds
from gifthorse.federated.removal import StoredRound, model_mark, stored_round
from gifthorse.federated.world import World, build_world, client_name
from gifthorse.models.local import sample_span, train_locally

AFTER = 15
"""Rounds between the end of the attack and the last look at what is left of it."""
METRIC = "loss"


@dataclass(slots=True, kw_only=True)
class Server:
    """What a server carries from round to round.

    Attributes:
        model: The global model, shape (d,).
        previous: The last step, shape (d,).
        memory: Of the defence.
        seen: Digests of all admitted replies.
        seconds: Spent in the aggregator.
    """

    model: ScoreArray
    previous: ScoreArray
    memory: dict[str, ScoreArray] = field(default_factory=dict)
    seen: frozenset[str] = frozenset()
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialResult:
    """A record, the final global model, and the updates that led to it if they were asked for."""

    record: TrialRecord
    initial: ScoreArray
    model: ScoreArray
    stored: tuple[StoredRound, ...]


def methods(spec: TrialSpec) -> tuple[Aggregator, ClientAttack | None]:
    """The defence and the attack that a spec names.

    Raises:
        SpecError: An unknown name, or options that a method refuses.
    """
    defence: Aggregator = build("aggregators", parse_spec(spec.defence))
    if spec.attack == "none":
        return defence, None
    return defence, build("client_attacks", parse_spec(spec.attack))


def run_trial(
    spec: TrialSpec,
    *,
    keep_updates: bool = False,
    progress: Progress = silent,
    world: World | None = None,
) -> TrialResult:
    """Run one trial.

    Args:
        spec: What to run.
        keep_updates: Also return every admitted update (rounds · clients · d numbers).
        progress: Called once a round.
        world: Of this spec, if it was built already.

    Raises:
        SpecError, DataError: The settings do not fit together or the data is not there.
    """
    started = time.perf_counter()
    defence, attack = methods(spec)
    world = world or build_world(spec)
    initial = world.learner.initial(child_rng(spec.seed, "network"))
    server = Server(model=initial, previous=np.zeros_like(initial))
    entries: list[RoundRecord] = []
    stored: list[StoredRound] = []
    first: dict[str, Reply] = {}
    for round_ in range(spec.rounds):
        malicious = attackers_of(spec, round_) if attack is not None else ()
        replies, asked = _replies(spec, world, server, attack, malicious, round_, first)
        admission = Gate().admit(
            replies,
            schema=schema_of(world),
            current=server.model,
            round_=round_,
            weights=dict.fromkeys(asked, 1.0),
            seen=server.seen,
        )
        before = server.model
        outcome = _aggregate(spec, world, server, defence, admission, round_)
        if keep_updates:
            stored.append(stored_round(round_, before, admission, outcome))
        entries.append(_entry(world, server, admission, outcome, malicious, round_))
        progress(round_ + 1, spec.rounds, "rounds")
    record = summarise(spec, tuple(entries), server.seconds, time.perf_counter() - started)
    return TrialResult(record=record, initial=initial, model=server.model, stored=tuple(stored))


def schema_of(world: World) -> Schema:
    """What replies of simulated clients look like: single precision, one metric."""
    layout = world.learner.layout
    return Schema(
        layout=layout,
        types=dict.fromkeys(layout.names, np.dtype(np.float32)),
        metrics=frozenset({METRIC}),
    )


def attackers_of(spec: TrialSpec, round_: int) -> tuple[str, ...]:
    """Who attacks in a round if asked: nobody outside the window."""
    inside = spec.window[0] <= round_ < spec.window[1]
    on_time = (round_ - spec.window[0]) % spec.every == 0
    return tuple(client_name(i) for i in range(spec.attackers)) if inside and on_time else ()


def cohort(spec: TrialSpec, round_: int) -> list[str]:
    """Whom the server asks in a round.

    With a fixed pool the draw is blind. With fixed frequency every attacking round has all
    attackers and every other round has none.
    """
    rng = child_rng(spec.seed, "cohort", round_)
    everybody = [client_name(i) for i in range(spec.clients)]
    if spec.pool == "fixed":
        return sorted(rng.choice(everybody, size=spec.per_round, replace=False).tolist())
    bad = list(attackers_of(spec, round_))
    honest = everybody[spec.attackers :]
    chosen = rng.choice(honest, size=spec.per_round - len(bad), replace=False).tolist()
    return sorted([*bad, *chosen])


def _replies(
    spec: TrialSpec,
    world: World,
    server: Server,
    attack: ClientAttack | None,
    malicious: tuple[str, ...],
    round_: int,
    first: dict[str, Reply],
) -> tuple[list[Reply], list[str]]:
    asked = cohort(spec, round_)
    bad = [name for name in asked if name in malicious]
    replies = []
    for name in asked:
        rng = child_rng(spec.seed, "round", round_, name)
        x, y = world.held[name]
        if attack is not None and name in bad:
            task = AttackTask(
                learner=world.learner,
                current=server.model,
                previous=server.previous,
                x=x,
                y=y,
                plan=world.plan,
                backdoor=world.backdoor,
                position=bad.index(name),
                attackers=len(bad),
                replies=len(asked),
            )
            local = server.model + attack.craft(task, rng=rng)
        else:
            local = train_locally(world.learner, server.model, x, y, world.plan, rng=rng)
        replies.append(_reply(world, name, round_, local, len(y)))
    for position, kind in enumerate(kinds(spec.hostile)):
        name = f"hostile-{kind}"
        x, y = world.held[client_name(spec.clients - 1 - position % spec.clients)]
        rng = child_rng(spec.seed, "round", round_, name)
        local = train_locally(world.learner, server.model, x, y, world.plan, rng=rng)
        honest = _reply(world, name, round_, local, len(y))
        first.setdefault(name, honest)
        replies.extend(HOSTILE[kind][0](honest, first[name]))
        asked.append(name)
    return replies, asked


def _reply(world: World, name: str, round_: int, local: ScoreArray, examples: int) -> Reply:
    with np.errstate(over="ignore"):  # the gate sees to what does not fit single precision
        arrays = {k: v.astype(np.float32) for k, v in world.learner.layout.split(local).items()}
    return Reply(client=name, round=round_, arrays=arrays, examples=examples, metrics={METRIC: 0.0})


def _aggregate(
    spec: TrialSpec,
    world: World,
    server: Server,
    defence: Aggregator,
    admission: Admission,
    round_: int,
) -> Aggregate:
    """One step of the server's model, in place."""
    context = context_of(spec, world, round_, server.model, server.memory)
    started = time.perf_counter()
    outcome = defence.aggregate(admission.updates, context)
    server.seconds += time.perf_counter() - started
    if outcome.delta.shape != server.model.shape:
        raise SpecError(f"{spec.defence} returned a step of shape {outcome.delta.shape}")
    # Clients receive single precision, so that is what the server holds.
    following = (server.model + outcome.delta).astype(np.float32).astype(np.float64)
    server.previous, server.model = following - server.model, following
    server.memory = dict(outcome.memory)
    server.seen |= frozenset(admission.digests.values())
    return outcome


def context_of(
    spec: TrialSpec, world: World, round_: int, current: ScoreArray, memory: dict[str, ScoreArray]
) -> RoundContext:
    """What the server knows in a round besides the updates."""
    root, span = None, None
    if world.trusted is not None:
        x, y = world.trusted
        rng = child_rng(spec.seed, "round", round_, "server")
        root = train_locally(world.learner, current, x, y, world.plan, rng=rng) - current
        span = partial(sample_span, world.learner, current, x, y)
    return RoundContext(
        round=round_,
        current=current,
        layout=world.learner.layout,
        rng=child_rng(spec.seed, "round", round_, "defence"),
        root_delta=root,
        span=span,
        logits=world.learner.logits,
        trusted=world.trusted,
        image_shape=world.image_shape,
        memory=memory,
    )


def _entry(
    world: World,
    server: Server,
    admission: Admission,
    outcome: Aggregate,
    malicious: tuple[str, ...],
    round_: int,
) -> RoundRecord:
    names = admission.updates.clients
    pairs = list(zip(names, outcome.accepted.tolist(), strict=True))
    return RoundRecord(
        round=round_,
        clean_accuracy=world.clean_accuracy(server.model),
        attack_success=world.attack_success(server.model),
        malicious=tuple(name for name in names if name in malicious),
        accepted=tuple(name for name, ok in pairs if ok),
        rejected=tuple(name for name, ok in pairs if not ok),
        quarantined=tuple(
            QuarantineRecord(client=q.client, reason=q.reason, detail=q.detail)
            for q in admission.quarantined
        ),
        missing=admission.missing,
        fallback=outcome.fallback,
        replies={name: mark[:16] for name, mark in admission.digests.items()},
        model=model_mark(server.model),
    )


def summarise(
    spec: TrialSpec, rounds: tuple[RoundRecord, ...], aggregation: float, seconds: float
) -> TrialRecord:
    """The figures of a trial from its rounds."""
    start, stop = spec.window
    inside = rounds[start:stop]
    bad = [(n, r) for r in inside for n in r.malicious]
    good = [(n, r) for r in inside for n in (*r.accepted, *r.rejected) if n not in r.malicious]
    return TrialRecord(
        spec=spec,
        clean_accuracy=rounds[-1].clean_accuracy,
        attack_success_before=rounds[start - 1].attack_success if start else 0.0,
        attack_success_peak=max(r.attack_success for r in rounds[start:]),
        attack_success_end=rounds[stop - 1].attack_success,
        attack_success_after=rounds[min(stop - 1 + AFTER, len(rounds) - 1)].attack_success,
        rejected_malicious=_share([n in r.rejected for n, r in bad]),
        rejected_honest=_share([n in r.rejected for n, r in good]),
        fallbacks=sum(r.fallback is not None for r in rounds),
        rounds=rounds,
        digest=rounds_digest(spec, rounds),
        aggregation_seconds=aggregation,
        seconds=seconds,
    )


def _share(found: list[bool]) -> float | None:
    return sum(found) / len(found) if found else None


def twin(spec: TrialSpec) -> TrialSpec:
    """The same trial without an attack."""
    return spec.model_copy(update={"attack": "none"})
