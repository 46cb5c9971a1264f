"""Every method has an efficacy test with the clean twin, or stands on a page that says why not.

Which methods a test holds is read from what the test is run on (``efficacy_listing``); which ones
are named as weak, from the tables of the pages.
"""

import json
import re
import subprocess
import sys

import pytest
from tests.contracts.efficacy_listing import HALVES, KINDS, ROOT
from tests.shipped import shipped

from gifthorse.training.secure import METHODS

PAGES = {
    "attacks": ("weak-attacks.md",),
    "detectors": ("weak-defences.md",),
    "repairs": ("weak-defences.md",),
}


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, list[str]]]:
    out = tmp_path_factory.mktemp("listing") / "held.json"
    script = ROOT / "tests" / "contracts" / "efficacy_listing.py"
    done = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, script, out], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, dict[str, list[str]]] = json.loads(out.read_text(encoding="utf-8"))
    return found


def rows(page: str) -> dict[str, list[str]]:
    """Cells of the tables of four columns on a page, by the method that the first cell names."""
    text = (ROOT / "docs" / "results" / page).read_text(encoding="utf-8")
    lines = re.findall(r"^\| `(\w+)[^`]*`[^|]*\|(.+)\|$", text, re.MULTILINE)
    cells = {name: [cell.strip() for cell in rest.split("|")] for name, rest in lines}
    return {name: row for name, row in cells.items() if len(row) == 3}


@pytest.mark.parametrize("kind", KINDS)
def test_a_method_is_held_to_its_effect_or_named_as_weak(
    kind: str, held: dict[str, dict[str, list[str]]]
) -> None:
    both = {name for name, halves in held[kind].items() if set(halves) == HALVES}
    weak = {name for page in PAGES[kind] for name in rows(page)}
    assert shipped(kind) - both - weak == set()
    assert both  # an empty listing would make the page carry everything


def test_ways_to_train_have_no_efficacy_test_and_are_named() -> None:
    assert set(METHODS) - set(rows("weak-defences.md")) == set()


@pytest.mark.parametrize("page", ["weak-attacks.md", "weak-defences.md"])
def test_a_page_names_what_is_shipped_with_figures_and_a_reason(page: str) -> None:
    known = {name for kind in KINDS for name in shipped(kind)} | set(METHODS)
    found = rows(page)
    assert set(found) - known == set()
    for name, cells in found.items():
        published, here, why = cells
        assert re.search(r"\d", here), f"{name}: nothing measured"
        assert published, name
        assert why, name
