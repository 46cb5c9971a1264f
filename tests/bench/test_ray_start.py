"""How Ray is started, with a stand-in for Ray."""

from types import SimpleNamespace

import pytest

from gifthorse.bench import ray_engine
from gifthorse.bench.ray_engine import RayEngine
from gifthorse.bench.study import Resources
from gifthorse.core.errors import GifthorseError


def stand_in(monkeypatch: pytest.MonkeyPatch, failures: list[str]) -> list[str]:
    """A Ray whose first starts fail with these messages; the list that it writes calls to."""
    calls: list[str] = []

    def init(**_: object) -> None:
        calls.append("init")
        if failures:
            raise Exception(failures.pop(0))

    fake = SimpleNamespace(
        init=init,
        shutdown=lambda: calls.append("shutdown"),
        nodes=lambda: [{"Alive": True, "Resources": {"CPU": 2.0}}],
    )
    monkeypatch.setattr(ray_engine, "_ray", lambda: fake)
    return calls


def test_a_start_that_takes_too_long_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    late = "The current node timed out during startup."
    calls = stand_in(monkeypatch, [late, late])
    assert RayEngine(Resources()).slots == 4
    assert calls == ["init", "shutdown", "init", "shutdown", "init"]


def test_other_failures_and_the_third_are_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = stand_in(monkeypatch, ["no such address"])
    with pytest.raises(GifthorseError, match="no such address"):
        RayEngine(Resources())
    assert calls == ["init", "shutdown"]
    stand_in(monkeypatch, ["timed out during startup"] * 3)
    with pytest.raises(GifthorseError, match="this machine"):
        RayEngine(Resources())
    calls = stand_in(monkeypatch, ["timed out during startup"])
    with pytest.raises(GifthorseError, match="ray://head"):
        RayEngine(Resources(), address="ray://head:10001")
    assert calls.count("init") == 1
