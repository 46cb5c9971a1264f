"""Real trials on networks that learn next to nothing: what is recorded, and what is shared."""

from pathlib import Path

import pytest

from gifthorse.bench import workshop
from gifthorse.bench.ledger import Ledger
from gifthorse.bench.runner import run_study
from gifthorse.bench.study import Study, grid, parse_study
from gifthorse.bench.table import rows, to_csv, write_parquet
from gifthorse.bench.trial_record import TrialRecord
from gifthorse.bench.trials import Place, run_trial
from gifthorse.core.errors import LedgerError


def study() -> Study:
    return parse_study(
        {
            "title": "real",
            "seeds": [0],
            "data": {
                "source": "signs:928",
                "test": "signs:192",
                "trusted": 64,
                "probe": 32,
                "inputs": 60,
            },
            "model": {"width": 8},
            "training": {"epochs": 5, "batch_size": 32, "learning_rate": 0.05},
            "attack": [{"name": "badnets", "target": 3, "rate": 0.05, "size": 4}],
            "detector": [
                {"name": "universality", "steps": 4, "samples": 16, "goal": 0.02},
                {"name": "spectral_signatures"},
                {"name": "strip", "overlays": 3},
            ],
            "repair": [
                {"name": "fine_tuning", "epochs": 1},
                {"name": "unlearning", "evidence": "universality"},
            ],
        }
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("bench") / "ledger"
    summary = run_study(study(), place)
    assert summary.failed == ()
    assert summary.ran == 12
    return place


def found(root: Path, attack: bool, defence: str) -> TrialRecord:
    return next(
        record
        for record in Ledger.open(root).records()
        if (record.trial.attack is not None) == attack
        and (record.trial.defence.name if record.trial.defence else "") == defence
    )


def test_models_are_trained_once(root: Path) -> None:
    models = [path for path in (root / "models").iterdir() if not path.name.startswith(".")]
    assert len(models) == 2
    records = Ledger.open(root).records()
    assert len({r.digests["model"] for r in records}) == 2


def test_training_is_on_the_bill(root: Path) -> None:
    for attack in (True, False):
        cost = found(root, attack, "").circumstances.cost
        assert cost.backward_passes == 5 * 928  # epochs × pictures
        assert cost.forward_passes >= cost.backward_passes
        assert cost.processor_seconds > 0


def test_the_undefended_model_is_measured_with_its_background(root: Path) -> None:
    planted = found(root, True, "")
    assert planted.quality is not None
    assert planted.quality.attack_success_rate is not None
    assert planted.quality.background is not None
    assert planted.poisoned_samples == 46
    assert planted.exhibits
    clean = found(root, False, "")
    assert clean.quality is not None
    assert clean.quality.attack_success_rate is None


def test_detectors_judge_the_planted_model_and_its_clean_twin(root: Path) -> None:
    for name in ("universality", "spectral_signatures", "strip"):
        for attack in (True, False):
            record = found(root, attack, name)
            assert record.detection is not None, (name, attack, record.reason)
            assert record.arrays is not None
            arrays = Ledger.open(root).arrays(record.arrays)
            assert len(arrays["scores"]) > 0
            # Only the bench knows the truth, and there is none about a clean twin.
            sampled = attack and name != "universality"
            assert (record.detection.sample_auc is not None) == sampled
    ranked = found(root, True, "universality").detection
    assert ranked is not None
    assert ranked.target_rank is not None


def test_repairs_are_measured_before_and_after(root: Path) -> None:
    record = found(root, True, "fine_tuning")
    assert record.quality is not None
    assert record.repaired is not None
    der = record.repaired.defence_effectiveness
    assert der is not None
    assert 0 <= der.low <= der.value <= der.high <= 1
    bare = found(root, True, "")
    assert bare.quality is not None
    assert record.repaired.before.clean_accuracy == bare.quality.clean_accuracy
    clean = found(root, False, "fine_tuning").repaired
    assert clean is not None
    assert clean.defence_effectiveness is None


def test_a_repair_without_evidence_has_no_result(root: Path) -> None:
    record = found(root, False, "unlearning")
    assert record.status == "no_result"
    assert "trigger" in record.reason


def test_the_same_trial_gives_the_same_result(root: Path, tmp_path: Path) -> None:
    again = Ledger.create(tmp_path / "again")
    bare = [trial for trial in grid(study()) if trial.role == "none"]
    for trial in bare:
        outcome = run_trial(trial, Place(root=again.root))
        kept = Ledger.open(root).read(trial.id)
        assert kept is not None
        assert outcome.record.result() == kept.result()


def test_a_plugin_that_breaks_is_a_failure_and_not_the_end(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object, **__: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("gifthorse.bench.trials.pictures", breaks)
    record = run_trial(grid(study())[0], Place(root=root)).record
    assert (record.status, record.reason) == ("failed", "ZeroDivisionError: oops")


def test_a_damaged_model_is_said_and_not_used(root: Path, tmp_path: Path) -> None:
    trial = grid(study())[0]
    ledger = Ledger.create(tmp_path / "damaged")
    place = Place(root=ledger.root)
    assert run_trial(trial, place).record.status == "done"
    weights = ledger.root / "models" / trial.planted_id / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(LedgerError, match="delete it"):
        run_trial(trial, place)


def test_a_full_disk_in_training_is_the_ledgers_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger.create(tmp_path / "full")

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(workshop, "_save_arrays", fails)
    with pytest.raises(LedgerError, match="No space left"):
        run_trial(grid(study())[0], Place(root=ledger.root))
    assert [p.name for p in (ledger.root / "models").iterdir() if p.is_dir()] == []


def test_the_table_goes_to_csv_and_parquet(root: Path, tmp_path: Path) -> None:
    from pyarrow import parquet

    table = rows(Ledger.open(root).records())
    assert len(table) == 12
    assert to_csv(table).count("\n") == 13
    write_parquet(table, tmp_path / "t.parquet")
    read = parquet.read_table(tmp_path / "t.parquet")
    assert read.num_rows == 12
    assert read.column("asr").to_pylist() == [line["asr"] for line in table]
