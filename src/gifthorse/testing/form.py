"""Rules about the form of a plugin: its class, its options, its configuration (our own)."""

import dataclasses
import inspect
import re
import typing
from typing import Any, ClassVar

from gifthorse.core.clients import Aggregator, ClientAttack
from gifthorse.core.errors import SpecError
from gifthorse.core.instructions import InstructionPoison
from gifthorse.core.language_edits import LanguageEdit
from gifthorse.core.language_repairs import LanguageRepair
from gifthorse.core.protocols import Attack, Detector, Repair
from gifthorse.core.registry import Spec, build, parse_spec, plugin_class, spec_of
from gifthorse.core.text_repairs import TextRepair
from gifthorse.core.texts import TextPoison
from gifthorse.core.types import Need, Unit
from gifthorse.testing.rules import require

PROTOCOLS: dict[str, Any] = {
    "attacks": Attack,
    "detectors": Detector,
    "repairs": Repair,
    "aggregators": Aggregator,
    "client_attacks": ClientAttack,
    "text_attacks": TextPoison,
    "instruction_attacks": InstructionPoison,
    "language_edits": LanguageEdit,
    "language_detectors": Detector,
    "language_repairs": LanguageRepair,
    "text_detectors": Detector,
    "text_repairs": TextRepair,
}
_DECLARES = {
    "attacks": {"paper"},
    "client_attacks": {"paper"},
    "text_attacks": {"paper"},
    "instruction_attacks": {"paper"},
    "language_edits": {"paper"},
    "detectors": {"paper", "needs", "unit"},
    "language_detectors": {"paper", "needs", "unit"},
    "repairs": {"paper", "needs"},
    "aggregators": {"paper", "needs"},
    "language_repairs": {"paper", "needs"},
    "text_detectors": {"paper", "needs", "unit"},
    "text_repairs": {"paper", "needs"},
}
_WRONG: dict[type, Any] = {int: 1.5, float: "much", str: 7, bool: "perhaps"}
_HOSTILE = (-1, 0, 10**400, -1e300, 1e300, float("nan"), float("inf"))


def is_a_frozen_keyword_only_dataclass(kind: str, name: str) -> None:
    """Configuration is values; an instance with the defaults keeps its protocol."""
    cls = plugin_class(kind, name)
    require(cls.__dataclass_params__.frozen, f"{name} is not frozen")
    require(all(f.kw_only for f in dataclasses.fields(cls)), f"{name}: options without keyword")
    made = build(kind, Spec(name, {}))
    require(isinstance(made, PROTOCOLS[kind]), f"{name} lacks methods of {kind}")


def says_what_it_is(kind: str, name: str) -> None:
    """Class variables: the paper, and for defences what they need and what a score is about."""
    cls = plugin_class(kind, name)
    hints = typing.get_type_hints(cls, include_extras=True)
    for variable in _DECLARES[kind]:
        origin = typing.get_origin(hints.get(variable))
        require(origin is ClassVar, f"{name}.{variable} is no class variable")
    require(len(cls.paper) > 10, f"{name}.paper names no source")
    if "needs" in _DECLARES[kind]:
        needs = isinstance(cls.needs, frozenset) and cls.needs
        require(bool(needs), f"{name}.needs is no frozen set with something in it")
        require(all(isinstance(n, Need) for n in cls.needs), f"{name}.needs holds no needs")
    if "unit" in _DECLARES[kind]:
        require(isinstance(cls.unit, Unit), f"{name}.unit is no unit")


def has_scalar_options_with_defaults(kind: str, name: str) -> None:
    """Every option is a bool, int, float or str and has a default of that very type."""
    cls = plugin_class(kind, name)
    hints = typing.get_type_hints(cls)
    for option, default in options_of(cls).items():
        require(hints[option] in _WRONG, f"{name}.{option} is of type {hints[option]}")
        require(type(default) is hints[option], f"{name}.{option} has a default of another type")


def makes_the_round_trip(kind: str, name: str) -> None:
    """Instance → spec → instance, and through the text of a command line."""
    plugin = build(kind, Spec(name, {}))
    spec = spec_of(kind, plugin)
    require(spec.name == name, f"the spec of {name} is called {spec.name}")
    require(dict(spec.params) == options_of(type(plugin)), f"the spec of {name} is not complete")
    require(build(kind, spec) == plugin, f"{name} built from its spec is another")
    text = ",".join(f"{option}={value}" for option, value in spec.params.items())
    again = build(kind, parse_spec(f"{name}:{text}"))
    require(again == plugin, f"{name} built from a command line is another")


def refuses_misspelt_options(kind: str, name: str) -> None:
    """``stepz`` is an error that suggests ``steps``."""
    for option in options_of(plugin_class(kind, name)):
        text = _refusal(kind, Spec(name, {f"{option}_": 1}))
        good = text is not None and "did you mean" in text and option in text
        require(good, f"{name} does not correct {option}_: {text}")


def refuses_values_of_another_type(kind: str, name: str) -> None:
    """A value of the wrong type is an error that names the option."""
    cls = plugin_class(kind, name)
    hints = typing.get_type_hints(cls)
    for option in options_of(cls):
        text = _refusal(kind, Spec(name, {option: _WRONG[hints[option]]}))
        good = text is not None and f"{name}: {option} must be" in text
        require(good, f"{name} takes a wrong type for {option}: {text}")


def survives_hostile_numbers(kind: str, name: str) -> None:
    """Huge, negative and infinite numbers are refused with a SpecError, or taken; never a crash."""
    cls = plugin_class(kind, name)
    hints = typing.get_type_hints(cls)
    numbers = [option for option in options_of(cls) if hints[option] in (int, float)]
    refused = sum(
        _refusal(kind, Spec(name, {option: value})) is not None
        for option in numbers
        for value in _HOSTILE
    )
    require(refused >= 2 * len(numbers), f"{name} checks the range of hardly any number")


def explains_every_option(kind: str, name: str) -> None:
    """The docstring lists the options under ``Attributes:`` in order; the module a source."""
    cls = plugin_class(kind, name)
    text = inspect.getdoc(cls) or ""
    if options_of(cls):
        require("\nAttributes:\n" in text, f"{name} has no section 'Attributes:'")
        listed = text.split("\nAttributes:\n")[1].split("\n\n")[0]
        explained = re.findall(r"^ {4}(\w+): \S", listed, flags=re.MULTILINE)
        require(explained == list(options_of(cls)), f"{name} explains {explained}")
    module = inspect.getmodule(cls)
    source = (module.__doc__ if module else None) or ""
    named = re.search(r"\b(19|20)\d\d\b|[Oo]ur own", source)
    require(named is not None, f"the module of {name} names no source")


FORM = (
    is_a_frozen_keyword_only_dataclass,
    says_what_it_is,
    has_scalar_options_with_defaults,
    makes_the_round_trip,
    refuses_misspelt_options,
    refuses_values_of_another_type,
    survives_hostile_numbers,
    explains_every_option,
)


def options_of(cls: type[Any]) -> dict[str, Any]:
    """Options with their defaults."""
    return {field.name: field.default for field in dataclasses.fields(cls)}


def _refusal(kind: str, spec: Spec) -> str | None:
    """Why a spec is refused; None if it is not."""
    try:
        build(kind, spec)
    except SpecError as error:
        return str(error)
    return None
