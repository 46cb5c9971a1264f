"""A plugin package of somebody else, installed for real, is found and keeps the contract."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # pip builds and installs a package
PACKAGE = Path(__file__).parents[1] / "thirdparty_plugin"
LIST = "from gifthorse.cli.main import run; run()"


def run(*words: str, place: Path) -> subprocess.CompletedProcess[str]:
    kept = {**os.environ, "PYTHONPATH": str(place), "OMP_NUM_THREADS": "1"}
    return subprocess.run(  # noqa: S603 - our own words
        [sys.executable, *words], env=kept, cwd=place, capture_output=True, text=True, check=False
    )


def contract(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The package's own test, outside of our tests and their settings."""
    test = shutil.copy(PACKAGE / "test_contract.py", place / "test_contract.py")
    return run("-m", "pytest", "-q", "-p", "no:cacheprovider", *words, str(test), place=place)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    source, target = tmp_path / "source", tmp_path / "site"
    shutil.copytree(PACKAGE, source)
    target.mkdir()
    made = run(
        *("-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"),
        *("--disable-pip-version-check", "--target", str(target), str(source)),
        place=target,
    )
    assert made.returncode == 0, made.stderr
    return target


def test_it_is_listed_beside_ours_and_keeps_the_contract(place: Path) -> None:
    shown = run("-c", LIST, "list", "--json", place=place)
    assert shown.returncode == 0, shown.stderr
    found = json.loads(shown.stdout)
    listed = {kind: {page["name"] for page in pages} for kind, pages in found.items()}
    assert {"brightness", "neural_cleanse"} <= listed["detectors"]
    assert {"rescaled_head", "anp"} <= listed["repairs"]
    assert {"white_frame", "badnets"} <= listed["attacks"]
    ran = contract(place)
    assert ran.returncode == 0, ran.stdout
    assert "failed" not in ran.stdout
    assert "passed" in ran.stdout


def test_a_plugin_that_breaks_the_contract_is_caught(place: Path) -> None:
    broken = place / "brightness_guard" / "detector.py"
    text = broken.read_text(encoding="utf-8")
    for right, wrong in (
        ("del rng", "rng = np.random.default_rng()"),
        ("scores = np.zeros(len(data))", "scores = rng.random(len(data))"),
        ("scores[own] = ", "scores[own] -= "),
        ('raise NotApplicableError("this', 'raise TypeError("this'),
    ):
        assert text.count(right) == 1
        text = text.replace(right, wrong)
    broken.write_text(text, encoding="utf-8")
    ran = contract(place, "-k", "brightness")
    assert ran.returncode == 1, ran.stdout
    assert "draws from a generator of its own" in ran.stdout
    assert "clean samples score higher" in ran.stdout
    assert "instead of refusing" in ran.stdout
