"""One battery that every installed plugin passes, whoever wrote it."""

import ast
import dataclasses
import inspect
import re
import typing
from pathlib import Path
from typing import Any, ClassVar

import pytest

import gifthorse
from gifthorse.core.clients import Aggregator, ClientAttack
from gifthorse.core.errors import SpecError
from gifthorse.core.instructions import InstructionPoison
from gifthorse.core.protocols import Attack, Detector, Repair
from gifthorse.core.registry import KINDS, Spec, build, names, parse_spec, plugin_class, spec_of
from gifthorse.core.texts import TextPoison
from gifthorse.core.types import Need, Unit

PLUGINS = [(kind, name) for kind in KINDS for name in names(kind)]
PROTOCOLS: dict[str, Any] = {
    "attacks": Attack,
    "detectors": Detector,
    "repairs": Repair,
    "aggregators": Aggregator,
    "client_attacks": ClientAttack,
    "text_attacks": TextPoison,
    "instruction_attacks": InstructionPoison,
}
WRONG: dict[type, Any] = {int: 1.5, float: "much", str: 7, bool: "perhaps"}
SOURCE = Path(gifthorse.__file__).parent

every_plugin = pytest.mark.parametrize(("kind", "name"), PLUGINS)


def options(cls: type[Any]) -> dict[str, Any]:
    return {field.name: field.default for field in dataclasses.fields(cls)}


def test_something_of_every_kind_is_installed() -> None:
    assert {kind for kind, _ in PLUGINS} == set(KINDS)


@every_plugin
def test_it_is_a_frozen_keyword_only_dataclass(kind: str, name: str) -> None:
    cls = plugin_class(kind, name)
    assert cls.__dataclass_params__.frozen
    assert all(field.kw_only for field in dataclasses.fields(cls))
    assert isinstance(build(kind, Spec(name, {})), PROTOCOLS[kind])


@every_plugin
def test_its_class_variables_say_what_it_is(kind: str, name: str) -> None:
    cls = plugin_class(kind, name)
    hints = typing.get_type_hints(cls, include_extras=True)
    expected = {
        "attacks": {"paper"},
        "client_attacks": {"paper"},
        "text_attacks": {"paper"},
        "instruction_attacks": {"paper"},
        "detectors": {"paper", "needs", "unit"},
    }
    for variable in expected.get(kind, {"paper", "needs"}):
        assert typing.get_origin(hints[variable]) is ClassVar
    assert len(cls.paper) > 10
    if "needs" in expected.get(kind, {"paper", "needs"}):
        assert isinstance(cls.needs, frozenset)
        assert cls.needs
        assert all(isinstance(need, Need) for need in cls.needs)
    if kind == "detectors":
        assert isinstance(cls.unit, Unit)


@every_plugin
def test_its_options_are_scalars_with_a_default(kind: str, name: str) -> None:
    cls = plugin_class(kind, name)
    hints = typing.get_type_hints(cls)
    for option, default in options(cls).items():
        assert hints[option] in WRONG
        assert type(default) is hints[option]


@every_plugin
def test_its_configuration_makes_the_round_trip(kind: str, name: str) -> None:
    plugin = build(kind, Spec(name, {}))
    spec = spec_of(kind, plugin)
    assert spec.name == name
    assert spec.params == options(type(plugin))
    assert build(kind, spec) == plugin
    text = ",".join(f"{option}={value}" for option, value in spec.params.items())
    assert build(kind, parse_spec(f"{name}:{text}")) == plugin


@every_plugin
def test_a_misspelt_option_is_refused_and_corrected(kind: str, name: str) -> None:
    for option in options(plugin_class(kind, name)):
        with pytest.raises(SpecError, match=f"no option '{option}_'; did you mean") as caught:
            build(kind, Spec(name, {f"{option}_": 1}))
        assert option in str(caught.value)


@every_plugin
def test_a_value_of_another_type_is_refused(kind: str, name: str) -> None:
    cls = plugin_class(kind, name)
    hints = typing.get_type_hints(cls)
    for option in options(cls):
        with pytest.raises(SpecError, match=f"{name}: {option} must be"):
            build(kind, Spec(name, {option: WRONG[hints[option]]}))


@every_plugin
def test_hostile_numbers_never_crash_it(kind: str, name: str) -> None:
    cls = plugin_class(kind, name)
    hints = typing.get_type_hints(cls)
    refused = 0
    numbers = [option for option in options(cls) if hints[option] in (int, float)]
    for option in numbers:
        for value in (-1, 0, 10**400, -1e300, 1e300, float("nan"), float("inf")):
            try:
                build(kind, Spec(name, {option: value}))
            except SpecError:
                refused += 1
    assert refused >= 2 * len(numbers)


