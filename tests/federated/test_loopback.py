"""Real Flower processes on this machine, with TLS; the SuperLink is killed in the middle."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "flower-digits" / "loopback.py"


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("flwr") is None, reason="flwr is not installed; see `make flower`"
)
def test_a_killed_superlink_loses_no_round(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, str(SCRIPT), "--out", str(out), "--nodes", "2", "--rounds", "3",
         "--start", "2", "--kill-after", "1", "--defence", "mean", "--timeout", "480"],
        capture_output=True, text=True, timeout=560, check=False,
    )  # fmt: skip
    logs = "\n".join(p.read_text(errors="replace")[-3000:] for p in out.glob("*.log"))
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{logs}"
    assert "killed the SuperLink after" in done.stdout
    found = [json.loads(p.read_text()) for p in sorted((out / "server").glob("round-*.json"))]
    assert [entry["round"] for entry in found] == [1, 2, 3]
    assert found[0]["after"] == found[1]["before"]
    assert found[1]["after"] == found[2]["before"]
    assert all(len(entry["accepted"]) == 2 for entry in found)
    assert oct((out / "tls" / "server.key").stat().st_mode & 0o777) == "0o600"
