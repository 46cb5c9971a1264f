"""The same trials on Ray."""

import os
import signal
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from gifthorse.bench.ledger import Ledger
from gifthorse.bench.runner import Engine, run_study
from gifthorse.bench.study import Resources, Trial
from gifthorse.bench.trial_record import Circumstances, TrialRecord
from gifthorse.bench.trials import Outcome, Place, label
from gifthorse.core.errors import GifthorseError, LedgerError
from gifthorse.core.types import Progress

from . import tiny

pytest.importorskip("ray")
pytestmark = [
    pytest.mark.slow,  # a Ray of one's own takes some seconds to start
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def engine() -> Engine:
    from gifthorse.bench.ray_engine import RayEngine

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return RayEngine(Resources(), cpus=2)


def work(shared: Path) -> Callable[[Trial, Place, Progress], Outcome]:
    """Work that Ray can send to a worker, which does not know this file."""
    pids = str(shared)

    def run(trial: Trial, place: Place, progress: Progress) -> Outcome:
        import os as worker_os
        import pathlib
        import time as worker_time

        import numpy as np

        from gifthorse.bench.trial_record import Quality
        from gifthorse.metrics.rates import rate

        pathlib.Path(pids, str(worker_os.getpid())).touch()
        worker_time.sleep(0.02)
        count = int(trial.id[:4], 16) % 101
        record = TrialRecord(
            id=trial.id,
            trial=trial,
            label=label(trial),
            status="done",
            quality=Quality(clean_accuracy=rate(count, 100)),
            circumstances=Circumstances(engine=place.engine),
        )
        return Outcome(record=record, arrays={"scores": np.arange(count, dtype=np.float64)})

    return run


def test_a_killed_worker_costs_nothing(tmp_path: Path) -> None:
    study, pids = tiny.study(8), tmp_path / "pids"
    pids.mkdir()
    killed: list[int] = []

    def kill_one(_: object) -> None:
        for path in pids.iterdir():
            if len(killed) < 3 and int(path.name) not in killed:
                os.kill(int(path.name), signal.SIGKILL)
                killed.append(int(path.name))
                time.sleep(0.2)
                return

    summary = run_study(study, tmp_path / "ray", engine=engine(), work=work(pids), watch=kill_one)
    assert len(killed) == 3
    assert (summary.ran, summary.failed) == (64, ())
    run_study(study, tmp_path / "here", work=tiny.empty)
    assert tiny.contents(tmp_path / "ray") == tiny.contents(tmp_path / "here")
    assert {r.circumstances.engine for r in Ledger.open(tmp_path / "ray").records()} == {"ray"}


def test_a_worker_that_always_dies_is_a_failure_and_not_the_end(tmp_path: Path) -> None:
    def dies(trial: Trial, place: Place, progress: Progress) -> Outcome:
        import os as worker_os

        worker_os._exit(1)

    summary = run_study(tiny.study(1), tmp_path / "l", engine=engine(), work=dies)
    assert summary.ran == 1
    assert "lost by Ray" in summary.failed[0][1]


def test_a_full_disk_over_there_ends_the_run(tmp_path: Path) -> None:
    def full(trial: Trial, place: Place, progress: Progress) -> Outcome:
        raise LedgerError("cannot keep the planted model: No space left on device")

    with pytest.raises(LedgerError, match="No space left"):
        run_study(tiny.study(1), tmp_path / "l", engine=engine(), work=full)
    assert Ledger.open(tmp_path / "l").records() == []


def test_resources_that_no_node_has_are_refused() -> None:
    from gifthorse.bench.ray_engine import RayEngine

    with pytest.raises(GifthorseError, match="no node"):
        RayEngine(Resources(gpus=64), cpus=2)


def test_real_trials_give_the_same_metrics(tmp_path: Path) -> None:
    from .test_trials import study

    small = study().model_copy(update={"detectors": study().detectors[1:2], "repairs": ()})
    run_study(small, tmp_path / "here")
    summary = run_study(small, tmp_path / "ray", engine=engine())
    assert summary.failed == ()
    assert tiny.contents(tmp_path / "ray") == tiny.contents(tmp_path / "here")
