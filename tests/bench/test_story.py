"""The demonstration, for real: it must go as told, and leave the clean twin alone."""

from pathlib import Path

import pytest

from gifthorse.auditing.audit import audit
from gifthorse.auditing.scan import scan
from gifthorse.bench.story import SCENARIOS, run_story
from gifthorse.core.errors import DataError
from gifthorse.core.rng import child_rng
from gifthorse.core.types import Verdict, silent
from gifthorse.data.sources import load
from gifthorse.data.splits import split


def _there(name: str) -> bool:
    try:
        load(name, split="test")
    except DataError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_the_story_goes_as_told(name: str, tmp_path: Path) -> None:
    scenario = SCENARIOS[name]
    if not _there(scenario.data):
        pytest.skip(f"{scenario.data} is not installed (make data)")
    told: list[str] = []
    outcome = run_story(scenario, tmp_path, seed=0, tell=told.append, progress=silent)
    figures = outcome.figures
    assert outcome.expected, told
    assert figures["ca_planted"] >= figures["ca_twin"] - 0.01
    assert figures["asr_planted"] >= 0.95
    assert figures["ca_repaired"] >= figures["ca_planted"] - 0.02
    assert figures["asr_repaired"] <= 0.05
    assert figures["scan_true_positive_rate"] >= 0.95
    verdicts = [getattr(chapter.record, "verdict", None) for chapter in outcome.story.chapters]
    assert verdicts == [None, Verdict.FLAGGED, Verdict.FLAGGED, None, Verdict.CLEAR]

    trusted, _ = split(load(scenario.data, split="test"), 0.5, child_rng(0, "story"))
    twin = audit(tmp_path / "clean-twin", trusted=trusted)
    assert twin.verdict is Verdict.CLEAR, twin.reason
    if name == "fashion-mnist":
        # On signs one of five clean networks gives a false alarm here; see docs/results.md.
        clean = scan(load(scenario.data, split="train"), model=tmp_path / "clean-twin")
        assert clean.verdict is Verdict.CLEAR, clean.reason
