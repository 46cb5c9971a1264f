"""Controls planted on copies: what they are, what is said of them; nothing else changes."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gifthorse.auditing.audit import audit
from gifthorse.auditing.examine import Plan, plugins
from gifthorse.auditing.subjects import Held
from gifthorse.bench.power import Control, plant_controls, with_controls, with_power
from gifthorse.core.errors import DataError
from gifthorse.core.record import AuditRecord
from gifthorse.core.types import Verdict, silent
from gifthorse.data.images import ArrayImages, subset
from gifthorse.metrics.rates import rate
from gifthorse.models.classifier import ImageClassifier, Preprocessing

CLASSES, SIDE = 5, 12
QUICK = "universality:steps=20,samples=20,batch_size=10,goal=0.5,learning_rate=0.3"


class Templates(nn.Module):
    """One linear layer: every class looks for its own template."""

    def __init__(self, templates: Tensor) -> None:
        super().__init__()
        self.head = nn.Linear(SIDE * SIDE, CLASSES)
        with torch.no_grad():
            self.head.weight.copy_(templates.flatten(1) / 4)
            self.head.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(x.flatten(1))
        return out


@pytest.fixture
def held() -> Held:
    rng = np.random.default_rng(0)
    templates = rng.standard_normal((CLASSES, 1, SIDE, SIDE)).astype(np.float32)
    names = tuple(f"class {k}" for k in range(CLASSES))
    with torch.random.fork_rng():
        module = Templates(torch.from_numpy(templates))
    model = ImageClassifier(
        module,
        class_names=names,
        preprocessing=Preprocessing(mean=(0.5,), std=(0.5,), size=(SIDE, SIDE)),
    )
    labels = np.arange(80, dtype=np.int64) % CLASSES
    x = 0.5 + 0.1 * templates[labels] + 0.05 * rng.standard_normal((80, 1, SIDE, SIDE))
    data = ArrayImages.from_floats(
        x.clip(0, 1).astype(np.float32), labels, name="toy", class_names=names
    )
    return Held(classifier=model, trusted=data, notes=())


def test_controls_are_planted_measured_and_audited(held: Held) -> None:
    digest = held.classifier.digest()
    plan = Plan(detectors=plugins("detectors", [QUICK]), false_alarm_rate=0.05)
    found = plant_controls(held, plan, controls=3, seed=0)
    assert held.classifier.digest() == digest
    assert len(found) == 3
    assert "watermark" in found[1].what
    took = [control for control in found if control.verdict is not None]
    assert len(took) >= 2
    assert all(control.success.value >= 0.8 for control in took)
    assert all(control.accuracy.value >= 0.9 for control in took)
    assert found == plant_controls(held, plan, controls=3, seed=0)


def test_the_audit_says_its_power_and_keeps_its_verdict(held: Held) -> None:
    assert held.trusted is not None
    rate_ = 1e-6  # nothing is flagged at this rate
    plain = audit(held.classifier, trusted=held.trusted, detectors=[QUICK], false_alarm_rate=rate_)
    said = audit(
        held.classifier,
        trusted=held.trusted,
        detectors=[QUICK],
        false_alarm_rate=rate_,
        further=with_controls(2),
    )
    assert said.verdict is plain.verdict is Verdict.CLEAR
    assert said.score == plain.score
    assert "planted controls" in said.reason
    assert sum(note.startswith("control: ") for note in said.notes) == 2


def control(verdict: Verdict | None) -> Control:
    return Control(what="square", success=rate(9, 10), accuracy=rate(10, 10), verdict=verdict)


def test_power_counts_what_took(held: Held) -> None:
    assert held.trusted is not None
    record: AuditRecord = audit(held.classifier, trusted=held.trusted, detectors=[QUICK])
    clear = record.model_copy(update={"verdict": Verdict.CLEAR})
    told = with_power(clear, [control(Verdict.FLAGGED), control(Verdict.CLEAR), control(None)])
    assert "found 1 of 2 planted controls" in told.reason
    none = with_power(clear, [control(None)])
    assert "the power is not known" in none.reason
    unsure = record.model_copy(update={"verdict": Verdict.INCONCLUSIVE})
    assert with_power(unsure, [control(Verdict.CLEAR)]).reason == record.reason


def test_too_little_to_plant_with_is_said(held: Held) -> None:
    assert held.trusted is not None
    few = Held(classifier=held.classifier, trusted=subset(held.trusted, np.arange(10)), notes=())
    plan = Plan(detectors=plugins("detectors", [QUICK]), false_alarm_rate=0.05)
    with pytest.raises(DataError, match="at least 20 trusted pictures"):
        plant_controls(few, plan, controls=1, seed=0, progress=silent)
    with pytest.raises(DataError, match="at least one control"):
        with_controls(0)
