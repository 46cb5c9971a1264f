"""`gifthorse audit PATH --files-only`: exit codes, formats, and no torch."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gifthorse.core.record import AuditRecord, FilesRecord, read_record
from gifthorse.core.types import Verdict
from gifthorse.provenance.files.scan import scan_files

from .conftest import Command


class _Calls:
    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return os.getcwd, ()


@pytest.fixture
def flagged(tmp_path: Path) -> Path:
    folder = tmp_path / "model [x]"
    folder.mkdir()
    (folder / "weights.pkl").write_bytes(b"\x80\x04N." + pickle.dumps(_Calls(), protocol=2))
    (folder / "extra.bin").write_bytes(b"\xff\x00\xfe\xfd unknown")
    (folder / "readme.md").write_text("Text.")
    return folder


def test_exit_codes(flagged: Path, tmp_path: Path, command: Command) -> None:
    assert command("audit", flagged, "--files-only").code == 1
    assert command("audit", flagged / "weights.pkl", "--files-only").code == 1
    assert command("audit", flagged / "readme.md", "--files-only").code == 0
    assert command("audit", flagged / "extra.bin", "--files-only").code == 3
    missing = command("audit", tmp_path / "missing", "--files-only")
    assert missing.code == 2
    assert "no such file" in missing.err


@pytest.mark.parametrize("change", ["exchanged", "added", "removed"])
def test_files_that_change_meanwhile(
    change: str, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("text")
    assert command("audit", tmp_path, "--files-only").code == 0

    def scanned(*arguments: Any, **options: Any) -> FilesRecord:
        found = scan_files(*arguments, **options)
        if change == "exchanged":
            (tmp_path / "new").write_text("evil")
            (tmp_path / "new").replace(tmp_path / "a.txt")
        elif change == "added":
            (tmp_path / "c.txt").write_text("more")
        else:
            (tmp_path / "b.txt").unlink()
        return found

    monkeypatch.setattr("gifthorse.provenance.files.audit.scan_files", scanned)
    result = command("audit", tmp_path, "--files-only")
    assert result.code == 2
    assert "changed while it was examined" in result.err


def test_what_is_printed(flagged: Path, command: Command) -> None:
    result = command("audit", flagged, "--files-only")
    assert "weights.pkl" in result.out
    assert ".getcwd" in result.out
    assert "3 examined, 1 clear" in result.out.replace("\n", " ")


def test_the_record_and_the_reports(flagged: Path, tmp_path: Path, command: Command) -> None:
    reports = [tmp_path / f"r.{kind}" for kind in ("json", "md", "html")]
    sarif = tmp_path / "r.sarif"
    for report in reports:
        assert command("audit", flagged, "--files-only", "--report", report).code == 1
    assert command("audit", flagged, "--files-only", "--sarif", sarif).code == 1
    record = read_record(reports[0])
    assert isinstance(record, AuditRecord)
    assert record.files is not None
    assert [file.path for file in record.files.files] == ["weights.pkl", "extra.bin", "readme.md"]
    for report in reports[1:]:
        text = report.read_text()
        assert "getcwd" in text
        assert "not judged" in text
    (run,) = json.loads(sarif.read_text())["runs"]
    rules = run["tool"]["driver"]["rules"]
    for result in run["results"]:
        place = result["locations"][0]["physicalLocation"]
        assert place["artifactLocation"]["uri"].endswith("/model%20%5Bx%5D/weights.pkl")
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
    first = next(r for r in run["results"] if r["ruleId"] == "files/pickle-dangerous")
    # The call in the second of two stacked pickles, whose import starts at byte 6.
    assert first["locations"][0]["physicalLocation"]["region"]["byteOffset"] > 4
    (invocation,) = run["invocations"]
    (note,) = invocation["toolExecutionNotifications"]
    assert "extra.bin" in note["message"]["text"]
    assert rules[note["associatedRule"]["index"]]["id"] == note["associatedRule"]["id"]


def test_it_needs_no_torch(flagged: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['transformers'] = None\n"
        f"sys.argv = ['gifthorse', 'audit', {str(flagged)!r}, '--files-only']\n"
        "from gifthorse.cli.main import run\nrun()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)  # noqa: S603
    assert done.returncode == 1, done.stderr
    assert b"FLAGGED" in done.stdout


def test_every_audit_begins_with_the_files(
    model_dir: Path, trusted: Path, tmp_path: Path, command: Command
) -> None:
    place = tmp_path / "model"
    shutil.copytree(model_dir, place)
    asked = ("audit", place, "--trusted", f"npz:{trusted}", "--json")
    clean = command(*asked)
    record = clean.json()
    assert record["files"]["verdict"] == "CLEAR"
    assert record["verdict"] in ("CLEAR", "FLAGGED")

    (place / "extra.bin").write_bytes(b"\xff\x00\xfe\xfd unknown")
    unknown = command(*asked).json()
    assert unknown["findings"][0]["verdict"] == record["findings"][0]["verdict"]
    assert unknown["files"]["verdict"] == "INCONCLUSIVE"
    assert unknown["verdict"] == ("FLAGGED" if clean.code == 1 else "INCONCLUSIVE")

    (place / "extra.bin").write_bytes(pickle.dumps(_Calls()))
    # Not even a model that cannot be loaded keeps the files from being judged.
    (place / "config.json").write_text("{}")
    flagged = command(*asked)
    assert flagged.code == 1
    found = flagged.json()
    assert [f["verdict"] for f in found["findings"]] == ["NOT_APPLICABLE"]
    assert "extra.bin" in found["reason"]


def test_torch_is_asked_too(tmp_path: Path) -> None:
    import torch

    from gifthorse.auditing.files import check_files

    torch.save({"a": np.float32(1)}, tmp_path / "numpy.pt")
    torch.save({"a": torch.ones(1)}, tmp_path / "plain.pt")
    files = check_files(tmp_path)
    assert files is not None
    assert files.verdict is Verdict.CLEAR
    opinions = {file.path: [issue.rule for issue in file.issues] for file in files.files}
    assert opinions == {"numpy.pt": ["third-opinion"], "plain.pt": []}
