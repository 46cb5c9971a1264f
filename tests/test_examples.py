"""The examples do what they say."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from gifthorse.core.types import Verdict

EXAMPLES = Path(__file__).parent.parent / "examples"


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / name / "run.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules[name] = found  # dataclasses look their module up
    spec.loader.exec_module(found)
    return found


def test_the_command_line_of_poisoned_contributor_has_the_settings_of_the_code() -> None:
    example = module("poisoned_contributor")
    assert example.arguments(["out"]) == (Path("out"), example.Settings())
    _, other = example.arguments(["out", "--samples", "9", "--seed", "4"])
    assert (other.samples, other.seed, other.width) == (9, 4, example.Settings().width)


@pytest.mark.slow
def test_poisoned_contributor(tmp_path: Path) -> None:
    example = module("poisoned_contributor")
    settings = example.Settings(samples=4800, epochs=12, width=24)
    outcome = example.main(tmp_path / "out", settings, lambda line: None)
    assert outcome.first_scan.verdict is Verdict.FLAGGED
    assert outcome.lineage.contributors[0].name == "mallory"
    flagged = {sample.position for sample in outcome.lineage.samples}
    # Who is accused is guilty: most flagged samples were planted, and most planted ones found.
    assert len(flagged & outcome.planted) > 0.9 * len(flagged)
    assert len(flagged & outcome.planted) > 0.9 * len(outcome.planted)
    assert [model.name for model in outcome.lineage.models] == ["model"]
    assert outcome.checked.faults == []
    assert outcome.checked.open == []
    # The clean twin: the same data without the poisoner.
    assert outcome.second_scan.verdict is Verdict.CLEAR
    assert outcome.accepted == "acme/signs"
    assert "older than 2.0" in outcome.refused
