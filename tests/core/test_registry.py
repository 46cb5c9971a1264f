"""Plugins are found by name, built from specs, and told apart from broken ones."""

import dataclasses
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from gifthorse.attacks.data.badnets import BadNets
from gifthorse.core import registry
from gifthorse.core.errors import PluginError, SpecError
from gifthorse.core.registry import Spec, build, names, parse_spec, plugin_class, spec_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Thing:
    count: int = 1
    share: float = 0.5
    word: str = "a"
    switch: bool = False


@dataclasses.dataclass
class Thawed:
    count: int = 1


class Plain:
    pass


def install(monkeypatch: pytest.MonkeyPatch, *points: tuple[str, str]) -> None:
    """Pretend that these entry points, and no others, are installed."""

    def listed(*, group: str) -> list[EntryPoint]:
        return [EntryPoint(name, value, group) for name, value in points]

    monkeypatch.setattr(registry, "entry_points", listed)


@pytest.fixture
def thing(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("thing", "x:y", "gifthorse.attacks")
    monkeypatch.setattr(EntryPoint, "load", lambda _self: Thing)
    monkeypatch.setattr(registry, "entry_points", lambda *, group: [point] if group else [])


def test_a_plugin_is_built_with_its_options() -> None:
    plugin = build("attacks", Spec("badnets", {"target": 3, "rate": 0.1}))
    assert plugin == BadNets(target=3, rate=0.1)


def test_a_spec_holds_all_options_defaults_included() -> None:
    spec = spec_of("attacks", BadNets(size=5))
    assert spec.name == "badnets"
    assert spec.params["size"] == 5
    assert spec.params["colour"] == "yellow"
    assert set(spec.params) == {field.name for field in dataclasses.fields(BadNets)}


def test_hyphens_are_as_good_as_underscores() -> None:
    assert plugin_class("detectors", "neural-cleanse") is plugin_class(
        "detectors", "neural_cleanse"
    )


def test_a_misspelt_name_is_corrected() -> None:
    with pytest.raises(SpecError, match=r"no attack is called 'badnet'; did you mean 'badnets'\?"):
        build("attacks", Spec("badnet", {}))


def test_a_name_like_no_other_lists_what_is_known() -> None:
    with pytest.raises(SpecError, match=r"'zzz'; known: .*badnets") as caught:
        plugin_class("attacks", "zzz")
    assert "did you mean" not in str(caught.value)


def test_a_misspelt_option_is_corrected() -> None:
    with pytest.raises(SpecError, match=r"no option 'ratee'; did you mean 'rate'\?"):
        build("attacks", Spec("badnets", {"ratee": 0.1}))


def test_a_kind_that_does_not_exist() -> None:
    with pytest.raises(SpecError, match="known: attacks, detectors, repairs"):
        names("attack")


@pytest.mark.parametrize(
    "params",
    [
        {"rate": 0.0},
        {"rate": 1.5},
        {"mode": "sideways"},
        {"colour": "no such colour"},
        {"place": "middle"},
        {"size": 0},
    ],
)
def test_values_that_the_plugin_refuses(params: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="badnets: "):
        build("attacks", Spec("badnets", params))


@pytest.mark.usefixtures("thing")
@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"count": 1.5}, "count must be a whole number, got 1.5"),
        ({"count": True}, "count must be a whole number, got True"),
        ({"count": "3"}, "count must be a whole number, got '3'"),
        ({"share": float("nan")}, "share must be a finite number, got nan"),
        ({"share": float("inf")}, "share must be a finite number, got inf"),
        ({"share": -float("inf")}, "share must be a finite number, got -inf"),
        ({"share": 10**400}, f"share must be a finite number, got {10**400}"),
        ({"share": "half"}, "share must be a finite number, got 'half'"),
        ({"share": None}, "share must be a finite number, got None"),
        ({"word": 5}, "word must be text, got 5"),
        ({"switch": 1}, "switch must be true or false, got 1"),
    ],
)
def test_values_of_the_wrong_type(params: dict[str, Any], expected: str) -> None:
    with pytest.raises(SpecError) as caught:
        build("attacks", Spec("thing", params))
    assert str(caught.value) == f"thing: {expected}"


@pytest.mark.usefixtures("thing")
def test_a_whole_number_will_do_for_a_float() -> None:
    assert build("attacks", Spec("thing", {"share": 2})) == Thing(share=2)


def test_a_broken_plugin_is_an_error_and_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, ("broken", "gifthorse.no_such_module:Broken"))
    assert names("attacks") == ["broken"]
    with pytest.raises(PluginError, match=r"'broken' \(gifthorse.no_such_module:Broken\) fails"):
        build("attacks", Spec("broken", {}))


def test_a_plugin_without_its_class_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, ("broken", "gifthorse.core.registry:NoSuchClass"))
    with pytest.raises(PluginError, match="NoSuchClass"):
        plugin_class("attacks", "broken")


@pytest.mark.parametrize("found", [Thawed, Plain, Thing(), print])
def test_only_frozen_dataclasses_are_plugins(
    monkeypatch: pytest.MonkeyPatch, found: object
) -> None:
    install(monkeypatch, ("odd", "x:y"))
    monkeypatch.setattr(EntryPoint, "load", lambda _self: found)
    with pytest.raises(PluginError, match="not a frozen dataclass"):
        plugin_class("attacks", "odd")


def test_two_plugins_of_one_name_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, ("twin", "one:A"), ("twin", "two:B"))
    with pytest.raises(PluginError, match=r"two attacks are called 'twin': one:A and two:B"):
        names("attacks")


def test_the_same_plugin_installed_twice_is_no_clash(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, ("twin", "one:A"), ("twin", "one:A"))
    assert names("attacks") == ["twin"]


def test_a_stranger_has_no_spec() -> None:
    with pytest.raises(SpecError, match="Thing is not installed as one of the attacks"):
        spec_of("attacks", Thing())


@pytest.mark.parametrize(
    ("text", "params"),
    [
        ("badnets", {}),
        ("badnets:", {}),
        ("badnets:size=5", {"size": 5}),
        ("badnets: rate = 0.1 , clean-label=True", {"rate": 0.1, "clean_label": True}),
        ("badnets:clean_label=false", {"clean_label": False}),
        ("badnets:place=3x20,colour=#ff0000", {"place": "3x20", "colour": "#ff0000"}),
        ("badnets:rate=1e-2", {"rate": 0.01}),
        ("badnets:source=none", {"source": None}),
        ("badnets:watermark=noise:3", {"watermark": "noise:3"}),
        ("badnets:a=b=c", {"a": "b=c"}),
    ],
)
def test_specs_are_read_from_text(text: str, params: dict[str, Any]) -> None:
    spec = parse_spec(text)
    assert spec == Spec("badnets", params)
    assert [type(v) for v in spec.params.values()] == [type(v) for v in params.values()]


def test_an_option_without_a_value() -> None:
    with pytest.raises(SpecError, match="expected option=value, got 'size'"):
        parse_spec("badnets:size")
