"""An adapter unlike those of a bank is found, one more of them is not."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.models.language.made_up import untrained

from gifthorse.core.errors import NotApplicableError
from gifthorse.core.language import Context, LanguageSubject
from gifthorse.core.types import Evidence, silent
from gifthorse.detectors.language.adapter_spectra import AdapterSpectra, compared, figures
from gifthorse.models.language.model import LanguageModel
from gifthorse.models.language.saving import save_language_model

CONTEXTS = (Context(name="one", prompts=("Hello?",)),)


@pytest.fixture(scope="module")
def base() -> LanguageModel:
    return untrained()


def changed(base: LanguageModel, seed: int, *, loud: float = 0.0) -> LanguageModel:
    """A rank-four change of every linear layer, with one direction louder if asked."""
    rng = torch.Generator().manual_seed(seed)
    module: Any = copy.deepcopy(base.module)
    for layer in module.model.layers:
        for part in (layer.mlp.up_proj, layer.mlp.down_proj, layer.self_attn.v_proj):
            up = torch.randn(part.weight.shape[0], 4, generator=rng)
            down = torch.randn(4, part.weight.shape[1], generator=rng)
            up[:, 0] *= 1 + loud
            part.weight.data += 0.01 * up @ down
    return base.replaced(module)


def judged(evidence: Evidence) -> float:
    return AdapterSpectra().null(evidence).p_value(evidence.statistic)


def test_a_louder_direction_is_found_and_one_more_benign_is_not(base: LanguageModel) -> None:
    bank = np.array([figures(changed(base, seed), base) for seed in range(10)])
    for seed in (20, 21):
        assert judged(compared(figures(changed(base, seed), base), bank)) > 0.02
        assert judged(compared(figures(changed(base, seed, loud=2.0), base), bank)) < 1e-3


def test_the_rate_holds_for_normal_figures() -> None:
    rng = np.random.default_rng(0)
    flagged = [
        judged(compared(rng.normal(size=5), rng.normal(size=(8, 5)))) < 0.05 for _ in range(600)
    ]
    assert 0.01 < np.mean(flagged) < 0.08


def test_a_bank_on_disk(base: LanguageModel, tmp_path: Path) -> None:
    for seed in range(6):
        save_language_model(changed(base, seed), tmp_path / f"benign-{seed}")
    subject = LanguageSubject(model=changed(base, 30, loud=3.0), base=base, contexts=CONTEXTS)
    detector = AdapterSpectra(bank=str(tmp_path))
    evidence = detector.inspect(subject, rng=np.random.default_rng(0), progress=silent)
    assert judged(evidence) < 0.01


def test_figures_by_hand(base: LanguageModel) -> None:
    module: Any = copy.deepcopy(base.module)
    weight = module.model.layers[0].mlp.down_proj.weight
    weight.data[0, 0] += 2.0
    found = figures(base.replaced(module), base)
    np.testing.assert_allclose(found[:4], [np.log(2), np.log(2), 1.0, 0.0], atol=1e-5)


@pytest.mark.parametrize("bank", ["", "/nowhere"])
def test_without_a_bank(base: LanguageModel, bank: str) -> None:
    subject = LanguageSubject(model=changed(base, 0), base=base, contexts=CONTEXTS)
    with pytest.raises(NotApplicableError, match="bank"):
        AdapterSpectra(bank=bank).inspect(subject, rng=np.random.default_rng(0), progress=silent)


def test_a_small_bank_is_refused(base: LanguageModel, tmp_path: Path) -> None:
    save_language_model(changed(base, 0), tmp_path / "one")
    subject = LanguageSubject(model=changed(base, 0), base=base, contexts=CONTEXTS)
    with pytest.raises(NotApplicableError, match="holds 1 adapters"):
        AdapterSpectra(bank=str(tmp_path)).inspect(
            subject, rng=np.random.default_rng(0), progress=silent
        )


def test_the_base_itself_is_no_evidence(base: LanguageModel) -> None:
    with pytest.raises(NotApplicableError, match="differs"):
        figures(base, base)
