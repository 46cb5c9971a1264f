"""Cost of the runner: milliseconds a trial that does nothing, and what a second worker brings.

python benchmarks/bench_runner.py            # all of it, about two minutes on two idle cores
python benchmarks/bench_runner.py --trials 200 --work-trials 8
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np

from gifthorse.bench.ray_engine import RayEngine
from gifthorse.bench.runner import Engine, InProcess, run_study
from gifthorse.bench.study import Resources, Study, Trial, parse_study
from gifthorse.bench.trial_record import Circumstances, TrialRecord
from gifthorse.bench.trials import Outcome, Place, label
from gifthorse.core.types import Progress


def study(trials: int) -> Study:
    """One clean twin and one attack a seed, no defence: two trials a seed."""
    raw = {"title": "empty", "seeds": list(range(trials // 2)), "attack": [{"name": "badnets"}]}
    return parse_study(raw)


def empty(trial: Trial, place: Place, progress: Progress) -> Outcome:  # noqa: ARG001
    circumstances = Circumstances(engine=place.engine)
    return Outcome(
        record=TrialRecord(
            id=trial.id,
            trial=trial,
            label=label(trial),
            status="done",
            circumstances=circumstances,
        )
    )


def busy(trial: Trial, place: Place, progress: Progress) -> Outcome:
    """About a second of one thread: products of small matrices, which fit into the cache."""
    rng = np.random.default_rng(trial.seed)
    a, b = rng.random((64, 64)), rng.random((64, 64))
    for _ in range(40_000):
        b = a @ b
        b /= b.max()
    return empty(trial, place, progress)


def measured(trials: int, work: object, engine: Engine) -> float:
    """Seconds of a whole run; the engine is started before."""
    with tempfile.TemporaryDirectory() as place:
        started = time.perf_counter()
        summary = run_study(study(trials), Path(place) / "ledger", engine=engine, work=work)  # type: ignore[arg-type]
        seconds = time.perf_counter() - started
    assert summary.ran == trials
    return seconds


def ray(workers: int) -> Engine:
    """A Ray of our own whose workers have started and imported everything."""
    engine = RayEngine(Resources(), cpus=workers)
    for trial in range(2 * workers):
        with tempfile.TemporaryDirectory() as place:
            from gifthorse.bench.study import grid

            engine.submit(grid(study(2 * workers))[trial], empty, Place(root=Path(place)))
            engine.wait()
    return engine


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--work-trials", type=int, default=16)
    given = parser.parse_args()
    print(f"load before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    seconds = measured(given.trials, empty, InProcess())
    print(f"in-process: {1000 * seconds / given.trials:.1f} ms a trial ({given.trials} empty)")
    seconds = measured(given.trials, empty, ray(2))
    print(f"ray, 2 workers: {1000 * seconds / given.trials:.1f} ms a trial ({given.trials} empty)")
    one = measured(given.work_trials, busy, ray(1))
    two = measured(given.work_trials, busy, ray(2))
    print(
        f"{given.work_trials} trials of one thread: {one:.1f} s with one worker, {two:.1f} s with "
        f"two: speed-up {one / two:.2f}"
    )
    print(f"load after: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
