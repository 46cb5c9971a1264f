"""The same trials on Ray: on this machine, or on a cluster that is already running.

Ray schedules, retries trials whose worker died, and keeps CPUs and GPUs apart; records are written
by the process that called it. On a cluster the ledger must lie on a file system that all nodes see,
because planted models are shared through it.
"""

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gifthorse.bench.runner import Finished
from gifthorse.bench.study import Resources, Trial
from gifthorse.bench.trials import Outcome, Place, Work
from gifthorse.core.errors import GifthorseError, LedgerError
from gifthorse.core.types import silent

_RETRIES = 3
"""How often a trial is run again whose worker was lost."""

_STARTS = 3
"""How often Ray is started on this machine before its failure is believed."""

_PATIENCE = 5.0
"""Seconds for a cluster's port to answer."""

_AHEAD = 2
"""Trials handed to Ray for each that can run: enough that no worker waits for this process."""


@dataclass(slots=True)
class RayEngine:
    """Trials as Ray tasks.

    Attributes:
        resources: CPUs and GPUs that one trial is given.
        address: Of a running cluster, or None for this machine.
        cpus: Processors that Ray may use on this machine; None for all.
    """

    resources: Resources
    address: str | None = None
    cpus: int | None = None
    _ray: Any = None
    _flight: dict[Any, Trial] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._ray = _ray()
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        local = {"include_dashboard": False, "num_cpus": self.cpus} if self.address is None else {}
        self._start(local)
        if self._capacity() < 1:
            self._ray.shutdown()
            raise GifthorseError(
                f"a trial wants {self.resources.cpus} CPUs and {self.resources.gpus:g} GPUs, and "
                "Ray has no node with that"
            )

    def _start(self, local: dict[str, Any]) -> None:
        """Ray gives itself half a minute to come up, which a busy machine may exceed: try again.

        Where nothing listens Ray keeps trying for ten minutes, so that is found out before.
        """
        _reach(self.address)
        for left in reversed(range(_STARTS if self.address is None else 1)):
            try:
                self._ray.init(
                    address=self.address or "local",
                    log_to_driver=False,
                    logging_level="error",
                    **local,
                )
            # Ray raises a bare Exception when it does not come up in time.
            except Exception as error:
                self._ray.shutdown()
                if not left or "during startup" not in str(error):
                    where = self.address or "this machine"
                    raise GifthorseError(f"Ray at {where}: {error}{_hint(self.address)}") from error
            else:
                return

    @property
    def name(self) -> str:
        """For records."""
        return "ray"

    @property
    def slots(self) -> int:
        """Trials that can run now, and as many to follow."""
        return max(1, _AHEAD * self._capacity())

    def submit(self, trial: Trial, work: Work, place: Place) -> None:
        """Hand a trial to Ray."""
        task = self._ray.remote(_task).options(
            num_cpus=self.resources.cpus,
            num_gpus=self.resources.gpus,
            max_retries=_RETRIES,
            name=f"trial {trial.id[:12]}",
        )
        self._flight[task.remote(work, trial, place)] = trial

    def wait(self) -> list[Finished]:
        """Everything that has ended, at least one."""
        waiting = list(self._flight)
        ready, _ = self._ray.wait(waiting, num_returns=1)
        more, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=0)
        return [self._finished(reference) for reference in dict.fromkeys([*ready, *more])]

    def close(self) -> None:
        """Cancel what is in flight and leave Ray."""
        for reference in self._flight:
            self._ray.cancel(reference, force=True)
        self._flight.clear()
        self._ray.shutdown()

    def _capacity(self) -> int:
        """How many trials fit on all nodes at once."""
        total = 0
        for node in self._ray.nodes():
            if node["Alive"]:
                offers = node["Resources"]
                fits = offers.get("CPU", 0) // self.resources.cpus
                if self.resources.gpus:
                    fits = min(fits, offers.get("GPU", 0) // self.resources.gpus)
                total += int(fits)
        return total

    def _finished(self, reference: Any) -> Finished:
        trial = self._flight.pop(reference)
        try:
            outcome = self._ray.get(reference)
        except LedgerError as error:  # raised over there; Ray keeps the type
            raise LedgerError(str(error.args[0]) if error.args else str(error)) from error
        except self._ray.exceptions.RayError as error:
            first = str(error).strip().splitlines()[0] if str(error).strip() else ""
            reason = f"lost by Ray after {_RETRIES} retries: {type(error).__name__}: {first}"
            return Finished(trial=trial, outcome=None, reason=reason)
        return Finished(trial=trial, outcome=outcome)


def _reach(address: str | None) -> None:
    """Raise, within seconds, where nothing listens at an address of the form host:port."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():  # "auto" and the like: Ray knows where
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise GifthorseError(
            f"nothing answers at {address}: no Ray cluster there ({error})"
        ) from error


def _hint(address: str | None) -> str:
    """What to look at when a cluster that answers does not let one in."""
    if address is None or "RAY_AUTH_MODE" in os.environ:
        return ""
    return "; a cluster that wants a token lets in who sets RAY_AUTH_MODE=token and holds the token"


def _task(work: Callable[..., Outcome], trial: Trial, place: Place) -> Outcome:
    return work(trial, place, silent)


def _ray() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise GifthorseError(
            "running on Ray needs an extra: pip install 'gifthorse[cluster]'"
        ) from error
    return ray
