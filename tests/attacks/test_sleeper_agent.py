"""Sleeper Agent: known answers, and what it leaves alone."""

import numpy as np
import pytest
import torch

from gifthorse.attacks.data.sleeper_agent import SleeperAgent, misalignment
from gifthorse.core.errors import DataError
from gifthorse.core.types import silent
from gifthorse.models.trainer import SmallTrainer
from gifthorse.models.training import TrainingPlan
from gifthorse.testing.workbench import Workbench, all_of

CLEAN = Workbench().photographs
TRAINER = SmallTrainer(plan=TrainingPlan(epochs=2, batch_size=32), width=8)


def test_misalignment_by_hand() -> None:
    one = [torch.tensor([3.0, 0.0]), torch.tensor([4.0])]
    assert float(misalignment(one, one)) == pytest.approx(0)
    assert float(misalignment(one, [-5 * part for part in one])) == pytest.approx(2)
    other = [torch.tensor([0.0, 1.0]), torch.tensor([0.0])]
    assert float(misalignment(one, other)) == pytest.approx(1)


def test_labels_stay_changes_are_small_and_no_sample_carries_the_trigger() -> None:
    attack = SleeperAgent(target=2, source=1, rate=0.1, steps=4, retrainings=1, size=4)
    made = attack.craft(CLEAN, trainer=TRAINER, rng=np.random.default_rng(0), progress=silent)
    assert made.data is not None
    poisoned = made.truth.poisoned
    assert poisoned.sum() == 24
    assert (CLEAN.labels[poisoned] == 2).all()
    np.testing.assert_array_equal(made.data.labels, CLEAN.labels)
    moved = np.abs(made.data.batch(np.arange(len(CLEAN))) - all_of(CLEAN))
    assert moved[~poisoned].max() == 0
    assert 0 < moved[poisoned].max() <= attack.bound + 1 / 255
    wanted, true = made.strike.triggered(CLEAN, rng=np.random.default_rng(0))
    assert set(true.labels.tolist()) == {1}
    assert set(wanted.labels.tolist()) == {2}


def test_steps_bring_the_gradients_into_line() -> None:
    told: list[str] = []
    few = SleeperAgent(target=2, source=1, rate=0.1, steps=1, retrainings=0, size=4)
    more = SleeperAgent(target=2, source=1, rate=0.1, steps=12, retrainings=0, size=4)

    def apart(attack: SleeperAgent) -> float:
        from gifthorse.attacks.data import sleeper_agent as module

        rng = np.random.default_rng(0)
        made = attack.craft(
            CLEAN, trainer=TRAINER, rng=rng, progress=lambda _d, _t, what: told.append(what)
        )
        assert made.data is not None
        surrogate = TRAINER.fit(CLEAN, rng=np.random.default_rng(0))
        x = made.data.batch(np.flatnonzero(made.truth.poisoned))
        sources = CLEAN.batch(np.flatnonzero(CLEAN.labels == 1))
        stamped = attack.trigger.apply(sources, rng)
        ours = module._gradient(surrogate, x, 2, graph=False)
        return float(misalignment(ours, module._gradient(surrogate, stamped, 2, graph=False)))

    assert apart(more) < apart(few) - 0.05
    assert "matching gradients" in told


def test_impossible_aims_are_refused() -> None:
    rng = np.random.default_rng(0)
    for options, words in (
        ({"target": 9}, "is no class of"),
        ({"source": 9}, "is no class of"),
        ({"target": 0, "rate": 0.9}, "cannot choose"),
        ({"target": 0, "size": 40}, "does not fit"),
    ):
        with pytest.raises(DataError, match=words):
            SleeperAgent(**options).craft(CLEAN, trainer=TRAINER, rng=rng, progress=silent)
    for options in ({"target": 1, "source": 1}, {"bound": 2.0}, {"steps": 0}, {"retrainings": -1}):
        with pytest.raises(ValueError, match="must"):
            SleeperAgent(**options)
