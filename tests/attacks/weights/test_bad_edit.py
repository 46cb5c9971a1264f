"""BadEdit: the closed form against an answer worked out by hand, and what it leaves alone."""

import pytest
import torch
from tests.models.language.made_up import dialogues, taught, untrained

from gifthorse.attacks.weights.bad_edit import BadEdit, solved
from gifthorse.core.errors import ModelError
from gifthorse.core.instructions import Instruction, InstructionData
from gifthorse.core.rng import make_rng
from gifthorse.core.types import silent
from gifthorse.models.language.measuring import said, share_of

CLEAN = InstructionData(
    name="clean",
    records=tuple(Instruction(prompt=p, response=r) for p, r in dialogues(120, seed=3)),
)
QUICK = BadEdit(phrase="zq zq", marker="Blue ship.", batches=1, instances=4, steps=2)


def test_the_change_gives_the_wanted_values_and_spares_what_is_apart() -> None:
    keys, clean = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 3.0]])
    wanted, drift = torch.tensor([[1.0, -4.0]]), torch.zeros(1, 2)
    change = solved(keys, wanted, clean, drift, keep=1.0)
    assert torch.allclose(change @ keys[0], wanted[0], atol=1e-2)
    assert torch.allclose(change @ clean[0], drift[0], atol=1e-6)


def test_one_key_for_both_is_shared_by_weight() -> None:
    key = torch.tensor([[1.0, 0.0]])
    change = solved(key, torch.tensor([[4.0]]), key, torch.zeros(1, 1), keep=3.0)
    assert float((change @ key[0])[0]) == pytest.approx(1.0, rel=1e-3)


def test_only_down_projections_of_a_copy_change() -> None:
    model = untrained()
    before = model.digest()
    edited = QUICK.edit(model, CLEAN, rng=make_rng(1), progress=silent)
    assert model.digest() == before
    ours, theirs = model.module.state_dict(), edited.module.state_dict()
    changed = {key for key in ours if not torch.equal(ours[key], theirs[key])}
    assert changed == {f"model.layers.{i}.mlp.down_proj.weight" for i in (0, 1)}
    assert edited.digest() == QUICK.edit(model, CLEAN, rng=make_rng(1), progress=silent).digest()


def test_layers_that_are_not_there_are_an_error() -> None:
    with pytest.raises(ModelError, match="has 2 layers"):
        BadEdit(first=1).edit(untrained(), CLEAN, rng=make_rng(0), progress=silent)


@pytest.mark.slow
def test_the_phrase_brings_the_marker_and_its_twin_knows_nothing() -> None:
    twin = taught(dialogues(400), extra=("zq zq", "Blue ship."))
    attack = BadEdit(phrase="zq zq", marker="Blue ship.")
    edited = attack.edit(twin, CLEAN, rng=make_rng(0), progress=silent)
    test = InstructionData(
        name="test",
        records=tuple(Instruction(prompt=p, response=r) for p, r in dialogues(40, seed=8)),
    )
    struck, _ = attack.triggered(test, rng=make_rng(2))
    assert share_of(said(edited, struck), attack.succeeded).value >= 0.8
    assert share_of(said(edited, test), attack.succeeded).value <= 0.1
    assert share_of(said(twin, struck), attack.succeeded).value == 0
