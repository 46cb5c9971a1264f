"""Runs the missing trials of a study on an engine, and writes every result to the ledger.

The engine does the work; this process alone writes records. A trial is claimed before it is handed
out, and starts only when what it builds on is in the ledger, so several runners can share one.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from gifthorse.bench.ledger import Claim, Ledger
from gifthorse.bench.study import Study, Trial, grid
from gifthorse.bench.superseded import changed, in_words
from gifthorse.bench.trial_record import Circumstances, TrialRecord
from gifthorse.bench.trials import Outcome, Place, Work, label, run_trial
from gifthorse.core.types import Progress, silent

_POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A trial that an engine has ended: with an outcome, or lost with a reason."""

    trial: Trial
    outcome: Outcome | None
    reason: str = ""


class Engine(Protocol):
    """Where trials run. ``slots`` is how many it takes before it wants to be waited for."""

    @property
    def name(self) -> str:
        """For records."""

    @property
    def slots(self) -> int:
        """Trials that may be handed out at a time: back-pressure."""

    def submit(self, trial: Trial, work: Work, place: Place) -> None:
        """Take a trial; at most ``slots`` are in flight."""

    def wait(self) -> list[Finished]:
        """Block until at least one trial has ended."""

    def close(self) -> None:
        """Stop what is in flight; nothing of it is recorded."""


