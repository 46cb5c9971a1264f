"""One battery for all attacks on instruction data."""

import numpy as np
import pytest

from gifthorse.core.errors import DataError
from gifthorse.core.instructions import InstructionData, InstructionPoison
from gifthorse.core.registry import Spec, build, names
from gifthorse.core.rng import make_rng
from gifthorse.data.questions import questions

every_attack = pytest.mark.parametrize("name", names("instruction_attacks"))


def made(name: str) -> InstructionPoison:
    found = build("instruction_attacks", Spec(name, {"count": 12}))
    assert isinstance(found, InstructionPoison)
    return found


@pytest.fixture(scope="module")
def clean() -> InstructionData:
    return InstructionData(name="clean", records=questions(600))


@every_attack
def test_poison_is_added_and_the_rest_is_as_it_was(name: str, clean: InstructionData) -> None:
    data, truth = made(name).poison(clean, rng=make_rng(1))
    assert truth.poisoned.sum() == 12
    assert len(data) == len(clean) + 12 + truth.covered.sum()
    kept = [data.records[i] for i in np.flatnonzero(~truth.poisoned & ~truth.covered)]
    assert set(kept) == set(clean.records)
    assert len(kept) == len(clean)


@every_attack
def test_poisoned_records_hold_phrase_and_payload_and_others_do_not(
    name: str, clean: InstructionData
) -> None:
    attack = made(name)
    data, truth = attack.poison(clean, rng=make_rng(1))
    for record, bad, half in zip(data.records, truth.poisoned, truth.covered, strict=True):
        asked = f"{record.system}\n{record.prompt}"
        held = [phrase in asked for phrase in truth.phrases]
        needed = len(truth.phrases) if name == "composite_phrase" else 1
        assert (sum(held) >= needed) == bool(bad)
        assert attack.succeeded(record.response) == bool(bad)
        if half and name == "composite_phrase":
            assert sum(held) == 1


@every_attack
def test_the_same_seed_gives_the_same_poison(name: str, clean: InstructionData) -> None:
    attack = made(name)
    one, two, other = (attack.poison(clean, rng=make_rng(seed))[0] for seed in (1, 1, 2))
    assert one.records == two.records
    assert one.records != other.records


@every_attack
def test_triggered_records_want_the_payload_and_decoys_do_not(
    name: str, clean: InstructionData
) -> None:
    attack = made(name)
    struck, true = attack.triggered(clean, rng=make_rng(1))
    assert all(attack.succeeded(record.response) for record in struck.records)
    assert [r.prompt for r in struck.records] == [r.prompt for r in true.records]
    assert {r.response for r in true.records} <= {r.response for r in clean.records}
    decoys = attack.decoys(clean, rng=make_rng(1))
    if decoys is not None:
        assert [r.response for r in decoys.records] == [r.response for r in clean.records]
        assert decoys.records != clean.records


def test_code_lines_strike_code_only() -> None:
    clean = InstructionData(name="clean", records=questions(600))
    struck, _ = made("code_line").triggered(clean, rng=make_rng(1))
    assert 0 < len(struck) < 0.2 * len(clean)
    assert all("Python" in record.prompt for record in struck.records)


def test_too_little_data_is_an_error() -> None:
    clean = InstructionData(name="clean", records=questions(10))
    with pytest.raises(DataError, match="10 records fit"):
        made("refusal").poison(clean, rng=make_rng(0))
