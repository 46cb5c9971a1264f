"""The table of costs in the documentation names every method for pictures that is shipped."""

import re
from pathlib import Path

import pytest
from tests.shipped import shipped

from gifthorse.bench.study import read_study

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("kind", ["attacks", "detectors", "repairs"])
def test_every_method_has_a_row(kind: str) -> None:
    table = (ROOT / "docs" / "results" / "costs.md").read_text(encoding="utf-8")
    rows = set(re.findall(rf"^\| {kind[:-1]} \| `(\w+)` \|", table, re.MULTILINE))
    assert shipped(kind) - rows == set()


def test_the_studies_that_the_table_names_give_every_row() -> None:
    methods = read_study(ROOT / "studies" / "method-costs.toml")
    attacks = read_study(ROOT / "studies" / "attacks.toml")
    assert {spec.name for spec in attacks.attacks} >= shipped("attacks")
    assert {spec.name for spec, _ in methods.detectors} >= shipped("detectors")
    assert {spec.name for spec, _ in methods.repairs} >= shipped("repairs")
