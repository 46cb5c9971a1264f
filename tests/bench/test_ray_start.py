"""How Ray is started, with a stand-in for Ray."""

import socket
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
    with pytest.raises(GifthorseError, match="at auto"):
        RayEngine(Resources(), address="auto")
    assert calls.count("init") == 1


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "[::1]:{}"])
def test_where_nothing_listens_ray_is_not_asked(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as bound:  # bound, not listening: refused, and nobody else gets the port
        bound.bind(("127.0.0.1", 0))
        calls = stand_in(monkeypatch, [])
        with pytest.raises(GifthorseError, match="nothing answers at"):
            RayEngine(Resources(), address=form.format(bound.getsockname()[1]))
    assert calls == []


def test_a_cluster_that_answers_and_refuses_is_told_of_tokens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        stand_in(monkeypatch, ["Failed to connect"])
        with pytest.raises(GifthorseError, match="RAY_AUTH_MODE=token"):
            RayEngine(Resources(), address=address)
        stand_in(monkeypatch, [])
        assert RayEngine(Resources(), address=address).slots == 4
