"""Runs the app on this machine with real Flower processes: TLS, one SuperLink, some SuperNodes.

Usage: python loopback.py --out DIRECTORY [--nodes 4] [--rounds 8] [--kill-after 3] …

With --kill-after N the SuperLink is killed (SIGKILL) once round N is on disk, then started again on
its database; a second run goes on from the server's checkpoint. The
directory then holds the logs, the certificates, and in server/ a record of every round.
Everything stays on 127.0.0.1, and nothing is downloaded.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from certificates import make

APP = Path(__file__).parent
BIN = Path(sys.executable).parent


class Loopback:
    """A SuperLink and its SuperNodes; all of them end with the ``with`` block."""

    def __init__(self, out: Path, nodes: int) -> None:
        self.out, self.nodes = out, nodes
        self.tls = out / "tls"
        self.ports = free_ports(nodes + 1)
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._env = {
            **os.environ,
            "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}",
            "FLWR_HOME": str(out / "flwr"),
            "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",  # else it asks the network
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FLWR_TELEMETRY_ENABLED": "0",
        }

    def __enter__(self) -> "Loopback":
        make(self.tls)
        home = self.out / "flwr"
        home.mkdir(parents=True, exist_ok=True)
        (home / "config.toml").write_text(
            '[superlink]\ndefault = "loopback"\n\n[superlink.loopback]\n'
            f'address = "127.0.0.1:{self.ports[0]}"\n'
            f'root-certificates = "{self.tls / "ca.crt"}"\n'
        )
        self.start_link()
        for number in range(self.nodes):
            self._start(
                f"node-{number}",
                "flower-supernode",
                *("--root-certificates", str(self.tls / "ca.crt")),
                *("--superlink", f"127.0.0.1:{self.ports[0]}"),
                *("--port", str(self.ports[number + 1]), *self._certificate()),
                *("--node-config", f"partition-id={number} num-partitions={self.nodes}"),
            )
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._running):
            self.end(name, signal.SIGTERM)

    def start_link(self) -> None:
        """Start the SuperLink, on its database if there is one, and wait until it answers."""
        self._start(
            "link",
            "flower-superlink",
            *self._certificate(),
            *("--port", str(self.ports[0]), "--database", str(self.out / "link.sqlite")),
            "--disable-runtime-dependency-installation",
        )
        limit = time.monotonic() + 60
        while time.monotonic() < limit:
            if self._running["link"].poll() is not None:
                break
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.ports[0])) == 0:
                    return
            time.sleep(0.2)
        raise SystemExit(f"the SuperLink did not start; see {self.out / 'link.log'}")

    def end(self, name: str, how: signal.Signals) -> None:
        """End a process and whatever it started."""
        process = self._running.pop(name)
        try:
            os.killpg(process.pid, how)
            process.wait(20)
        except ProcessLookupError:
            pass
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def submit(self, settings: dict[str, object]) -> subprocess.Popen[bytes]:
        """`flwr run`, with its log streamed to run.log."""
        text = " ".join(f"{k}={json.dumps(v)}" for k, v in settings.items())
        words = ("run", str(APP), "loopback", "--stream", "--run-config", text)
        return self._spawn("run", "flwr", *words)

    def _certificate(self) -> tuple[str, ...]:
        return (
            *("--ssl-ca-certfile", str(self.tls / "ca.crt")),
            *("--ssl-certfile", str(self.tls / "server.crt")),
            *("--ssl-keyfile", str(self.tls / "server.key")),
        )

    def _start(self, name: str, command: str, *words: str) -> None:
        self._running[name] = self._spawn(name, command, *words)

    def _spawn(self, name: str, command: str, *words: str) -> subprocess.Popen[bytes]:
        with (self.out / f"{name}.log").open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - our own words
                [str(BIN / command), *words],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=self._env,
                start_new_session=True,
            )


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on just now."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def rounds_in(place: Path) -> list[dict[str, object]]:
    """The records of rounds that are on disk, in order."""
    return [json.loads(path.read_text()) for path in sorted(place.glob("round-*.json"))]


def wait(what: subprocess.Popen[bytes], place: Path, rounds: int, limit: float) -> bool:
    """Until so many rounds are on disk, or the run ends; False if the time is up."""
    while time.monotonic() < limit:
        if len(rounds_in(place)) >= rounds:
            return True
        if what.poll() is not None:
            time.sleep(1)
            return len(rounds_in(place)) >= rounds
        time.sleep(0.2)
    return False


def play(options: argparse.Namespace) -> int:
    """The whole story; returns the exit code."""
    out: Path = options.out.resolve()
    if out.exists() and any(out.iterdir()):
        raise SystemExit(f"{out} is not empty; choose another place")
    out.mkdir(parents=True, exist_ok=True)
    place, limit = out / "server", time.monotonic() + options.timeout
    settings = {
        "rounds": options.rounds,
        "nodes": options.nodes,
        "defence": options.defence,
        "attackers": options.attackers,
        "start": options.start,
        "place": str(place),
    }
    with Loopback(out, options.nodes) as loop:
        run = loop.submit(settings)
        if options.kill_after:
            if not wait(run, place, options.kill_after, limit):
                raise SystemExit(f"round {options.kill_after} never came; see the logs in {out}")
            loop.end("link", signal.SIGKILL)
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
            print(f"killed the SuperLink after {len(rounds_in(place))} rounds")
            loop.start_link()
            run = loop.submit(settings)
        finished = wait(run, place, options.rounds, limit)
        if run.poll() is None and not finished:
            os.killpg(run.pid, signal.SIGKILL)
        else:
            run.wait(60)
    for entry in rounds_in(place):
        accepted, rejected = entry["accepted"], entry["rejected"]
        assert isinstance(accepted, list)  # noqa: S101 - as the server wrote it
        assert isinstance(rejected, list)  # noqa: S101 - as the server wrote it
        print(
            f"round {entry['round']}: accepted {len(accepted)}, rejected {len(rejected)}, "
            f"kept out {entry['quarantined']}, missing {entry['missing']}"
        )
    for line in (out / "run.log").read_text(errors="replace").splitlines():
        if "'ca':" in line:
            print(line.split("MetricRecord:")[-1].split("results:")[-1].strip())
    if not finished:
        print(f"not finished; see the logs in {out}", file=sys.stderr)
    return 0 if finished else 3


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--defence", default="explained")
    parser.add_argument("--attackers", type=int, default=1)
    parser.add_argument("--start", type=int, default=4)
    parser.add_argument("--kill-after", type=int, default=0)
    parser.add_argument("--timeout", type=float, default=600)
    raise SystemExit(play(parser.parse_args()))


if __name__ == "__main__":
    main()
