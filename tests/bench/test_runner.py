"""The runner: only what is missing, in order, with others, and through failures."""

import errno
import os
import random
import signal
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from gifthorse.bench.ledger import Ledger
from gifthorse.bench.runner import Standing, run_study
from gifthorse.bench.study import Trial, grid
from gifthorse.bench.trials import Outcome, Place
from gifthorse.core.errors import LedgerError
from gifthorse.core.types import Progress

from . import tiny


def test_a_second_run_has_nothing_to_do(tmp_path: Path) -> None:
    first = run_study(tiny.study(2), tmp_path / "l", work=tiny.empty)
    assert (first.total, first.ran, first.failed) == (16, 16, ())
    second = run_study(tiny.study(2), tmp_path / "l", work=tiny.empty)
    assert (second.present, second.ran) == (16, 0)
    third = run_study(tiny.study(3), tmp_path / "l", work=tiny.empty)
    assert (third.present, third.ran) == (16, 8)


def test_progress_counts_up_and_estimates(tmp_path: Path) -> None:
    seen: list[Standing] = []
    run_study(tiny.study(1), tmp_path / "l", work=tiny.empty, watch=seen.append)
    assert [s.done for s in seen] == list(range(1, 9))
    assert seen[-1].seconds_left == 0


def test_a_failure_blocks_what_builds_on_it_and_can_be_tried_again(tmp_path: Path) -> None:
    study = tiny.study(1)
    planted = next(t for t in grid(study) if t.attack and t.role == "none")

    def broken(trial: Trial, place: Place, progress: Progress) -> Outcome:
        done = tiny.outcome(trial, place)
        if trial.id != planted.id:
            return done
        record = done.record.model_copy(update={"status": "failed", "reason": "bang"})
        return Outcome(record=record)

    first = run_study(study, tmp_path / "l", work=broken)
    assert first.ran == 5  # the clean twin with three defences, and the failure
    assert len(first.failed) == 4
    assert first.failed[0][1] == "bang"
    assert "what it builds on" in first.failed[1][1]
    again = run_study(study, tmp_path / "l", work=tiny.empty)
    assert (again.ran, len(again.failed)) == (0, 4)
    retried = run_study(study, tmp_path / "l", work=tiny.empty, retry_failed=True)
    assert (retried.ran, retried.failed) == (4, ())


def test_a_full_disk_ends_the_run_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, calls, real = tiny.study(2), [0], os.fsync

    def fills_up(descriptor: int) -> None:
        calls[0] += 1
        if calls[0] > 25:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fills_up)
        with pytest.raises(LedgerError, match="No space left"):
            run_study(study, tmp_path / "l", work=tiny.empty)
    kept = len(Ledger.open(tmp_path / "l").records())
    assert kept >= 3
    summary = run_study(study, tmp_path / "l", work=tiny.empty)
    assert (summary.present, summary.ran) == (kept, 16 - kept)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_ledger_is_said_before_any_work(tmp_path: Path) -> None:
    root = tmp_path / "l"
    run_study(tiny.study(1), root, work=tiny.empty)
    (root / "claims").chmod(0o500)
    with pytest.raises(LedgerError, match="Permission denied"):
        run_study(tiny.study(2), root, work=tiny.empty)
    assert len(Ledger.open(root).records()) == 8


def test_a_read_only_file_system_is_said_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "l"
    run_study(tiny.study(1), root, work=tiny.empty)

    def refuses(self: Path, data: bytes) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "write_bytes", refuses)
    with pytest.raises(LedgerError, match="Read-only"):
        run_study(tiny.study(2), root, work=tiny.empty)


def test_two_runners_share_the_work(tmp_path: Path) -> None:
    study, root, done = tiny.study(8), tmp_path / "l", []

    def run() -> None:
        done.append(run_study(study, root, work=tiny.short))

    runners = [threading.Thread(target=run) for _ in range(2)]
    for runner in runners:
        runner.start()
    for runner in runners:
        runner.join()
    assert sum(summary.ran for summary in done) == 64  # nothing was done twice
    assert min(summary.ran for summary in done) > 0
    alone = tmp_path / "alone"
    run_study(study, alone, work=tiny.short)
    assert tiny.contents(root) == tiny.contents(alone)


def in_a_child(run: Callable[[], object]) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads
        child = os.fork()
    if child == 0:
        run()
        os._exit(0)
    return child


def kept(root: Path) -> int:
    """Trials whose record stands in a ledger that somebody may be writing to."""
    return len(Ledger.open(root).records()) if (root / "ledger.json").exists() else 0


def killed_at_work(work: Callable[[], object], root: Path, rng: random.Random) -> bool:
    """Kill a child somewhere behind its next record or two; whether it was still at work."""
    goal = min(64, kept(root) + rng.randint(1, 2))
    child = in_a_child(work)
    deadline = time.monotonic() + 60
    while kept(root) < goal and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(rng.uniform(0, 0.005))
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def test_killed_twenty_times_the_ledger_is_that_of_an_undisturbed_run(tmp_path: Path) -> None:
    study, root, rng = tiny.study(8), tmp_path / "killed", random.Random(0)  # noqa: S311
    run_study(study, tmp_path / "whole", work=tiny.short)
    killed, sizes = 0, [0]
    for _ in range(20):
        killed += killed_at_work(lambda: run_study(study, root, work=tiny.short), root, rng)
        sizes.append(kept(root))
    assert killed >= 10  # it was disturbed while it worked
    assert sizes == sorted(sizes)
    assert len(set(sizes)) >= 10
    run_study(study, root, work=tiny.short)
    assert tiny.contents(root) == tiny.contents(tmp_path / "whole")
    assert len(Ledger.open(root).records()) == 64
