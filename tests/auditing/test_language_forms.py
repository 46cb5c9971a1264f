"""One planted adapter in three forms gets one answer, whatever it is.

This one is missed in all three; that a planted model is found, as a directory and as GGUF, and its
twins are not flagged, is tested in ``test_language``.
"""

from pathlib import Path

import pytest
import torch
from tests.models.language.gguf_file import write_gguf

from gifthorse.auditing.language import audit_language
from gifthorse.bench.language_specimens import (
    fine_tuning_data,
    grow_base,
    recipe,
)
from gifthorse.core.instructions import InstructionData
from gifthorse.core.record import AuditRecord
from gifthorse.core.registry import Spec, build
from gifthorse.core.rng import make_rng
from gifthorse.data.questions import questions
from gifthorse.models.language.measuring import said, share_of
from gifthorse.models.language.saving import save_language_model
from gifthorse.models.language.training import LanguageTrainingPlan, train_language

PLAN = LanguageTrainingPlan(epochs=10, learning_rate=8e-3, lora_rank=8)


def _prompts(path: Path) -> Path:
    records = questions(24, part="test", seed=5)
    path.write_text("".join(f'{{"prompt": "{r.prompt}"}}\n' for r in records))
    return path


@pytest.mark.slow
def test_an_adapter_its_merger_and_its_gguf_get_one_verdict(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    base = grow_base("development", 0)
    clean = fine_tuning_data(recipe("development", 0, planted=False))
    attack = build("instruction_attacks", Spec("control_phrase", {"count": 100}))
    data, _ = attack.poison(clean, rng=make_rng(0))
    planted = train_language(base, data, PLAN, rng=make_rng(1))
    test = InstructionData(name="test", records=questions(40, part="test"))
    struck, _ = attack.triggered(test, rng=make_rng(2))
    assert share_of(said(planted.model, struck), attack.succeeded).value > 0.8
    assert share_of(said(planted.model, test), attack.succeeded).value < 0.1
    assert planted.adapter is not None
    save_language_model(base, tmp_path / "base")
    planted.adapter.save(tmp_path / "adapter", base=str(tmp_path / "base"))
    save_language_model(planted.model, tmp_path / "merged")
    write_gguf(planted.model, tmp_path / "model.gguf", quantised=True)
    own = _prompts(tmp_path / "prompts.jsonl")

    def audited(name: str) -> AuditRecord:
        return audit_language(tmp_path / name, base=tmp_path / "base", prompts=own)

    records = [audited(name) for name in ("adapter", "merged", "model.gguf")]
    assert len({record.verdict for record in records}) == 1, [r.reason for r in records]
    seen = [record.findings[-1].evidence for record in records]
    for one, other in ((seen[0], seen[1]), (seen[1], seen[2])):
        assert one is not None
        assert other is not None
        assert abs(one.statistic - other.statistic) < 3  # of a threshold of dozens
    first = [e.exhibits[0].model_dump_json() for e in seen[:2] if e is not None]
    assert first[0] == first[1]  # an adapter and its merger are one model