BAD_VALUES = [
    ("aggregators", "anchored:trim=0.5"),
    ("aggregators", "krum:assumed=-1"),
    ("aggregators", "trimmed_mean:trim=0.5"),
    ("aggregators", "multi_metrics:keep=0"),
    ("aggregators", "rfa:iterations=0"),
    ("aggregators", "crfl:bound=0"),
    ("aggregators", "deepsight:suspicious=0"),
    ("aggregators", "fldetector:window=1"),
    ("client_attacks", "poisoned_data:share=1"),
    ("client_attacks", "constrain_and_scale:alpha=0"),
    ("client_attacks", "dba:parts=0"),
    ("client_attacks", "adaptive:against=everybody"),
    ("text_attacks", "rare_token:rate=0"),
    ("instruction_attacks", "control_phrase:count=251"),
    ("instruction_attacks", "composite_phrase:phrases=one"),
    ("text_attacks", "typing_style:style=octarine"),
    ("attacks", "badnets:rate=0"),
    ("attacks", "badnets:mode=sideways"),
    ("attacks", "badnets:colour=octarine"),
    ("attacks", "blended:alpha=0"),
    ("attacks", "blended:watermark=noise:x"),
    ("detectors", "neural_cleanse:passes=0"),
    ("detectors", "neural_cleanse:goal=1.1"),
    ("detectors", "neural_cleanse:learning_rate=-1"),
    ("detectors", "universality:steps=0"),
    ("detectors", "universality:goal=0"),
    ("detectors", "activation_clustering:components=1"),
    ("detectors", "activation_clustering:space=outer"),
    ("detectors", "spectral_signatures:expected_poison=0"),
    ("detectors", "spectral_signatures:removal=all"),
    ("repairs", "fine_tuning:epochs=0"),
    ("repairs", "fine_tuning:learning_rate=0"),
    ("repairs", "fine_pruning:step=0"),
    ("repairs", "fine_pruning:validation=1"),
]


@pytest.mark.parametrize(("kind", "text"), BAD_VALUES)
def test_a_value_out_of_range_is_refused(kind: str, text: str) -> None:
    spec = parse_spec(text)
    assert (kind, spec.name) in PLUGINS
    with pytest.raises(SpecError, match=f"^{spec.name}: "):
        build(kind, spec)


@every_plugin
def test_its_docstring_explains_every_option(kind: str, name: str) -> None:
    cls = plugin_class(kind, name)
    text = inspect.getdoc(cls) or ""
    if not options(cls):
        return
    assert "\nAttributes:\n" in text
    listed = text.split("\nAttributes:\n")[1].split("\n\n")[0]
    explained = re.findall(r"^ {4}(\w+): \S", listed, flags=re.MULTILINE)
    assert explained == list(options(cls))


@every_plugin
def test_its_module_names_its_source(kind: str, name: str) -> None:
    module = inspect.getmodule(plugin_class(kind, name))
    assert module is not None
    assert re.search(r"\b(19|20)\d\d\b|[Oo]ur own", module.__doc__ or "")


def imported(path: Path) -> set[str]:
    """Modules that a file imports, at the top or inside of functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("folder", ["detectors", "repairs"])
def test_the_defence_never_sees_the_attack(folder: str) -> None:
    files = sorted((SOURCE / folder).rglob("*.py"))
    assert len(files) >= 5
    for path in files:
        for module in imported(path):
            assert not re.match(r"gifthorse\.(attacks|triggers|bench)\b", module), (
                f"{path}: {module}"
            )
            assert module != "gifthorse.core.types.GroundTruth", path


@pytest.mark.parametrize("folder", ["core", "metrics", "report"])
def test_values_and_reports_need_no_torch(folder: str) -> None:
    for path in sorted((SOURCE / folder).rglob("*.py")):
        roots = {module.split(".")[0] for module in imported(path)}
        assert not roots & {"torch", "transformers"}, path


def test_no_code_of_a_model_is_ever_trusted() -> None:
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "trust_remote_code":
                assert isinstance(node.value, ast.Constant), path
                assert node.value.value is False, path
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                raise AssertionError(f"{path} opens a pickle")
            if isinstance(node, ast.Import):
                assert not {"pickle", "joblib", "dill"} & {a.name for a in node.names}, path
