"""The commands on a small model: exit codes, records, reports."""

import json
from pathlib import Path

import numpy as np
import pytest

import gifthorse
from gifthorse.cli import console
from gifthorse.data.npz import save_npz

from .conftest import Command, bars


def test_a_clean_model_is_clear_with_exit_code_0(
    model_dir: Path, trusted: Path, tmp_path: Path, command: Command
) -> None:
    page = tmp_path / "audit.html"
    result = command(
        "audit", model_dir, "--trusted", f"npz:{trusted}", "--json", "--report", page,
        "--detector", "universality:steps=40",
    )  # fmt: skip
    record = result.json()
    assert (result.code, record["verdict"]) == (0, "CLEAR"), record["reason"]
    assert record["kind"] == "audit"
    assert 0 <= record["score"] < 1.3
    assert record["findings"][0]["threshold"]["false_alarm_rate"] == 0.02
    assert "Clear" in page.read_text(encoding="utf-8")


def test_json_and_python_give_the_same_record(
    model_dir: Path, trusted: Path, command: Command
) -> None:
    spec = "universality:steps=20"
    printed = command(
        "audit", model_dir, "--trusted", f"npz:{trusted}", "--json", "--detector", spec
    ).json()
    record = gifthorse.audit(model_dir, trusted=f"npz:{trusted}", detectors=(spec,))
    same = json.loads(record.model_dump_json())
    assert printed["findings"][0]["evidence"] == same["findings"][0]["evidence"]
    assert printed["subject"] == same["subject"]
    assert printed["score"] == same["score"]


def test_a_record_becomes_a_report(
    model_dir: Path, trusted: Path, tmp_path: Path, command: Command
) -> None:
    result = command(
        "audit", model_dir, "--trusted", f"npz:{trusted}", "--json",
        "--detector", "universality:steps=10",
    )  # fmt: skip
    stored = tmp_path / "record.json"
    stored.write_text(result.out, encoding="utf-8")
    for name in ("page.html", "page.md", "page.sarif"):
        assert command("report", stored, tmp_path / name).code == 0
        assert (tmp_path / name).stat().st_size > 200


def test_plant_writes_model_data_and_truth_apart(tmp_path: Path, command: Command) -> None:
    data = tmp_path / "data.npz"
    train_part, test_part = bars(240, seed=0), bars(120, seed=1)
    np.savez(
        data,
        x_train=train_part.pixels,
        y_train=train_part.labels,
        x_test=test_part.pixels,
        y_test=test_part.labels,
    )
    out = tmp_path / "planted"
    result = command(
        "plant", "badnets:target=2,rate=0.2,colour=white", out, "--data", f"npz:{data}",
        "--epochs", 5, "--width", 8, "--json",
    )  # fmt: skip
    assert result.code == 0, result.err
    record = result.json()
    assert record["poisoned_samples"] == 48
    truth = json.loads((out / "truth.json").read_text(encoding="utf-8"))
    assert len(truth["poisoned"]) == 48
    for name in ("trigger.png", "triggered.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    model_files = {p.name for p in (out / "model").iterdir()}
    assert model_files == {"config.json", "model.safetensors", "preprocessor_config.json"}
    scanned = command("scan", f"npz:{out / 'data.npz'}", "--model", out / "model", "--json")
    assert scanned.json()["kind"] == "scan"
    assert scanned.code in (0, 1, 3)


def test_a_refused_repair_writes_nothing_and_has_exit_code_3(
    model_dir: Path, trusted: Path, tmp_path: Path, command: Command
) -> None:
    out = tmp_path / "repaired"
    result = command(
        "repair", model_dir, out, "--trusted", f"npz:{trusted}", "--json",
        "--method", "fine_tuning:learning_rate=50",
    )  # fmt: skip
    assert result.code == 3, result
    assert not out.exists()


def test_a_repair_that_keeps_accuracy_is_written(
    model_dir: Path, trusted: Path, tmp_path: Path, command: Command
) -> None:
    out = tmp_path / "repaired"
    result = command(
        "repair", model_dir, out, "--trusted", f"npz:{trusted}", "--json",
        "--method", "fine_tuning", "--max-drop", "0.1",
    )  # fmt: skip
    assert result.code == 0, result
    assert result.json()["accepted"] is True
    assert gifthorse.load_classifier(out).class_names == tuple("abcdef")


def test_unlearning_a_clean_model_does_not_apply(
    model_dir: Path, trusted: Path, tmp_path: Path, command: Command
) -> None:
    result = command("repair", model_dir, tmp_path / "r", "--trusted", f"npz:{trusted}")
    assert result.code == 3, result
    assert not (tmp_path / "r").exists()


def test_list_shows_every_kind(command: Command) -> None:
    found = command("list", "--json").json()
    assert {page["name"] for page in found["attacks"]} >= {"badnets", "blended"}
    assert {page["name"] for page in found["detectors"]} >= {
        "activation_clustering", "neural_cleanse", "spectral_signatures", "strip", "universality",
    }  # fmt: skip
    assert {page["name"] for page in found["repairs"]} >= {
        "fine_pruning", "fine_tuning", "unlearning",
    }  # fmt: skip
    page = command("list", "attack", "badnets", "--json").json()
    assert page["options"]["size"] == 3
    assert "1708.06733" in page["paper"]


@pytest.mark.parametrize("width", [60, 80])
def test_list_writes_names_out_however_narrow_the_terminal(
    width: int, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console.out, "width", width)
    found = command("list", "--json").json()
    known = {page["name"] for pages in found.values() for page in pages}
    assert "activation_clustering" in known
    assert known - set(command("list").out.split()) == set()


@pytest.mark.parametrize(
    "name", ["", "audit", "scan", "repair", "plant", "train", "report", "list", "demo"]
)
def test_help_has_examples(name: str, command: Command) -> None:
    result = command(*name.split(), "--help")
    assert result.code == 0
    if name:
        assert "Example" in result.out
        assert f"gifthorse {name}" in result.out


def test_scan_of_one_label_is_an_error(tmp_path: Path, command: Command) -> None:
    data = bars(24, seed=0)
    path = tmp_path / "one.npz"
    np.savez(path, images=data.pixels, labels=np.zeros(24, dtype=np.int64))
    assert command("scan", f"npz:{path}").code == 2


def test_scan_reads_back_what_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "bars.npz"
    save_npz(bars(24, seed=0), path)
    loaded = gifthorse.load_data(f"npz:{path}")
    assert loaded.class_names == tuple("abcdef")
