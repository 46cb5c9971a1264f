"""What the package as a whole keeps; what each plugin keeps is in test_battery."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest

import gifthorse
from gifthorse.core.clients import Aggregator, ClientAttack
from gifthorse.core.errors import SpecError
from gifthorse.core.instructions import InstructionPoison
from gifthorse.core.language_edits import LanguageEdit
from gifthorse.core.language_repairs import LanguageRepair
from gifthorse.core.protocols import Attack, Detector, Repair
from gifthorse.core.registry import KINDS, build, names, parse_spec
from gifthorse.core.text_repairs import TextRepair
from gifthorse.core.texts import TextPoison

PLUGINS = [(kind, name) for kind in KINDS for name in names(kind)]
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
WRONG: dict[type, Any] = {int: 1.5, float: "much", str: 7, bool: "perhaps"}
SOURCE = Path(gifthorse.__file__).parent


def test_something_of_every_kind_is_installed() -> None:
    assert {kind for kind, _ in PLUGINS} == set(KINDS)


BAD_VALUES = [
    ("aggregators", "anchored:trim=0.5"),
    ("aggregators", "explained:momentum=1"),
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
    ("language_edits", "bad_edit:keep=0"),
    ("language_edits", "bad_edit:place=nowhere"),
    ("text_attacks", "typing_style:style=octarine"),
    ("attacks", "badnets:rate=0"),
    ("attacks", "badnets:mode=sideways"),
    ("attacks", "badnets:colour=octarine"),
    ("attacks", "blended:alpha=0"),
    ("attacks", "blended:watermark=noise:x"),
    ("detectors", "neural_cleanse:passes=0"),
    ("detectors", "neural_cleanse:goal=1.1"),
    ("detectors", "neural_cleanse:learning_rate=-1"),
    ("detectors", "chorus:samples=0"),
    ("detectors", "plain_changes:samples=0"),
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
