"""Cost of the runner: milliseconds a trial that does nothing, and what a second worker brings.

python benchmarks/bench_runner.py            # all of it, about two minutes on two idle cores
python benchmarks/bench_runner.py --trials 200 --work-trials 8

On a machine that is busy with other work, clocks say little. So processor time is printed too, and
for the speed-up also how busy the workers were kept: the share of worker time that was spent inside
trials. Two workers that are kept busy, and that need no more processor time a trial than one alone,
are limited by nothing of ours: their speed-up on idle cores is twice the ratio of the two. Ray runs
its workers at niceness 15 unless RAY_worker_niceness says otherwise.
"""

import argparse
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np

from gifthorse.bench.ledger import Ledger
from gifthorse.bench.ray_engine import RayEngine
from gifthorse.bench.runner import Engine, InProcess, run_study
from gifthorse.bench.study import Resources, Study, Trial, parse_study
from gifthorse.bench.trial_record import Circumstances, TrialRecord
from gifthorse.bench.trials import Outcome, Place, Work, label
from gifthorse.core.record import CostRecord
from gifthorse.core.types import Progress


def study(trials: int) -> Study:
    """One clean twin and one attack a seed, no defence: two trials a seed."""
    raw = {"title": "empty", "seeds": list(range(trials // 2)), "attack": [{"name": "badnets"}]}
    return parse_study(raw)


def empty(trial: Trial, place: Place, progress: Progress) -> Outcome:  # noqa: ARG001
    return told(trial, place, CostRecord(**NOTHING))


NOTHING = {"seconds": 0, "forward_passes": 0, "backward_passes": 0, "peak_memory_mib": 0}


def told(trial: Trial, place: Place, cost: CostRecord) -> Outcome:
    circumstances = Circumstances(engine=place.engine, cost=cost)
    return Outcome(
        record=TrialRecord(
            id=trial.id,
            trial=trial,
            label=label(trial),
            status="done",
            circumstances=circumstances,
        )
    )


def busy(trial: Trial, place: Place, progress: Progress) -> Outcome:  # noqa: ARG001
    """About half a second of one thread: products of small matrices, which fit into the cache."""
    start, spent = time.perf_counter(), time.process_time()
    rng = np.random.default_rng(trial.seed)
    a, b = rng.random((64, 64)), rng.random((64, 64))
    for _ in range(40_000):
        b = a @ b
        b /= b.max()
    times = {
        "seconds": time.perf_counter() - start,
        "processor_seconds": time.process_time() - spent,
    }
    return told(trial, place, CostRecord(**{**NOTHING, **times}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Of a run: clock up to the last record, leaving the engine, processor time, and the trials.

    Leaving Ray takes about a second, however many trials there were: no cost of a trial.
    """

    seconds: float
    leaving: float
    processor: float
    inside: float
    worked: float


def measured(trials: int, work: Work, engine: Engine) -> Run:
    """A whole run; the engine is started before."""
    ended: list[float] = []
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "ledger"
        start, spent = time.perf_counter(), time.process_time()
        summary = run_study(
            study(trials),
            root,
            engine=engine,
            work=work,
            watch=lambda _: ended.append(time.perf_counter()),
        )
        seconds, processor = ended[-1] - start, time.process_time() - spent
        leaving = time.perf_counter() - ended[-1]
        costs = [record.circumstances.cost for record in Ledger.open(root).records()]
    assert summary.ran == trials
    return Run(
        seconds=seconds,
        leaving=leaving,
        processor=processor,
        inside=sum(cost.seconds for cost in costs),
        worked=sum(cost.processor_seconds for cost in costs),
    )


def ray(workers: int) -> Engine:
    """A Ray of our own whose workers have started and imported everything."""
    engine = RayEngine(Resources(), cpus=workers)
    for trial in range(2 * workers):
        with tempfile.TemporaryDirectory() as place:
            from gifthorse.bench.study import grid

            engine.submit(grid(study(2 * workers))[trial], empty, Place(root=Path(place)))
            engine.wait()
    return engine


def speed_up(trials: int) -> None:
    one, two = measured(trials, busy, ray(1)), measured(trials, busy, ray(2))
    kept_busy = one.inside / one.seconds, two.inside / (2 * two.seconds)
    dearer = two.worked / one.worked
    print(
        f"{trials} trials of one thread: {one.seconds:.1f} s with one worker, {two.seconds:.1f} s "
        f"with two: speed-up {one.seconds / two.seconds:.2f}; workers inside trials "
        f"{kept_busy[0]:.1%} and {kept_busy[1]:.1%} of the time, {one.worked / trials:.2f} and "
        f"{two.worked / trials:.2f} s of processor time a trial; so on idle cores "
        f"{2 * kept_busy[1] / kept_busy[0] / max(1.0, dearer):.2f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--work-trials", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    print(f"load before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for name, engine in (("in-process", InProcess()), ("ray, 2 workers", ray(2))):
        run = measured(given.trials, empty, engine)
        print(
            f"{name}: {1000 * run.seconds / given.trials:.2f} ms a trial ({given.trials} empty), "
            f"{1000 * run.processor / given.trials:.2f} ms of processor time in this process; "
            f"{run.leaving:.1f} s to leave",
            flush=True,
        )
    for _ in range(given.rounds):
        speed_up(given.work_trials)
    print(f"load after: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
