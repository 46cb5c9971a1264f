"""A study whose trials do nothing, so that the runner and the ledger can be tested alone."""

import time
from pathlib import Path

import numpy as np

from gifthorse.bench.ledger import Ledger
from gifthorse.bench.study import Study, Trial, parse_study
from gifthorse.bench.trial_record import Circumstances, Quality, TrialRecord
from gifthorse.bench.trials import Outcome, Place, label
from gifthorse.core.types import Progress
from gifthorse.metrics.rates import rate


def study(seeds: int = 8) -> Study:
    """(1 clean + 1 attack) × (none + 2 detectors + 1 repair) = 8 trials a seed."""
    return parse_study(
        {
            "title": "tiny",
            "seeds": list(range(seeds)),
            "attack": [{"name": "badnets", "target": 1}],
            "detector": [{"name": "universality"}, {"name": "strip"}],
            "repair": [{"name": "unlearning", "evidence": "universality"}],
        }
    )


def outcome(trial: Trial, place: Place) -> Outcome:
    """A result that depends on nothing but the trial."""
    count = int(trial.id[:4], 16) % 101
    record = TrialRecord(
        id=trial.id,
        trial=trial,
        label=label(trial),
        status="done",
        quality=Quality(clean_accuracy=rate(count, 100)),
        circumstances=Circumstances(engine=place.engine),
    )
    return Outcome(record=record, arrays={"scores": np.arange(count, dtype=np.float64)})


def empty(trial: Trial, place: Place, progress: Progress) -> Outcome:
    """Work that is done at once."""
    return outcome(trial, place)


def short(trial: Trial, place: Place, progress: Progress) -> Outcome:
    """Work of some milliseconds."""
    time.sleep(0.004)
    return outcome(trial, place)


def contents(root: Path) -> tuple[dict[str, object], list[str]]:
    """What must be the same in two ledgers: results, and the names of arrays (their digests)."""
    ledger = Ledger.open(root)
    assert not any((root / "aside").iterdir())
    results = {record.id: record.result() for record in ledger.records()}
    arrays = sorted(path.name for path in (root / "arrays").glob("*.safetensors"))
    for name in arrays:
        ledger.arrays(name.removesuffix(".safetensors"))
    return dict(results), arrays
