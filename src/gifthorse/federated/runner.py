"""Runs the trials of a study that the ledger does not hold yet, here or in worker processes."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

from gifthorse.core.errors import IncompleteError
from gifthorse.core.rounds_record import TrialRecord, TrialSpec
from gifthorse.core.types import Progress, silent
from gifthorse.federated.ledger import Ledger
from gifthorse.federated.rounds import run_trial
from gifthorse.federated.study import Study

Run = Callable[[Sequence[TrialSpec]], Iterator[TrialRecord]]
"""``run(todo)``: records of these trials, in any order."""


def run_study(
    study: Study,
    ledger: Ledger,
    *,
    workers: int = 1,
    run: Run | None = None,
    progress: Progress = silent,
) -> tuple[TrialRecord, ...]:
    """Run what is missing; records come back in the order of the study.

    Every trial runs on one thread, so neither the number of workers nor an interruption changes a
    bit of the records (times apart). A trial that is finished is in the ledger at once.

    Args:
        study: What to run.
        ledger: Where records go.
        workers: Processes on this machine.
        run: Something else that runs trials, such as Ray; None for ``workers`` processes.
        progress: Called after every trial.

    Raises:
        SpecError, DataError: A trial cannot be run as it is described.
        IncompleteError: A worker process died.
    """
    specs = study.trials()
    todo = [spec for spec in specs if ledger.find(spec) is None]
    done = len(specs) - len(todo)
    progress(done, len(specs), "trials")
    for record in run(todo) if run is not None else _run(todo, workers):
        ledger.add(record)
        done += 1
        progress(done, len(specs), "trials")
    found = [ledger.find(spec) for spec in specs]
    return tuple(record for record in found if record is not None)


def _run(todo: Sequence[TrialSpec], workers: int) -> Iterator[TrialRecord]:
    if workers <= 1 or len(todo) <= 1:
        yield from map(run_alone, todo)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(todo)), mp_context=spawn) as pool:
        futures = [pool.submit(run_alone, spec) for spec in todo]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise IncompleteError(
                "a worker process died (out of memory?); what was finished is in the ledger, "
                "run the study again to go on"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def run_alone(spec: TrialSpec) -> TrialRecord:
    """One trial on one thread: sums over several threads depend on their number."""
    from threadpoolctl import threadpool_limits

    if spec.network == "cnn":
        import torch

        torch.set_num_threads(1)
    with threadpool_limits(1):
        return run_trial(spec).record
