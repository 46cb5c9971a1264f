"""Finds plugins by entry point, and turns a spec (name, options) into an instance and back."""

import dataclasses
import difflib
import functools
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, get_type_hints

from gifthorse.core.errors import PluginError, SpecError

KINDS = (
    "attacks",
    "detectors",
    "repairs",
    "aggregators",
    "client_attacks",
    "text_attacks",
    "instruction_attacks",
    "language_edits",
    "language_detectors",
    "language_repairs",
    "text_detectors",
    "text_repairs",
)
Scalar = bool | int | float | str | None


@dataclasses.dataclass(frozen=True, slots=True)
class Spec:
    """A plugin's name with its options, complete enough to build it again."""

    name: str
    params: Mapping[str, Scalar]


def _found(kind: str) -> dict[str, EntryPoint]:
    if kind not in KINDS:
        raise SpecError(f"no kind of plugin is called {kind!r}; known: {', '.join(KINDS)}")
    # The list is looked up by name, so that a test can put another in its place.
    return _listed(kind, entry_points)


@functools.lru_cache(maxsize=16)
def _listed(kind: str, list_points: Callable[..., Iterable[EntryPoint]]) -> dict[str, EntryPoint]:
    """What is installed; read once, since every look goes through all packages (20 ms)."""
    found: dict[str, EntryPoint] = {}
    for point in list_points(group=f"gifthorse.{kind}"):
        if point.name in found and found[point.name].value != point.value:
            raise PluginError(
                f"two {kind} are called {point.name!r}: {found[point.name].value} and "
                f"{point.value}; uninstall one of the packages"
            )
        found[point.name] = point
    return found


def names(kind: str) -> list[str]:
    """Names of all installed plugins of a kind, one of ``KINDS``."""
    return sorted(_found(kind))


def plugin_class(kind: str, name: str) -> type[Any]:
    """The class behind a name.

    Raises:
        SpecError: No such plugin.
        PluginError: It is installed but cannot be imported, or is not a frozen dataclass.
    """
    found = _found(kind)
    key = name.replace("-", "_")
    if key not in found:
        near = difflib.get_close_matches(key, found, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise SpecError(f"no {kind[:-1]} is called {name!r}; {hint}known: {', '.join(found)}")
    try:
        cls = found[key].load()
    except Exception as error:
        raise PluginError(f"{kind[:-1]} {key!r} ({found[key].value}) fails: {error!r}") from error
    if not (
        isinstance(cls, type) and dataclasses.is_dataclass(cls) and cls.__dataclass_params__.frozen  # type: ignore[attr-defined]
    ):
        raise PluginError(f"{kind[:-1]} {key!r} ({found[key].value}) is not a frozen dataclass")
    return cls


def build(kind: str, spec: Spec) -> Any:
    """The plugin that a spec describes.

    Raises:
        SpecError: Unknown name or option, or a value that the plugin refuses.
    """
    cls = plugin_class(kind, spec.name)
    known = [field.name for field in dataclasses.fields(cls) if field.init]
    for option in spec.params:
        if option not in known:
            near = difflib.get_close_matches(option, known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise SpecError(
                f"{spec.name} has no option {option!r}; {hint}known: {', '.join(known)}"
            )
    kinds = get_type_hints(cls)
    for option, value in spec.params.items():
        wrong = _misfit(value, kinds[option])
        if wrong:
            raise SpecError(f"{spec.name}: {option} must be {wrong}, got {value!r}")
    try:
        return cls(**spec.params)
    except (TypeError, ValueError) as error:
        raise SpecError(f"{spec.name}: {error}") from error


def _misfit(value: Scalar, kind: Any) -> str | None:
    """What an option of a scalar type must be, or None if ``value`` is that."""
    if kind is float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return "a finite number"
        # A comparison, because math.isfinite fails on an int that no float can hold.
        return None if abs(value) <= sys.float_info.max else "a finite number"
    if kind is int:
        whole = isinstance(value, int) and not isinstance(value, bool)
        return None if whole else "a whole number"
    if kind is bool:
        return None if isinstance(value, bool) else "true or false"
    if kind is str:
        return None if isinstance(value, str) else "text"
    return None


def spec_of(kind: str, plugin: Any) -> Spec:
    """The complete spec of an instance, defaults included; ``build`` turns it back."""
    # By name, not by loading: one broken plugin must not keep the others from being recorded.
    place = f"{type(plugin).__module__}:{type(plugin).__qualname__}"
    for name, point in _found(kind).items():
        if point.value == place:
            fields = (field for field in dataclasses.fields(plugin) if field.init)
            return Spec(name, {field.name: getattr(plugin, field.name) for field in fields})
    raise SpecError(f"{type(plugin).__name__} is not installed as one of the {kind}")


def parse_spec(text: str) -> Spec:
    """Read ``name`` or ``name:option=value,option=value`` as given on a command line."""
    name, _, tail = text.partition(":")
    params: dict[str, Scalar] = {}
    for part in filter(None, tail.split(",")):
        option, equals, value = part.partition("=")
        if not equals:
            raise SpecError(f"{text!r}: expected option=value, got {part!r}")
        params[option.strip().replace("-", "_")] = _scalar(value.strip())
    return Spec(name.strip(), params)


def _scalar(text: str) -> Scalar:
    words: dict[str, Scalar] = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