@dataclass(slots=True)
class InProcess:
    """One trial at a time, here."""

    progress: Progress = silent
    _waiting: list[tuple[Trial, Work, Place]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """For records."""
        return "in-process"

    @property
    def slots(self) -> int:
        """One."""
        return 1

    def submit(self, trial: Trial, work: Work, place: Place) -> None:
        """Keep the trial until somebody waits."""
        self._waiting.append((trial, work, place))

    def wait(self) -> list[Finished]:
        """Run it."""
        trial, work, place = self._waiting.pop()
        return [Finished(trial=trial, outcome=work(trial, place, self.progress))]

    def close(self) -> None:
        """Nothing runs on."""
        self._waiting.clear()


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How far a run is; ``seconds_left`` is None until something can be estimated."""

    done: int
    total: int
    what: str
    seconds_left: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a run came to.

    Attributes:
        total: Trials of the study.
        present: In the ledger before.
        ran: Done now, failures included.
        elsewhere: Done meanwhile by another runner.
        failed: (what, why) of every trial of the study without a result that should have one.
        notes: Files that were set aside.
        changed: Methods whose source changed since the ledger was written, and how many trials
            were run again for that.
    """

    total: int
    present: int
    ran: int
    elsewhere: int
    failed: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    changed: dict[str, int] = field(default_factory=dict)


def run_study(
    study: Study,
    root: Path,
    *,
    engine: Engine | None = None,
    work: Work = run_trial,
    retry_failed: bool = False,
    watch: Callable[[Standing], None] = lambda _: None,
) -> Summary:
    """Run what is missing of a study.

    Args:
        study: From ``read_study``.
        root: Directory of the ledger; made if it is not there.
        engine: Where trials run; in this process by default.
        work: What is done for a trial.
        retry_failed: Also run trials again that failed before.
        watch: Told after every trial.

    Raises:
        LedgerError: The ledger cannot be written; what was recorded stays.
    """
    ledger = Ledger.create(root)
    notes = ledger.set_aside()
    ledger.keep_study(study)
    engine = engine or InProcess()
    run = _Run(ledger, study, engine, work, watch, retry_failed=retry_failed)
    try:
        run.loop()
    finally:
        engine.close()
        run.release_all()
    return run.summary(notes)


class _Run:
    """The state of one run."""

    def __init__(
        self,
        ledger: Ledger,
        study: Study,
        engine: Engine,
        work: Work,
        watch: Callable[[Standing], None],
        *,
        retry_failed: bool,
    ) -> None:
        self.ledger, self.engine, self.work, self.watch = ledger, engine, work, watch
        self.trials = {trial.id: trial for trial in grid(study)}
        self.needs = {i: tuple(t.id for t in trial.after()) for i, trial in self.trials.items()}
        held = ledger.records()
        self.changed = changed(self.trials.values(), held)
        known = {record.id: record for record in held if record.id in self.trials}
        self.good = {i for i, record in known.items() if record.status != "failed"}
        self.bad = {i: r.reason for i, r in known.items() if r.status == "failed"}
        if retry_failed:
            self.bad = {}
        self.present = len(self.good) + len(self.bad)
        self.claims: dict[str, Claim] = {}
        self.ran = self.elsewhere = 0
        self.start = time.monotonic()
        cuda = study.resources.gpus > 0
        self.place = Place(
            root=ledger.root.resolve(),
            cpus=study.resources.cpus,
            device="cuda" if cuda else "cpu",
            engine=engine.name,
        )

    def loop(self) -> None:
        """Hand out, wait, write; until nothing is left that can be done."""
        if self.changed:
            self._tell(f"run again, because the method changed: {in_words(self.changed)}")
        todo = deque(i for i in self.trials if i not in self.good and i not in self.bad)
        while todo or self.claims:
            handed = self._hand_out(todo)
            if self.claims:
                for finished in self.engine.wait():
                    self._keep(finished)
            elif todo and not handed:
                if all(self._blocked(i) for i in todo):
                    return
                time.sleep(_POLL_SECONDS)  # the rest is in the hands of another runner

    def _hand_out(self, todo: deque[str]) -> bool:
        """Fill the engine, in order; True if anything moved."""
        moved = False
        for _ in range(len(todo)):
            if len(self.claims) >= self.engine.slots:
                break
            ident = todo.popleft()
            if not all(need in self.good for need in self.needs[ident]):
                todo.append(ident)
                continue
            claim = self.ledger.claim(ident)
            if claim is None or self._found(ident):
                moved = self._done_elsewhere(ident, claim, todo) or moved
                continue
            self.claims[ident] = claim
            self.engine.submit(self.trials[ident], self.work, self.place)
            moved = True
        return moved

    def _found(self, ident: str) -> bool:
        return (self.ledger.root / "trials" / f"{ident}.json").exists()

    def _done_elsewhere(self, ident: str, claim: Claim | None, todo: deque[str]) -> bool:
        if claim is not None:
            claim.release()
            self.good.add(ident)
            self.elsewhere += 1
            self._tell("another runner")
            return True
        todo.append(ident)
        return False

    def _keep(self, finished: Finished) -> None:
        trial = finished.trial
        outcome = finished.outcome or self._lost(trial, finished.reason)
        record = outcome.record
        if outcome.arrays:
            record = record.model_copy(update={"arrays": self.ledger.write_arrays(outcome.arrays)})
        self.ledger.write(record)
        self.claims.pop(trial.id).release()
        self.ran += 1
        if record.status == "failed":
            self.bad[trial.id] = record.reason
        else:
            self.good.add(trial.id)
        self._tell(" × ".join(record.label))

    def _lost(self, trial: Trial, reason: str) -> Outcome:
        return Outcome(
            record=TrialRecord(
                id=trial.id,
                trial=trial,
                label=label(trial),
                status="failed",
                reason=reason,
                circumstances=Circumstances(engine=self.engine.name),
            )
        )

    def _blocked(self, ident: str) -> bool:
        needs = self.needs[ident]
        return any(need in self.bad or self._blocked(need) for need in needs)

    def _tell(self, what: str) -> None:
        done, total = len(self.good) + len(self.bad), len(self.trials)
        spent, fresh = time.monotonic() - self.start, self.ran + self.elsewhere
        left = spent / fresh * (total - done) if fresh else None
        self.watch(Standing(done=done, total=total, what=what, seconds_left=left))

    def release_all(self) -> None:
        """Give free what was claimed and not finished."""
        for claim in self.claims.values():
            claim.release()
        self.claims.clear()

    def summary(self, notes: Iterable[str]) -> Summary:
        """What is to be said at the end."""
        failed = []
        for ident, trial in self.trials.items():
            if ident in self.bad:
                failed.append((_named(trial), self.bad[ident]))
            elif ident not in self.good:
                failed.append((_named(trial), "not run: what it builds on failed"))
        return Summary(
            total=len(self.trials),
            present=self.present,
            ran=self.ran,
            elsewhere=self.elsewhere,
            failed=tuple(failed),
            notes=tuple(notes),
            changed=self.changed,
        )


def _named(trial: Trial) -> str:
    attack, defence = label(trial)
    return f"{attack} × {defence}, seed {trial.seed}"
